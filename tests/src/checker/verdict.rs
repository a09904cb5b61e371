//! What the checker says.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// What can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Invariant {
    /// Tokens that are accepted per journal and resource never go down.
    I1,
    /// Nothing of a run is alive when it must be dead.
    I2,
    /// What was acknowledged is not lost and does not change.
    I3,
    /// What can end does end.
    I4,
    /// One owner at a time, in the store's own order.
    I5,
    /// Secrets stay where they belong: out of the sandbox, its output, logs, spans and the store in clear.
    I6,
    /// Clients see one copy of every loop.
    Linearizable,
    /// The history can be judged and proves something.
    Sanity,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// What is broken.
    pub invariant: Invariant,
    /// Numbers of the lines that prove it.
    pub lines: Vec<usize>,
    /// In plain words.
    pub message: String,
}

/// Most violations that are listed per invariant; one bug can break every line of a history, and the
/// first lines are those that help.
pub const LISTED_MAX: usize = 50;

/// What the checker says of a history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What is wrong; at most [`LISTED_MAX`] per invariant.
    pub violations: Vec<Violation>,
    /// How many there are of each, listed or not.
    pub totals: BTreeMap<String, usize>,
    /// What was judged, and how much of it.
    pub judged: BTreeMap<&'static str, usize>,
}

impl Verdict {
    /// True when nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.totals.is_empty()
    }

    /// Violations of an invariant.
    pub fn of(&self, invariant: Invariant) -> usize {
        self.totals.get(&invariant.to_string()).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, invariant: Invariant, lines: &[usize], message: String) {
        let total = self.totals.entry(invariant.to_string()).or_default();
        *total += 1;
        if *total <= LISTED_MAX {
            self.violations.push(Violation { invariant, lines: lines.to_vec(), message });
        }
    }

    pub(super) fn count(&mut self, what: &'static str, number: usize) {
        *self.judged.entry(what).or_default() += number;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Violation { invariant, lines, message } in &self.violations {
            let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
            writeln!(f, "{invariant}, lines {}: {message}", lines.join(", "))?;
        }
        for (invariant, total) in self.totals.iter().filter(|(_, total)| **total > LISTED_MAX) {
            writeln!(f, "{invariant}: {} more", total - LISTED_MAX)?;
        }
        let judged: Vec<String> =
            self.judged.iter().map(|(what, n)| format!("{n} {what}")).collect();
        let verdict = if self.is_good() { "no violation" } else { "VIOLATED" };
        write!(f, "{verdict}; judged: {}", judged.join(", "))
    }
}
