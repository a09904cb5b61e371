//! Scores: what a check's exit and output say, as a distance.
//!
//! A check counts between 0 (passed) and 1: without a score one of the two, with a score the share of
//! its cases that fail. Nothing counts as passed that was not seen to pass:
//! - The process must end with 0. If it does not, though no case fails, one failing case is added.
//! - A case once seen that is gone (deleted, renamed, ignored, not reached) fails, unless the check
//!   sets `allowRemoved`. What was seen is kept in a [`CaseMemory`].
//! - A case that both passed and failed failed.
//! - Passing cases that are new do not dilute the share of the failing ones: otherwise an agent would
//!   "improve" for ever by adding tests. They count from the next measurement on.
//! - With a score but no cases at all the exit decides, and all cases seen before are gone.
//!
//! The caller owns the memory. It passes a copy for a trial and keeps the copy only if it keeps the
//! trial: a reverted change leaves no cases behind. Output is text bounded by the caller; of an
//! output that was cut the missing cases count as gone, as nothing proves that they passed.

mod cases;
mod exit;
mod libtest;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::quantity::Distance;
use crate::record::{CaseCount, CheckResult, FAILING_CASES_MAX};
use crate::spec::{CheckSpec, Score};

pub use cases::{CASE_NAME_BYTES_MAX, CASES_MAX, CaseMemory};
pub use exit::ExitKind;
pub(crate) use pattern::one as compile_one;
pub use pattern::{InvalidPattern, Patterns, compile};

use cases::{Cases, Difference};

/// A check ready to be judged: the expressions of its score are compiled, which takes longer than most outputs to read.
#[derive(Debug, Clone)]
pub struct Judge {
    check: CheckSpec,
    reader: Reader,
}

/// What cases are read by.
#[derive(Debug, Clone)]
enum Reader {
    /// There are none: the exit decides.
    Exit,
    Libtest,
    Lines(Patterns),
    /// Validation refuses such a manifest; here it must at least not pass.
    Invalid(InvalidPattern),
}

impl Judge {
    /// Compiles what there is to compile.
    pub fn new(check: CheckSpec) -> Self {
        let reader = match &check.score {
            None => Reader::Exit,
            Some(Score::Libtest {}) => Reader::Libtest,
            Some(Score::Regex(score)) => match compile(score) {
                Ok(patterns) => Reader::Lines(patterns),
                Err(error) => Reader::Invalid(error),
            },
        };
        Self { check, reader }
    }

    /// The check.
    pub fn check(&self) -> &CheckSpec {
        &self.check
    }

    /// Judges the check by how its process ended and what it printed. `memory` gains the cases seen.
    /// Never fails and never panics, whatever the output. The duration is left to the caller.
    ///
    /// Ask [`ExitKind::is_conclusive`] first: a check that was killed from outside says nothing about the
    /// work and must be run again, not judged.
    pub fn evaluate(&self, exit: &ExitKind, output: &str, memory: &mut CaseMemory) -> CheckResult {
        let check = &self.check;
        let mut result = CheckResult {
            name: check.name.clone(),
            exit: match exit {
                ExitKind::TimedOut => format!("timeout after {}", check.timeout),
                other => other.to_string(),
            },
            ..CheckResult::default()
        };
        if matches!(exit, ExitKind::CouldNotStart(_)) {
            result.distance = Distance::ONE;
            return result;
        }
        let cases = match &self.reader {
            Reader::Exit => {
                result.passed = exit.is_success();
                result.distance = if result.passed { Distance::ZERO } else { Distance::ONE };
                return result;
            }
            Reader::Libtest => libtest::parse(output),
            Reader::Lines(patterns) => patterns.parse(output),
            Reader::Invalid(error) => {
                result.exit = format!("{}; {error}", result.exit);
                result.distance = Distance::ONE;
                return result;
            }
        };
        let difference = memory.update(&check.name, &cases);
        score(check, exit, &cases, &difference, &mut result);
        result
    }
}

fn score(
    check: &CheckSpec,
    exit: &ExitKind,
    cases: &Cases,
    difference: &Difference,
    result: &mut CheckResult,
) {
    let gone = if check.allow_removed { 0 } else { difference.gone };
    let mut failed = cases.failed_count().saturating_add(gone);
    let passed = cases.passed_count();
    result.failing_cases = failing_cases(cases, difference, gone);
    if !exit.is_success() && failed == 0 {
        failed = 1;
    }
    result.passed = failed == 0;
    result.cases = Some(CaseCount { passed, failed, vanished: difference.gone });
    let known = passed.saturating_sub(difference.new_passed);
    let total = known.saturating_add(failed);
    result.distance = if result.passed { Distance::ZERO } else { Distance::share(failed, total) };
}

fn failing_cases(cases: &Cases, difference: &Difference, gone: u64) -> Vec<String> {
    let mut names: BTreeSet<String> = cases.failed.iter().cloned().collect();
    if gone > 0 {
        let gone_names = difference.gone_names.iter();
        names.extend(gone_names.map(|name| format!("{name}{VANISHED}")));
        let nameless = gone.saturating_sub(difference.gone_names.len() as u64);
        if nameless > 0 {
            let noun = if nameless == 1 { "case" } else { "cases" };
            names.insert(format!("{nameless} {noun} seen before{VANISHED}"));
        }
    }
    names.into_iter().take(FAILING_CASES_MAX).collect()
}

/// The distance of a measurement: the sum over its checks.
pub fn distance(checks: &[CheckResult]) -> Distance {
    checks.iter().map(|check| check.distance).sum()
}

/// The names of the checks that fail.
pub fn failing(checks: &[CheckResult]) -> Vec<String> {
    checks.iter().filter(|check| !check.passed).map(|check| check.name.clone()).collect()
}

/// True for a check that never ran, which says nothing about the work.
pub fn could_not_start(check: &CheckResult) -> bool {
    check.exit.starts_with(exit::COULD_NOT_START)
}

/// Marks a failing case that was seen before and is gone.
const VANISHED: &str = " (vanished)";

/// A failing case's name without the mark that says that it vanished.
pub fn plain_case(case: &str) -> &str {
    case.strip_suffix(VANISHED).unwrap_or(case)
}

/// FNV-1a, 64 bits: stable over versions and machines, which `std`'s hasher is not. No protection
/// against chosen collisions; pins are what keeps an agent's hands off the tests.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
