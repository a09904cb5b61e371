//! I3: a loop whose submission was acknowledged stays, there is one of it, and an end that was
//! acknowledged or stored stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::lines::Line;
use super::verdict::{Invariant, Verdict};
use crate::history::{Answer, Call, Event};

/// True for phases that end a loop.
pub(super) fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Converged" | "Unreachable" | "Exhausted" | "Failed" | "Cancelled")
}

/// What is known of a loop name.
#[derive(Default)]
struct Name<'a> {
    /// Deletes that may have been done, by line.
    deletes: Vec<usize>,
    /// Identities seen under it, with the first line of each.
    uids: BTreeMap<&'a str, usize>,
    /// First acknowledgement of a submission.
    acknowledged: Option<&'a Line>,
}

/// Of a loop.
#[derive(Default)]
struct Known<'a> {
    /// First acknowledgement: loop name, generation, line, time.
    acknowledged: Option<(&'a str, u64, &'a Line)>,
    /// Last sight of it.
    seen_at_us: u64,
    /// By generation, the end that a client was told of first: phase, result, line.
    told: BTreeMap<u64, (&'a str, &'a str, &'a Line)>,
    /// Ends in the store.
    stored: BTreeSet<(&'a str, &'a str)>,
    /// True if the store's statuses of it were recorded.
    in_store: bool,
    /// True if its end is in the store's last status.
    over: bool,
}

#[derive(Default)]
struct Results<'a> {
    names: BTreeMap<&'a str, Name<'a>>,
    loops: BTreeMap<&'a str, Known<'a>>,
    /// Calls under way or answered: call and line of the invocation.
    calls: BTreeMap<u64, (&'a Call, &'a Line)>,
}

pub(super) fn judge<'a>(lines: &'a [Line], facts: &Facts<'a>, verdict: &mut Verdict) {
    let mut results = Results::default();
    results.statuses(facts, verdict);
    for line in lines {
        match &line.event {
            Event::Invoke { op, call, .. } => {
                results.calls.insert(*op, (call, line));
                if let Call::Delete { key } = call {
                    results.names.entry(key).or_default().deletes.push(line.number);
                }
            }
            Event::Return { op, answer } => results.answer(*op, answer, line, verdict),
            _ => {}
        }
    }
    results.at_the_end(verdict);
}

impl<'a> Results<'a> {
    /// The store's own order of statuses.
    fn statuses(&mut self, facts: &Facts<'a>, verdict: &mut Verdict) {
        // By loop, the last status: epoch, generation, phase, result, line.
        let mut last: BTreeMap<&str, (usize, u64, &str, &str, usize)> = BTreeMap::new();
        for change in &facts.changes {
            let (key, uid) = match &change.line.event {
                Event::Status { key, uid, .. } | Event::Claimed { key, uid, .. } => (key, uid),
                _ => continue,
            };
            let name = self.names.entry(key).or_default();
            name.uids.entry(uid).or_insert(change.line.number);
            let Event::Status { generation, phase, result, .. } = &change.line.event else {
                continue;
            };
            verdict.count("statuses", 1);
            let now =
                (change.epoch, *generation, phase.as_str(), result.as_str(), change.line.number);
            if let Some(before) = last.insert(uid, now).filter(|before| before.0 == change.epoch) {
                changed(key, before, now, verdict);
            }
            let known = self.loops.entry(uid).or_default();
            known.in_store = true;
            known.seen_at_us = known.seen_at_us.max(change.line.at_us);
            known.over = is_terminal(phase);
            if known.over {
                known.stored.insert((phase, result));
            }
        }
    }

    fn answer(&mut self, op: u64, answer: &'a Answer, line: &'a Line, verdict: &mut Verdict) {
        let Some((call, invoked)) = self.calls.get(&op).copied() else { return };
        let (Call::Apply { key, .. }
        | Call::Get { key }
        | Call::Cancel { key }
        | Call::Delete { key }) = call;
        match answer {
            Answer::Object { uid, generation, phase, result, .. } if !uid.is_empty() => {
                let name = self.names.entry(key).or_default();
                name.uids.entry(uid).or_insert(line.number);
                let known = self.loops.entry(uid).or_default();
                known.seen_at_us = known.seen_at_us.max(invoked.at_us);
                if matches!(call, Call::Apply { .. }) {
                    verdict.count("acknowledged submissions", 1);
                    known.acknowledged.get_or_insert((key, *generation, line));
                    name.acknowledged.get_or_insert(line);
                }
                told(known, (key, *generation, phase, result), (invoked, line), verdict);
            }
            Answer::NotFound => self.not_found(key, invoked, line, verdict),
            _ => {}
        }
    }

    /// A loop that was acknowledged is there, unless somebody asked to delete it.
    fn not_found(&mut self, key: &str, invoked: &Line, line: &Line, verdict: &mut Verdict) {
        let name = self.names.get(key).filter(|name| name.deletes.is_empty());
        let acknowledged = name.and_then(|name| name.acknowledged);
        if let Some(at) = acknowledged.filter(|at| at.at_us < invoked.at_us) {
            let message =
                format!("{key} was acknowledged, nobody deleted it, and it was not found");
            verdict.add(Invariant::I3, &[at.number, line.number], message);
        }
    }

    fn at_the_end(self, verdict: &mut Verdict) {
        for (key, name) in &self.names {
            if name.uids.len() > 1 + name.deletes.len() {
                let lines: Vec<usize> = name.uids.values().copied().collect();
                let message = format!(
                    "{} loops were made under the name {key}, with {} deletes: a retry made a second one",
                    name.uids.len(),
                    name.deletes.len()
                );
                verdict.add(Invariant::I3, &lines, message);
            }
        }
        for (uid, known) in &self.loops {
            let Some((key, generation, at)) = known.acknowledged else { continue };
            let deleted = self.names.get(key).is_some_and(|name| !name.deletes.is_empty());
            if !deleted && !known.over && known.seen_at_us <= at.at_us {
                let message = format!(
                    "{key} ({uid}, generation {generation}) was acknowledged and never seen again"
                );
                verdict.add(Invariant::I3, &[at.number], message);
            }
            for (phase, result, line) in known.told.values().filter(|_| known.in_store) {
                if !known.stored.contains(&(*phase, *result)) {
                    let message = format!(
                        "a client was told that {key} ended as {phase} with result {result:?}, which the store never had"
                    );
                    verdict.add(Invariant::I3, &[line.number], message);
                }
            }
        }
    }
}

/// Compares a status with the one before it.
fn changed(
    key: &str,
    before: (usize, u64, &str, &str, usize),
    now: (usize, u64, &str, &str, usize),
    verdict: &mut Verdict,
) {
    let lines = [before.4, now.4];
    if now.1 < before.1 {
        let message =
            format!("the status of {key} went from generation {} back to {}", before.1, now.1);
        verdict.add(Invariant::I3, &lines, message);
    }
    if now.1 == before.1 && is_terminal(before.2) && (before.2, before.3) != (now.2, now.3) {
        let message = format!(
            "the end of {key} changed in the store from {} with result {:?} to {} with result {:?}",
            before.2, before.3, now.2, now.3
        );
        verdict.add(Invariant::I3, &lines, message);
    }
}

/// Compares what a client is told with the end that one was told of before this call was made.
fn told<'a>(
    known: &mut Known<'a>,
    (key, generation, phase, result): (&str, u64, &'a str, &'a str),
    (invoked, line): (&Line, &'a Line),
    verdict: &mut Verdict,
) {
    if let Some((old_phase, old_result, at)) = known.told.get(&generation)
        && at.at_us <= invoked.at_us
        && (*old_phase, *old_result) != (phase, result)
    {
        let message = format!(
            "a client was told that {key} had ended as {old_phase} with result {old_result:?}, and later that it is {phase} with result {result:?}"
        );
        verdict.add(Invariant::I3, &[at.number, line.number], message);
    }
    if is_terminal(phase) && !known.told.contains_key(&generation) {
        verdict.count("acknowledged ends", 1);
        known.told.insert(generation, (phase, result, line));
    }
}
