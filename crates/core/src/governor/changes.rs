//! What a change fixed and what it broke, and signatures to recognise both again.

use std::collections::BTreeSet;

use crate::record::CheckResult;
use crate::score::{fnv1a, plain_case};

/// The difference between two measurements, by name: `check` or `check: case`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Failed before and pass now.
    pub fixed: Vec<String>,
    /// Passed before (or were not there) and fail now.
    pub broken: Vec<String>,
}

impl Changes {
    /// True when something was fixed at the price of something else.
    pub fn is_trade(&self) -> bool {
        !self.fixed.is_empty() && !self.broken.is_empty()
    }
}

/// Compares two measurements of the same checks. Where only one of them knows cases (the other did
/// not build, say), the check is compared as a whole. Where a list of failing cases was cut, only
/// names that both lists could have held are compared.
pub fn changes(before: &[CheckResult], after: &[CheckResult]) -> Changes {
    let mut found = Changes::default();
    for now in after {
        let Some(then) = before.iter().find(|check| check.name == now.name) else { continue };
        if then.failing_cases.is_empty() || now.failing_cases.is_empty() {
            whole_check(then, now, &mut found);
        } else {
            by_case(then, now, &mut found);
        }
    }
    found
}

fn whole_check(then: &CheckResult, now: &CheckResult, found: &mut Changes) {
    let named = |check: &CheckResult| match check.failing_cases.as_slice() {
        [] => vec![check.name.clone()],
        cases => cases.iter().map(|case| label(check, case)).collect(),
    };
    match (then.passed, now.passed) {
        (true, false) => found.broken.extend(named(now)),
        (false, true) => found.fixed.extend(named(then)),
        _ => {}
    }
}

fn by_case(then: &CheckResult, now: &CheckResult, found: &mut Changes) {
    let horizon = [then, now].into_iter().filter(|check| is_cut(check));
    let horizon = horizon.filter_map(|check| check.failing_cases.last()).min();
    let visible = |case: &&String| horizon.is_none_or(|last| *case <= last);
    let set = |check: &CheckResult| -> BTreeSet<String> {
        let cases = check.failing_cases.iter().filter(visible);
        cases.map(|case| label(check, case)).collect()
    };
    let (then, now) = (set(then), set(now));
    found.fixed.extend(then.difference(&now).cloned());
    found.broken.extend(now.difference(&then).cloned());
}

fn is_cut(check: &CheckResult) -> bool {
    check.cases.is_some_and(|cases| cases.failed > check.failing_cases.len() as u64)
}

fn label(check: &CheckResult, case: &str) -> String {
    format!("{}: {}", check.name, plain_case(case))
}

/// A number for what fails: equal for equal sets of failing checks and cases.
pub(super) fn signature(checks: &[CheckResult]) -> u32 {
    let mut failing: Vec<String> = Vec::new();
    for check in checks.iter().filter(|check| !check.passed) {
        let count = check.cases.map_or(0, |cases| cases.failed);
        failing.push(format!("{} {count}", check.name));
        failing.extend(check.failing_cases.iter().map(|case| label(check, case)));
    }
    failing.sort();
    short_hash(&failing.join("\n"))
}

/// Enough to tell the few dozen things apart that the memory holds; a collision would at worst damp
/// a loop for no reason.
pub(super) fn short_hash(text: &str) -> u32 {
    let hash = fnv1a(text.as_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "folded on purpose")]
    let folded = (hash ^ (hash >> 32)) as u32;
    folded
}
