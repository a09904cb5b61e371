//! Why a run stops before its governor says so, and what that means for the loop.

use flyball_core::governor::Governor;
use flyball_core::status::{Outcome, Phase, Reason};

use super::outcome;
use crate::git::{GitError, JournalError};
use crate::runs::Stop;

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// With an outcome to report.
    End(Outcome),
    /// Without a word: somebody else owns the loop.
    Silent(String),
}

impl Halt {
    /// A fault of this node: the loop goes elsewhere, it does not fail.
    pub(super) fn node_fault(message: &str) -> Self {
        Self::End(Self::fault(message))
    }

    /// The outcome of a fault of this node.
    pub(super) fn fault(message: &str) -> Outcome {
        tracing::error!("node fault: {message}");
        outcome(Phase::Pending, Reason::RunLost, format!("the node failed: {message}"))
    }

    /// Asked to stop.
    pub(super) fn stopped(stop: Stop) -> Self {
        match stop {
            Stop::Cancel => {
                Self::End(outcome(Phase::Cancelled, Reason::ByUser, "cancelled".to_owned()))
            }
            Stop::Lost => Self::Silent("not the owner any more".to_owned()),
            Stop::Evict => {
                let message = "stopped before its iteration's edge, as time was up; the iteration \
                               is done again elsewhere";
                Self::End(outcome(Phase::Pending, Reason::Drained, message.to_owned()))
            }
            Stop::Drain | Stop::No => {
                let message = "stopped at the iteration's edge to go on elsewhere".to_owned();
                Self::End(outcome(Phase::Pending, Reason::Drained, message))
            }
        }
    }

    /// Waits for a person.
    pub(super) fn hold(message: String) -> Self {
        Self::End(outcome(Phase::Parked, Reason::Hold, message))
    }

    /// Ends the loop as failed.
    pub(super) fn failed(reason: Reason, message: String) -> Self {
        Self::End(outcome(Phase::Failed, reason, message))
    }

    /// Waits and tries again.
    pub(super) fn backoff(message: String, retry_after_ms: u64) -> Self {
        let parked = outcome(Phase::Parked, Reason::Backoff, message);
        Self::End(Outcome { retry_after_ms, ..parked })
    }

    /// What a failed git operation means.
    pub(super) fn of_git(error: GitError, governor: &mut Governor) -> Self {
        match error {
            GitError::MissingRef { .. } => Self::failed(Reason::MissingRef, error.to_string()),
            GitError::Unsupported { .. } | GitError::TooLarge { .. } => {
                Self::failed(Reason::InvalidWork, error.to_string())
            }
            GitError::AtomicUnsupported => {
                Self::hold(format!("AtomicPushUnsupported: {error}; use a server that has them"))
            }
            GitError::Rejected { .. } => Self::hold(format!("PushRejected: {error}")),
            GitError::Unreachable { .. } | GitError::Unknown { .. } | GitError::TimedOut { .. } => {
                let jitter = rand::random_range(0.0..1.0);
                Self::End(governor.on_repository_unreachable(&error.to_string(), jitter))
            }
            GitError::Local { .. } => Self::node_fault(&error.to_string()),
        }
    }

    /// What a failed append means; a moved publish branch is for the caller.
    pub(super) fn of_journal(error: JournalError, governor: &mut Governor) -> Self {
        match error {
            // Whoever lost its claim is refused by the store when it reports this. If it is taken,
            // the journal is ahead of the store, which no other run can heal: a person must look.
            JournalError::Fenced { .. } => Self::hold(format!("Fenced: {error}")),
            JournalError::Corrupt { .. } => Self::hold(format!("JournalDamaged: {error}")),
            // The next run reads the journal again and goes on from what it says.
            JournalError::Late => Self::backoff(error.to_string(), 100),
            JournalError::PublishMoved { .. } => Self::backoff(error.to_string(), 1000),
            JournalError::Git(error) => Self::of_git(error, governor),
        }
    }
}

#[cfg(test)]
mod tests {
    use flyball_core::spec::GovernorSpec;

    use super::*;

    fn governor() -> Governor {
        Governor::restore(&GovernorSpec::default(), &serde_json::Value::Null)
    }

    #[test]
    fn an_unreachable_repository_parks_the_loop() {
        let error = GitError::Unreachable { message: "no route".to_owned() };
        let Halt::End(parked) = Halt::of_git(error, &mut governor()) else { panic!() };
        assert_eq!((parked.phase, parked.reason), (Phase::Parked, Reason::Backoff));
    }

    #[test]
    fn a_fault_of_the_node_is_never_the_loops() {
        let error = GitError::Local { operation: "x".to_owned(), message: "disk full".to_owned() };
        let Halt::End(outcome) = Halt::of_git(error, &mut governor()) else { panic!() };
        assert_eq!(outcome.phase, Phase::Pending);
    }
}
