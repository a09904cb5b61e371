//! Why a run stops before its governor says so, and what that means for the loop.

use flyball_core::governor::Governor;
use flyball_core::ids::LoopKey;
use flyball_core::status::{Outcome, Phase, Reason};

use super::outcome;
use crate::git::{GitError, JournalError, Other};
use crate::models::AskError;
use crate::runs::Stop;

/// Pause before another try when the store is behind the journal: somebody has to act first, and each
/// try costs a fetch.
const STORE_BEHIND_RETRY_MS: u64 = 60_000;

/// Pause before another look at the journals of another installation: somebody has to act first, and each
/// look costs a claim and two connections.
const OTHER_INSTALLATION_RETRY_MS: u64 = 60_000;

/// Pause before another look for what is missing: somebody has to define it, and each look costs a claim.
const MISSING_RETRY_MS: u64 = 10_000;

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// With an outcome to report.
    End(Outcome),
    /// Without a word: somebody else owns the loop.
    Silent(String),
}

impl Halt {
    /// A fault of this node that keeps it from starting what the loop needs: the loop is tried again after
    /// a pause, elsewhere if it can be, and does not fail.
    pub(super) fn node_fault(message: &str) -> Self {
        tracing::error!("node fault: {message}");
        let message = format!("the node failed: {message}");
        Self::End(outcome(Phase::Pending, Reason::CannotStart, message))
    }

    /// The outcome of a fault in the middle, which the work itself may have caused: a lost run.
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

    /// Waits until a model route takes the calls of a loop whose agent needs one.
    pub(super) fn no_route(key: &LoopKey) -> Self {
        Self::missing(&format!(
            "its agent calls models, and no model route takes calls of {key}; apply one (flyball route explain)"
        ))
    }

    /// Waits until its agent is defined.
    pub(super) fn no_agent(name: &str) -> Self {
        Self::missing(&format!("there is no agent {name}; apply it"))
    }

    /// Waits until somebody has defined or set what is missing.
    pub(super) fn missing(why: &str) -> Self {
        let seconds = MISSING_RETRY_MS / 1000;
        let message = format!("{why}; looked for again every {seconds} s");
        Self::backoff(message, MISSING_RETRY_MS)
    }

    /// Nothing that the run needs was handed over.
    pub(super) fn not_handed(error: AskError) -> Self {
        match error {
            AskError::Missing(why) => Self::missing(&why),
            AskError::NotOwner(why) => Self::Silent(why),
            error @ AskError::Unavailable(_) => Self::node_fault(&error.to_string()),
        }
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

    /// The store handed out a token that the journal has passed already.
    fn store_behind(found: i64, own: i64) -> Self {
        let message = format!(
            "the journal is at token {found} and this run has {own}: the store was restored from an \
             old state; restore it with raised revisions (etcdutl snapshot restore \
             --bump-revision), or raise its revision past {found}; tried again every minute"
        );
        let parked = outcome(Phase::Parked, Reason::StoreBehindJournal, message);
        Self::End(Outcome { retry_after_ms: STORE_BEHIND_RETRY_MS, ..parked })
    }

    /// Others have begun work on the same paths; `None` if nobody has.
    pub(super) fn other_installation(others: &[Other]) -> Option<Self> {
        let at = |other: &&Other| other.last.as_ref().map(|last| last.at);
        let newest = others.iter().max_by_key(at)?;
        let Other { reference, installation, last } = newest;
        let written = last.as_ref().map_or_else(
            || "its newest record cannot be read".to_owned(),
            |last| {
                let (at, node, token) = (last.at, &last.node, last.token);
                format!("last written at {at} by node {node} under token {token}")
            },
        );
        let more = match others.len() - 1 {
            0 => String::new(),
            more => format!("; so have {more} more under {}", prefix_of(reference)),
        };
        let message = format!(
            "installation {installation} has begun work on the same paths that is not ended in its journal \
             {reference}, {written}{more}; see that nothing of it runs any more, then delete the journal, \
             which also shuts out what is left; looked at again every minute"
        );
        let parked = outcome(Phase::Parked, Reason::OtherInstallation, message);
        Some(Self::End(Outcome { retry_after_ms: OTHER_INSTALLATION_RETRY_MS, ..parked }))
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
            JournalError::Fenced { found_token, own_token } if found_token >= own_token => {
                Self::store_behind(found_token, own_token)
            }
            JournalError::Fenced { .. } => Self::hold(format!("Fenced: {error}")),
            JournalError::Corrupt { .. } => Self::hold(format!("JournalDamaged: {error}")),
            // The next run reads the journal again and goes on from what it says.
            JournalError::Late => Self::backoff(error.to_string(), 100),
            JournalError::PublishMoved { .. } => Self::backoff(error.to_string(), 1000),
            JournalError::Git(error) => Self::of_git(error, governor),
        }
    }
}

/// What a journal's name has before installation and loop.
fn prefix_of(journal: &str) -> &str {
    journal.rsplitn(4, '/').last().unwrap_or(journal)
}

#[cfg(test)]
mod tests {
    use flyball_core::ids::Token;
    use flyball_core::record::{JournalEntry, JournalRecord};
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
    fn a_journal_ahead_of_the_store_is_named_with_both_tokens() {
        let error = JournalError::Fenced { found_token: 90, own_token: 7 };
        let Halt::End(parked) = Halt::of_journal(error, &mut governor()) else { panic!() };
        assert_eq!((parked.phase, parked.reason), (Phase::Parked, Reason::StoreBehindJournal));
        assert!(parked.message.contains("90") && parked.message.contains("has 7"));
        let error = JournalError::Fenced { found_token: 3, own_token: 7 };
        let Halt::End(parked) = Halt::of_journal(error, &mut governor()) else { panic!() };
        assert_eq!(parked.reason, Reason::Hold);
    }

    #[test]
    fn another_installation_is_named_with_its_newest_journal_and_what_to_do() {
        let other = |uid: &str, last: Option<&str>| Other {
            reference: format!("refs/flyball/abc/{uid}/journal"),
            installation: "abc".into(),
            last: last.map(|at| JournalRecord {
                version: 1,
                loop_uid: uid.into(),
                token: Token(7),
                generation: 1,
                sequence: 1,
                node: "n1".into(),
                at: at.parse().unwrap(),
                owns: None,
                entry: JournalEntry::Takeover { base: "b".to_owned() },
            }),
        };
        assert_eq!(Halt::other_installation(&[]), None);
        let others = [
            other("one", Some("2026-01-01T00:00:00Z")),
            other("two", Some("2026-01-02T00:00:00Z")),
            other("three", None),
        ];
        let Some(Halt::End(parked)) = Halt::other_installation(&others) else { panic!() };
        assert_eq!((parked.phase, parked.reason), (Phase::Parked, Reason::OtherInstallation));
        assert!(parked.retry_after_ms > 0);
        let words = ["installation abc", "abc/two/journal", "2026-01-02", "n1", "2 more", "delete"];
        for part in words.into_iter().chain(["under refs/flyball;"]) {
            assert!(parked.message.contains(part), "{part}: {}", parked.message);
        }
        let Some(Halt::End(parked)) = Halt::other_installation(&others[2..]) else { panic!() };
        assert!(parked.message.contains("cannot be read"), "{}", parked.message);
    }

    #[test]
    fn what_is_missing_parks_the_loop_until_it_is_there() {
        let missing = AskError::Missing("there is no agent own".to_owned());
        for halt in [Halt::no_agent("own"), Halt::not_handed(missing)] {
            let Halt::End(parked) = halt else { panic!() };
            assert_eq!((parked.phase, parked.reason), (Phase::Parked, Reason::Backoff));
            assert_eq!(parked.retry_after_ms, MISSING_RETRY_MS);
            assert!(parked.message.starts_with("there is no agent own"), "{}", parked.message);
        }
        let halt = Halt::not_handed(AskError::NotOwner("x".to_owned()));
        assert_eq!(halt, Halt::Silent("x".to_owned()));
        let Halt::End(fault) = Halt::not_handed(AskError::Unavailable("x".to_owned())) else {
            panic!()
        };
        assert_eq!((fault.phase, fault.reason), (Phase::Pending, Reason::CannotStart));
    }

    #[test]
    fn a_fault_of_the_node_is_never_the_loops() {
        let error = GitError::Local { operation: "x".to_owned(), message: "disk full".to_owned() };
        let Halt::End(outcome) = Halt::of_git(error, &mut governor()) else { panic!() };
        assert_eq!(outcome.phase, Phase::Pending);
    }
}
