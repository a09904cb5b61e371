//! What is asked of a history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use flyball_tests::history::{self, Answer, Event};

/// Judges; answers what it counted.
pub(crate) fn judge(path: &Path) -> Result<String, String> {
    let entries = history::read(path).map_err(|error| error.to_string())?;
    let mut wrong = Vec::new();
    let mut journals: BTreeMap<String, (i64, u64)> = BTreeMap::new();
    let mut dead: BTreeMap<String, i64> = BTreeMap::new();
    let (mut claims, mut bites, mut refused) = (0, 0, 0);
    let (mut wanted, mut ended) = (BTreeSet::new(), BTreeSet::new());
    for entry in &entries {
        match &entry.event {
            Event::Claimed { .. } => claims += 1,
            Event::Bite { .. } => bites += 1,
            Event::DeadBy { node, token_max } => {
                let latest = dead.entry(node.clone()).or_default();
                *latest = (*latest).max(*token_max);
            }
            Event::Alive { node, token, .. }
                if dead.get(node).is_some_and(|latest| token <= latest) =>
            {
                wrong.push(format!("alive after its deadline: {entry:?}"));
            }
            Event::Push { accepted: false, .. } => refused += 1,
            Event::Push { uid, token, sequence, .. } => {
                let last = journals.entry(uid.clone()).or_default();
                if *token < last.0 || *sequence != last.1 + 1 {
                    wrong.push(format!("after {last:?}: {entry:?}"));
                }
                *last = (*token, *sequence);
            }
            Event::Return { answer: Answer::Object { uid, .. }, .. } => {
                wanted.insert(uid.clone());
            }
            Event::Status { uid, phase, .. } => {
                if phase == "Converged" {
                    ended.insert(uid.clone());
                } else if ended.remove(uid) {
                    wrong.push(format!("an end changed: {entry:?}"));
                }
            }
            _ => {}
        }
    }
    let open: Vec<_> = wanted.difference(&ended).collect();
    if !open.is_empty() {
        wrong.push(format!("not ended: {open:?}"));
    }
    if wrong.is_empty() {
        return Ok(format!("{claims} claims, {bites} bites, {refused} refused pushes"));
    }
    wrong.truncate(20);
    Err(wrong.join("\n"))
}
