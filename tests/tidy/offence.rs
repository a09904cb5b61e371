//! What a rule finds: where, and what is wrong there.

use std::fmt;

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offence {
    path: String,
    line: usize,
    message: String,
}

impl Offence {
    /// `line` counts from 1; 0 means the file as a whole.
    pub(crate) fn new(path: &str, line: usize, message: impl Into<String>) -> Offence {
        Offence { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Fails with the whole list, so that one run shows all there is to repair.
pub(crate) fn assert_none(mut offences: Vec<Offence>) {
    offences.sort();
    let list: Vec<String> = offences.iter().map(Offence::to_string).collect();
    assert!(list.is_empty(), "{} offence(s):\n{}", list.len(), list.join("\n"));
}

#[test]
#[should_panic(expected = "a.rs:3: too long")]
fn a_single_offence_fails() {
    assert_none(vec![Offence::new("a.rs", 3, "too long")]);
}

#[test]
fn no_offence_passes() {
    assert_none(Vec::new());
}
