//! Bugs that can be planted for control runs: each takes one protection away, so that the suites can
//! show that they notice. A suite that stays green with a planted bug proves nothing.
//!
//! The feature `planted-bugs` is on only in builds for tests. Without it [`is`] is always false and
//! nothing of this is in the program. With it, `FLYBALL_PLANT` names the bugs, separated by commas.

use std::fmt;
use std::str::FromStr;

/// A protection that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// The lease's deadline counts from the answer's receipt, not from the heartbeat's send.
    DeadlineFromReceipt,
    /// An answer that comes after the deadline revives ownership.
    LateAnswerRevives,
    /// A scheduler answers heartbeats with an earlier renewal's result.
    RenewalFromCache,
    /// A new owner starts without sealing the journal.
    NoSeal,
    /// A push does not append to the journal.
    JournalNotMoved,
    /// A seal refuses an equal token only, not a later one.
    TokenWithoutOrder,
    /// A loop does not seal the unproven runs of other loops whose sets overlap its own.
    UnsealedIgnored,
    /// The seal duties of loops that are gone are kept, and carried by nobody.
    DutyIgnored,
    /// A loop that is removed takes its seal duty along.
    DutyDropped,
    /// A commit whose answer was lost is taken as not applied.
    NoReadBack,
    /// A leader's writes do not compare its leadership key.
    LeaderUnfenced,
    /// A new leader places from what it knew before, or from a list older than its leadership.
    StaleList,
    /// An assignment compares only the first owner key of its set.
    ClaimNotAtomic,
    /// Resource sets conflict only where the names of entries are equal.
    OverlapByName,
    /// A run's end is reported before its processes are gone.
    ReleaseBeforeGone,
    /// Processes are killed only by their parent's death, not at the deadline and not as a tree.
    ParentDeathOnly,
    /// A guard does not act on its worker's end, only on the deadline.
    WorkersEndIgnored,
    /// Heartbeats share the runtime of the worker's other tasks.
    KeepaliveStarved,
    /// A step is given all of its worker's environment.
    EnvironmentInherited,
}

impl Bug {
    /// Every bug, in the order of the documentation.
    pub const ALL: [Self; 19] = [
        Self::DeadlineFromReceipt,
        Self::LateAnswerRevives,
        Self::RenewalFromCache,
        Self::NoSeal,
        Self::JournalNotMoved,
        Self::TokenWithoutOrder,
        Self::UnsealedIgnored,
        Self::DutyIgnored,
        Self::DutyDropped,
        Self::NoReadBack,
        Self::LeaderUnfenced,
        Self::StaleList,
        Self::ClaimNotAtomic,
        Self::OverlapByName,
        Self::ReleaseBeforeGone,
        Self::ParentDeathOnly,
        Self::WorkersEndIgnored,
        Self::KeepaliveStarved,
        Self::EnvironmentInherited,
    ];

    /// The name in `FLYBALL_PLANT` and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeadlineFromReceipt => "deadline-from-receipt",
            Self::LateAnswerRevives => "late-answer-revives",
            Self::RenewalFromCache => "renewal-from-cache",
            Self::NoSeal => "no-seal",
            Self::JournalNotMoved => "journal-not-moved",
            Self::TokenWithoutOrder => "token-without-order",
            Self::UnsealedIgnored => "unsealed-ignored",
            Self::DutyIgnored => "duty-ignored",
            Self::DutyDropped => "duty-dropped",
            Self::NoReadBack => "no-read-back",
            Self::LeaderUnfenced => "leader-unfenced",
            Self::StaleList => "stale-list",
            Self::ClaimNotAtomic => "claim-not-atomic",
            Self::OverlapByName => "overlap-by-name",
            Self::ReleaseBeforeGone => "release-before-gone",
            Self::ParentDeathOnly => "parent-death-only",
            Self::WorkersEndIgnored => "workers-end-ignored",
            Self::KeepaliveStarved => "keepalive-starved",
            Self::EnvironmentInherited => "environment-inherited",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No bug has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no bug is named {0:?}")]
pub struct UnknownBug(pub String);

impl FromStr for Bug {
    type Err = UnknownBug;

    fn from_str(name: &str) -> Result<Self, UnknownBug> {
        Self::ALL
            .into_iter()
            .find(|bug| bug.name() == name)
            .ok_or_else(|| UnknownBug(name.to_owned()))
    }
}

/// Whether this build can plant bugs at all. Never true in a shipped program.
pub const POSSIBLE: bool = cfg!(feature = "planted-bugs");

/// Whether a bug is planted in this process.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}

/// Whether a bug is planted in this process.
///
/// # Panics
/// When `FLYBALL_PLANT` names no bug: a control run that plants nothing would prove nothing.
#[cfg(feature = "planted-bugs")]
#[expect(clippy::panic, reason = "see the Panics section; not in any shipped build")]
pub fn is(bug: Bug) -> bool {
    all().unwrap_or_else(|error| panic!("FLYBALL_PLANT: {error}")).contains(&bug)
}

/// Every bug planted in this process: none in a shipped program.
///
/// # Errors
/// When `FLYBALL_PLANT` names no bug.
#[cfg(not(feature = "planted-bugs"))]
pub const fn all() -> Result<&'static [Bug], UnknownBug> {
    Ok(&[])
}

/// Every bug planted in this process: none in a shipped program.
///
/// # Errors
/// When `FLYBALL_PLANT` names no bug.
#[cfg(feature = "planted-bugs")]
pub fn all() -> Result<&'static [Bug], UnknownBug> {
    static PLANTED: std::sync::OnceLock<Result<Vec<Bug>, UnknownBug>> = std::sync::OnceLock::new();
    PLANTED.get_or_init(from_environment).as_deref().map_err(Clone::clone)
}

#[cfg(feature = "planted-bugs")]
#[expect(
    clippy::disallowed_methods,
    reason = "control runs choose at run time; not in any shipped build"
)]
fn from_environment() -> Result<Vec<Bug>, UnknownBug> {
    let names = std::env::var("FLYBALL_PLANT").unwrap_or_default();
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for bug in Bug::ALL {
            assert_eq!(bug.to_string().parse(), Ok(bug));
        }
        assert_eq!("x".parse::<Bug>(), Err(UnknownBug("x".to_owned())));
    }
}
