//! What every history of a case must show: no violation, and effects.

use std::path::Path;

use flyball_tests::checker;

/// Judges a history and fails on anything that must not be. The verdict stays beside the history.
#[track_caller]
pub(crate) fn judge(path: &Path) {
    let lines = checker::read(path).expect("a history");
    let verdict = checker::judge(&lines);
    let said = verdict.to_string();
    std::fs::write(path.with_extension("verdict"), &said).expect("the verdict can be written");
    assert!(verdict.is_good(), "{said}");
    for what in ["faults", "bites", "accepted pushes", "signs of life", "secrets sought"] {
        assert!(verdict.judged.get(what).is_some_and(|count| *count > 0), "no {what}: {said}");
    }
}
