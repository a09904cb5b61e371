//! How a child process tree ended.

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
    /// Killed by us for taking more than it may: what of, and how much that is.
    OverLimit(String),
    /// Killed by us for another reason: cancelled, drained, lease lost.
    Killed,
    /// Never ran; with what the system said.
    CouldNotStart(String),
    /// Never ran: the host had no room for a process; with what the system said.
    NoRoom(String),
    /// The guard that was its parent is gone, and so is how it ended.
    GuardLost,
}

impl ExitKind {
    /// True for code 0 only.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited(0))
    }

    /// True when the process ended by its own doing or at one of its limits, so that what it left
    /// behind may be judged. False when it says nothing about the work: killed by us, lost with
    /// the guard, or never started.
    pub fn is_conclusive(&self) -> bool {
        matches!(self, Self::Exited(_) | Self::Signaled(_) | Self::TimedOut | Self::OverLimit(_))
    }
}

impl fmt::Display for ExitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What shells answer (POSIX, Shell Command Language, 2.8.2).
            Self::Exited(126) => f.write_str("exit 126 (found but not executable)"),
            Self::Exited(127) => f.write_str("exit 127 (command not found)"),
            Self::Exited(code) => write!(f, "exit {code}"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
            Self::TimedOut => f.write_str("timeout"),
            Self::OverLimit(what) => write!(f, "over its limit: {what}"),
            Self::Killed => f.write_str("killed"),
            Self::CouldNotStart(why) => write!(f, "{COULD_NOT_START}: {why}"),
            Self::NoRoom(why) => write!(f, "no room for it: {why}"),
            Self::GuardLost => f.write_str("guard lost"),
        }
    }
}

/// Start of the text of [`ExitKind::CouldNotStart`].
pub(super) const COULD_NOT_START: &str = "could not start";
