//! What every history of a case must show, beside what its checker judges.

use std::collections::BTreeMap;
use std::path::Path;

use flyball_tests::history::{self, Event};

/// Reads a history and fails on the first thing that must not be.
#[track_caller]
pub(crate) fn judge(path: &Path) {
    let entries = history::read(path).expect("a history");
    let mut faults = 0;
    let mut owners: BTreeMap<String, u32> = BTreeMap::new();
    let mut journals: BTreeMap<(String, String), (i64, u64)> = BTreeMap::new();
    let mut dead: BTreeMap<String, i64> = BTreeMap::new();
    let mut pushes = 0;
    for entry in &entries {
        match &entry.event {
            Event::FaultBegins { .. } => faults += 1,
            Event::Claimed { key, .. } => *owners.entry(key.clone()).or_default() += 1,
            Event::DeadBy { node, token_max } => {
                let latest = dead.entry(node.clone()).or_default();
                *latest = (*latest).max(*token_max);
            }
            Event::Alive { node, token, .. } => {
                let too_late = dead.get(node).is_some_and(|latest| token <= latest);
                assert!(!too_late, "alive after its deadline: {entry:?}");
            }
            Event::Push { repo, uid, token, sequence, accepted: true, .. } => {
                pushes += 1;
                let last = journals.entry((repo.clone(), uid.clone())).or_default();
                assert!(
                    *token >= last.0,
                    "an older token was accepted after {}: {entry:?}",
                    last.0
                );
                assert_eq!(*sequence, last.1 + 1, "a record is missing: {entry:?}");
                *last = (*token, *sequence);
            }
            _ => {}
        }
    }
    assert!(faults > 0, "the history has no fault");
    assert!(pushes > 0, "the history has no effects");
    assert!(owners.values().any(|count| *count > 1), "no owner changed: {owners:?}");
}
