//! I1 and I3 at a loop's own journal: a run seals it before anything of it is at work, and what the store calls the
//! loop's result has a record there. Loops without any accepted push are not judged: they may have no repository.

use std::collections::{BTreeMap, BTreeSet};

use super::lines::Line;
use super::results::is_terminal;
use super::verdict::{Invariant, Verdict};
use crate::history::Event;

/// The record of a run's seal, its first.
const TAKEOVER: &str = "takeover";
/// The record that a result's push leaves.
const PUBLISHED: &str = "published";

/// What journals of a history hold in the end.
#[derive(Default)]
struct Journals<'a> {
    /// Loops with a journal.
    known: BTreeSet<&'a str>,
    /// Loops with a record of a result.
    published: BTreeSet<&'a str>,
}

pub(super) fn judge(lines: &[Line], verdict: &mut Verdict) {
    let mut journals = Journals::default();
    for (uid, record, _) in lines.iter().filter_map(accepted) {
        journals.known.insert(uid);
        if record == PUBLISHED {
            journals.published.insert(uid);
        }
    }
    sealed_before_work(lines, &journals, verdict);
    for line in lines {
        let Event::Status { key, uid, phase, result, .. } = &line.event else { continue };
        let recorded = journals.published.contains(uid.as_str());
        let is_result = is_terminal(phase) && !result.is_empty();
        if is_result && journals.known.contains(uid.as_str()) && !recorded {
            let message = format!(
                "{key} ended as {phase} with result {result:?}, and no record in its journal says that anything was published"
            );
            verdict.add(Invariant::I3, &[line.number], message);
        }
    }
}

/// Loop, kind of the record and token of a push that was taken.
fn accepted(line: &Line) -> Option<(&str, &str, i64)> {
    match &line.event {
        Event::Push { uid, token, record, accepted: true, .. } => Some((uid, record, *token)),
        _ => None,
    }
}

/// Before the seal nothing shuts the owner before out; each run is told once.
fn sealed_before_work(lines: &[Line], journals: &Journals<'_>, verdict: &mut Verdict) {
    let mut sealed: BTreeSet<(&str, i64)> = BTreeSet::new();
    let mut early: BTreeMap<(&str, i64), usize> = BTreeMap::new();
    for line in lines {
        if let Some((uid, TAKEOVER, token)) = accepted(line) {
            sealed.insert((uid, token));
        }
        let Event::Alive { uid, token, .. } = &line.event else { continue };
        let run = (uid.as_str(), *token);
        if journals.known.contains(run.0) && !sealed.contains(&run) {
            early.entry(run).or_insert(line.number);
        }
    }
    for ((uid, token), line) in early {
        let message = format!(
            "loop {uid} was at work under token {token} before it had sealed its journal with it"
        );
        verdict.add(Invariant::I1, &[line], message);
    }
}
