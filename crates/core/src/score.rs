//! Scores: what a check's output says, as a distance.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a child process tree ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExitKind {
    /// Ended by itself with this code.
    Exited(i32),
    /// Ended by a signal that was not ours.
    Signaled(i32),
    /// Killed by us at its time limit.
    TimedOut,
    /// Killed by us for another reason: cancelled, drained, lease lost.
    Killed,
    /// Never ran; with what the system said.
    CouldNotStart(String),
    /// The guard that was its parent is gone, and so is how it ended.
    GuardLost,
}

impl ExitKind {
    /// True for code 0 only.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited(0))
    }

    /// True when the process ended by its own doing or at its time limit, so that what it left
    /// behind may be judged. False when it says nothing about the work: killed by us, lost with
    /// the guard, or never started.
    pub fn is_conclusive(&self) -> bool {
        matches!(self, Self::Exited(_) | Self::Signaled(_) | Self::TimedOut)
    }
}

impl fmt::Display for ExitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit {code}"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
            Self::TimedOut => f.write_str("timeout"),
            Self::Killed => f.write_str("killed"),
            Self::CouldNotStart(why) => write!(f, "could not start: {why}"),
            Self::GuardLost => f.write_str("guard lost"),
        }
    }
}

/// Start of [`CheckResult::exit`](crate::record::CheckResult::exit) for a check that never ran.
const COULD_NOT_START: &str = "could not start";

/// True for a check that never ran, which says nothing about the work.
pub fn could_not_start(check: &crate::record::CheckResult) -> bool {
    check.exit.starts_with(COULD_NOT_START)
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
