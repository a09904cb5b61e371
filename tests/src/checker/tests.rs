//! For every rule one history that keeps it and one that breaks it: the checker must be able to fail.

mod build;
mod clients;
mod effects;
mod journal;
mod secrets;
mod store;
mod whole;

use super::{Invariant, Verdict};
use build::History;

/// Asserts that nothing is wrong.
#[track_caller]
fn good(history: History) -> Verdict {
    let verdict = history.judge();
    assert!(verdict.is_good(), "{verdict}");
    verdict
}

/// Asserts that exactly this is wrong, in one place, and that the message says it.
#[track_caller]
fn bad(history: History, invariant: Invariant, says: &str) {
    let verdict = history.judge();
    let found: Vec<_> = verdict.violations.iter().map(|it| it.invariant).collect();
    assert_eq!(found, [invariant], "{verdict}");
    let violation = &verdict.violations[0];
    assert!(violation.message.contains(says), "{verdict}");
    assert!(!violation.lines.is_empty() || invariant == Invariant::Sanity, "{verdict}");
}
