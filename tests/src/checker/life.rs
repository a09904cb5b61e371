//! I2: nothing of a run is alive when its node's time is over, nor after its end was reported as proven;
//! and nothing runs without a claim.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::lines::Line;
use super::verdict::{Invariant, Verdict};
use crate::history::Event;

pub(super) fn judge(lines: &[Line], facts: &Facts<'_>, verdict: &mut Verdict) {
    let released = released(facts);
    verdict.count("proven ends", released.len());
    // Of each node: tokens up to which everything must be dead, with line and time.
    let mut dead: BTreeMap<&str, (i64, &Line)> = BTreeMap::new();
    for line in lines {
        match &line.event {
            Event::DeadBy { node, token_max } => {
                verdict.count("deadlines", 1);
                let known = dead.entry(node).or_insert((*token_max, line));
                if known.0 < *token_max {
                    *known = (*token_max, line);
                }
            }
            Event::Alive { uid, token, node, pid } => {
                verdict.count("signs of life", 1);
                let late = dead.get(node.as_str());
                let late = late.filter(|(max, by)| token <= max && by.at_us < line.at_us);
                if let Some((_, by)) = late {
                    let message = format!(
                        "process {pid} of loop {uid}, token {token}, was alive on {node} {} ms after everything up to that token had to be dead",
                        (line.at_us - by.at_us) / 1000
                    );
                    verdict.add(Invariant::I2, &[by.number, line.number], message);
                }
                let end = released.get(&(uid.as_str(), *token));
                if let Some(end) = end.filter(|end| end.at_us < line.at_us) {
                    let message = format!(
                        "process {pid} of loop {uid}, token {token}, was alive on {node} {} ms after the run had been reported as ended and its claim released",
                        (line.at_us - end.at_us) / 1000
                    );
                    verdict.add(Invariant::I2, &[end.number, line.number], message);
                }
                owned(facts, line, verdict);
            }
            _ => {}
        }
    }
}

/// A sign of life must be of a run that the store gave to this loop on this node.
fn owned(facts: &Facts<'_>, line: &Line, verdict: &mut Verdict) {
    let Event::Alive { uid, token, node, pid } = &line.event else { return };
    let claim = facts.given(uid, *token).map(|id| &facts.claims[id]);
    match claim {
        Some(claim) if claim.node == *node => {}
        Some(claim) => {
            let message = format!(
                "process {pid} of loop {uid} ran on {node} with token {token}, which the store gave to {}",
                claim.node
            );
            verdict.add(Invariant::I5, &[claim.line, line.number], message);
        }
        None => {
            let message = format!(
                "process {pid} of loop {uid} ran on {node} with token {token}, which the store never gave to it"
            );
            verdict.add(Invariant::I5, &[line.number], message);
        }
    }
}

/// Ends that were reported as proven, by loop and token: claim and status changed in one transaction, so
/// it was no loss, and the status does not list the run as unproven.
fn released<'a>(facts: &Facts<'a>) -> BTreeMap<(&'a str, i64), &'a Line> {
    let mut released = BTreeMap::new();
    // The changes are in the order of revisions, so those of one transaction are neighbours.
    let same = |a: &super::facts::Change<'_>, b: &super::facts::Change<'_>| {
        (a.epoch, a.revision) == (b.epoch, b.revision)
    };
    for at_once in facts.changes.chunk_by(same) {
        let mut statuses = BTreeMap::new();
        for change in at_once {
            if let Event::Status { key, uid, unsealed, .. } = &change.line.event {
                statuses.insert(key, (uid, unsealed));
            }
        }
        for change in at_once {
            let Event::Unclaimed { key, token, .. } = &change.line.event else { continue };
            if let Some((uid, _)) = statuses.get(key).filter(|it| !it.1.contains(token)) {
                released.insert((uid.as_str(), *token), change.line);
            }
        }
    }
    released
}
