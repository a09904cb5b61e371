//! Scores by regular expressions, applied line by line.

use regex::{Regex, RegexBuilder};

use super::cases::Cases;
use crate::spec::RegexScore;

/// Largest compiled expression, bytes. Matching is linear in any case; this bounds what a hostile
/// manifest makes the validating scheduler build.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A score whose expressions are valid.
#[derive(Debug, Clone)]
pub struct Patterns {
    pass: Regex,
    fail: Regex,
}

/// An expression that cannot be used. Not retryable: the manifest must change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the expression `{field}` of the score is invalid: {message}")]
pub struct InvalidPattern {
    /// `pass` or `fail`.
    pub field: &'static str,
    /// What is wrong with it, in one line.
    pub message: String,
}

/// Checks and compiles a score's expressions.
///
/// # Errors
/// [`InvalidPattern`] for one that is not valid or too large.
pub fn compile(score: &RegexScore) -> Result<Patterns, InvalidPattern> {
    Ok(Patterns { pass: one("pass", &score.pass)?, fail: one("fail", &score.fail)? })
}

/// Checks and compiles one expression; `field` says in the error which.
pub(crate) fn one(field: &'static str, text: &str) -> Result<Regex, InvalidPattern> {
    RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).build().map_err(|error| {
        // The library draws the expression with a caret; its last line says what is wrong.
        let all = error.to_string();
        let last = all.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let message = last.trim().trim_start_matches("error: ").to_owned();
        InvalidPattern { field, message }
    })
}

impl Patterns {
    /// Every line that matches is a case: failed if `fail` matches, else passed if `pass` does. The
    /// group `name` says which case it is; without it cases are only counted.
    pub(super) fn parse(&self, output: &str) -> Cases {
        let mut cases = Cases::default();
        for line in output.lines() {
            let (found, passed) = match self.fail.captures(line) {
                Some(found) => (found, false),
                None => match self.pass.captures(line) {
                    Some(found) => (found, true),
                    None => continue,
                },
            };
            let name = found.name("name").map(|name| name.as_str().trim());
            match name.filter(|name| !name.is_empty()) {
                Some(name) => cases.add(name, passed),
                None => cases.add_nameless(u64::from(passed), u64::from(!passed)),
            }
        }
        cases
    }
}
