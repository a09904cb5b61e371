//! What is asked of a history: the checker's verdict.

use std::fmt::Write as _;
use std::path::Path;

use flyball_tests::checker;

/// Violations that are shown.
const SHOWN: usize = 12;

/// A history in which nothing is wrong.
pub(crate) struct Good {
    /// What was judged.
    pub(crate) told: String,
    /// Whether a fault bit and owners changed; a history without proves nothing.
    pub(crate) proves: bool,
}

/// Judges a history.
pub(crate) fn judge(path: &Path) -> Result<Good, String> {
    let lines = checker::read(path).map_err(|error| error.to_string())?;
    let verdict = checker::judge(&lines);
    // What a seed draws may miss everything; the caller sees to it that some seed does not.
    let tame = |violation: &checker::Violation| {
        violation.invariant == checker::Invariant::Sanity
            && violation.message.ends_with("proves nothing")
    };
    if verdict.violations.iter().all(tame) {
        let told = [
            "claims",
            "changes of owner",
            "changes of the leader",
            "refused pushes",
            "deadlines",
            "bites",
        ];
        let told =
            told.iter().filter_map(|what| Some(format!("{} {what}", verdict.judged.get(what)?)));
        let told = told.collect::<Vec<_>>().join(", ");
        return Ok(Good { told, proves: verdict.violations.is_empty() });
    }
    let mut text = format!("{:?}", verdict.totals);
    for violation in verdict.violations.iter().take(SHOWN) {
        let _ =
            write!(text, "\n{} {:?} {}", violation.invariant, violation.lines, violation.message);
    }
    Err(text)
}
