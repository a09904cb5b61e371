//! I4: every loop that can end has ended within its bound after the last fault.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::lines::Line;
use super::results::is_terminal;
use super::verdict::{Invariant, Verdict};
use crate::history::{Answer, Call, Event};

/// Of a loop name.
#[derive(Default)]
struct Progress {
    /// Line that first tells of it.
    line: usize,
    /// When it was last wished for, microseconds.
    wanted_at_us: u64,
    /// Since when it is over, without a break.
    over_since_us: Option<u64>,
    phase: String,
    deleted: bool,
}

pub(super) fn judge(lines: &[Line], facts: &Facts<'_>, settle_ms: u64, verdict: &mut Verdict) {
    let ends = lines.iter().filter(|line| matches!(line.event, Event::FaultEnds { .. }));
    let calm_us = ends.map(|line| line.at_us).max().unwrap_or(0);
    let unfinished: BTreeSet<&str> = lines
        .iter()
        .filter_map(|line| match &line.event {
            Event::End { unfinished } => Some(unfinished.iter().map(String::as_str)),
            _ => None,
        })
        .flatten()
        .collect();
    let loops = progress(lines, facts);
    for (key, progress) in loops {
        if unfinished.contains(key) || progress.deleted {
            continue;
        }
        verdict.count("loops that had to end", 1);
        let due_us = calm_us.max(progress.wanted_at_us).saturating_add(settle_ms * 1000);
        let message = match progress.over_since_us {
            Some(at_us) if at_us <= due_us => continue,
            Some(at_us) => format!(
                "{key} ended {} ms after its bound of {settle_ms} ms after the last fault",
                (at_us - due_us) / 1000
            ),
            None => {
                format!("{key} never ended, though nothing hinders it; it is {}", progress.phase)
            }
        };
        verdict.add(Invariant::I4, &[progress.line], message);
    }
}

fn progress<'a>(lines: &'a [Line], facts: &Facts<'a>) -> BTreeMap<&'a str, Progress> {
    let mut loops: BTreeMap<&str, Progress> = BTreeMap::new();
    let mut calls: BTreeMap<u64, &Call> = BTreeMap::new();
    for change in &facts.changes {
        let Event::Status { key, phase, .. } = &change.line.event else { continue };
        let progress = loops.entry(key).or_default();
        seen(progress, phase, change.line);
    }
    for line in lines {
        match &line.event {
            Event::Invoke { op, call, .. } => {
                if let Call::Delete { key } = call {
                    loops.entry(key).or_default().deleted = true;
                }
                calls.insert(*op, call);
            }
            Event::Return { op, answer: Answer::Object { phase, .. } } => match calls.get(op) {
                Some(Call::Apply { key, .. }) => {
                    let progress = loops.entry(key).or_default();
                    progress.wanted_at_us = line.at_us;
                    if progress.line == 0 {
                        seen(progress, phase, line);
                    }
                }
                // Where the store's statuses were not recorded, clients' answers have to do.
                Some(Call::Get { key }) => {
                    let progress = loops.entry(key).or_default();
                    if progress.over_since_us.is_none() {
                        seen(progress, phase, line);
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
    loops
}

fn seen(progress: &mut Progress, phase: &str, line: &Line) {
    progress.line = line.number;
    phase.clone_into(&mut progress.phase);
    progress.over_since_us =
        is_terminal(phase).then(|| progress.over_since_us.unwrap_or(line.at_us));
}
