//! Whether a history can be judged and proves something: one in which nothing happened is an error.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{ClaimId, Facts};
use super::lines::Line;
use super::resources::PatternId;
use super::verdict::{Invariant, Verdict};
use crate::history::Event;

pub(super) fn judge(lines: &[Line], facts: &mut Facts<'_>, verdict: &mut Verdict) {
    let scenario = frame(lines, verdict);
    calls(lines, verdict);
    for line in &facts.unreadable {
        let message = "the set has an entry without a scheme".to_owned();
        verdict.add(Invariant::Sanity, &[*line], message);
    }
    let faults = faults(lines, verdict);
    let bites = lines.iter().filter(|line| matches!(line.event, Event::Bite { .. })).count();
    let changes = ownership_changes(facts);
    verdict.count("faults", faults);
    verdict.count("bites", bites);
    verdict.count("changes of owner", changes);
    if !is_fault(scenario.as_deref().unwrap_or_default()) {
        return;
    }
    for (number, what) in
        [(faults, "fault"), (bites, "sign that a fault bit"), (changes, "change of owner")]
    {
        if number == 0 {
            let message = format!("there is no {what}: the history proves nothing");
            verdict.add(Invariant::Sanity, &[], message);
        }
    }
}

/// Scenarios with faults: `F` and a number, or named `soak` or `sim`.
fn is_fault(scenario: &str) -> bool {
    let numbered = scenario
        .strip_prefix('F')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    numbered || scenario.starts_with("soak") || scenario.starts_with("sim")
}

/// First and last line. Returns the scenario's name.
fn frame(lines: &[Line], verdict: &mut Verdict) -> Option<String> {
    let at = |wanted: fn(&Event) -> bool| -> Vec<usize> {
        lines.iter().enumerate().filter(|(_, line)| wanted(&line.event)).map(|(at, _)| at).collect()
    };
    let starts = at(|event| matches!(event, Event::Start { .. }));
    let ends = at(|event| matches!(event, Event::End { .. }));
    if starts != [0] {
        let message = format!("there are {} starts, and one has to be first", starts.len());
        verdict.add(Invariant::Sanity, &[], message);
    }
    if ends != [lines.len().saturating_sub(1)] || lines.is_empty() {
        let message = format!(
            "there are {} ends, and one has to be last: the history may be cut off",
            ends.len()
        );
        verdict.add(Invariant::Sanity, &[], message);
    }
    starts.first().and_then(|at| match &lines[*at].event {
        Event::Start { scenario, .. } => Some(scenario.clone()),
        _ => None,
    })
}

/// Invocations and returns fit each other, and a client waits for its answer.
fn calls(lines: &[Line], verdict: &mut Verdict) {
    let mut known: BTreeMap<u64, (&str, bool)> = BTreeMap::new();
    let mut busy: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for line in lines {
        match &line.event {
            Event::Invoke { op, client, .. } => {
                if known.insert(*op, (client, false)).is_some() {
                    let message = format!("operation {op} is invoked twice");
                    verdict.add(Invariant::Sanity, &[line.number], message);
                }
                if let Some((_, before)) = busy.insert(client, (*op, line.number)) {
                    let message = format!("client {client} has two calls under way");
                    verdict.add(Invariant::Sanity, &[before, line.number], message);
                }
            }
            Event::Return { op, .. } => match known.get_mut(op) {
                Some((client, returned)) if !*returned => {
                    *returned = true;
                    if busy.get(client).is_some_and(|(under_way, _)| under_way == op) {
                        busy.remove(client);
                    }
                }
                _ => {
                    let message = format!("operation {op} returns without a call under way");
                    verdict.add(Invariant::Sanity, &[line.number], message);
                }
            },
            _ => {}
        }
    }
}

/// Number of faults; each has to end, or nobody knows when things have to be well again.
fn faults(lines: &[Line], verdict: &mut Verdict) -> usize {
    let mut begun: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut count = 0;
    for line in lines {
        match &line.event {
            Event::FaultBegins { fault } => {
                count += 1;
                begun.entry(fault).or_default().push(line.number);
            }
            Event::FaultEnds { fault }
                if begun.get_mut(fault.as_str()).and_then(Vec::pop).is_none() =>
            {
                let message = format!("the fault {fault} ends without having begun");
                verdict.add(Invariant::Sanity, &[line.number], message);
            }
            _ => {}
        }
    }
    for (fault, lines) in begun.iter().filter(|(_, lines)| !lines.is_empty()) {
        let message =
            format!("the fault {fault} never ends: the bound on recovery has no beginning");
        verdict.add(Invariant::Sanity, lines, message);
    }
    count
}

/// How often a loop was claimed again, or a resource by another claim, whatever each calls it.
fn ownership_changes(facts: &mut Facts<'_>) -> usize {
    let mut owners: BTreeMap<PatternId, BTreeSet<ClaimId>> = BTreeMap::new();
    let mut loops: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    let Facts { claims, patterns, .. } = facts;
    for (id, claim) in claims.iter().enumerate() {
        loops.entry(claim.key.as_str()).or_default().insert(claim.token);
        for held in claim.set.iter().filter(|held| !held.shared) {
            owners.entry(held.pattern).or_default().insert(id);
        }
    }
    let of_resources = owners.keys().map(|pattern| {
        let near = patterns.overlapping(*pattern).iter().filter_map(|near| owners.get(near));
        near.flatten().collect::<BTreeSet<_>>().len()
    });
    let of_loops = loops.values().map(BTreeSet::len);
    of_resources.chain(of_loops).map(|owners| owners - 1).max().unwrap_or(0)
}
