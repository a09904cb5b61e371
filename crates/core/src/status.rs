//! The observed state: phases, reasons, outcomes and the progress that survives a takeover.

use serde::{Deserialize, Serialize};

use crate::ids::{AttemptId, Incarnation, LoopUid, NodeName, Token};
use crate::model::Amount;
use crate::quantity::Distance;
use crate::record::Decision;

/// Where a loop is in its life. The one table of legal moves is in `lifecycle`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum Phase {
    /// Waits for its resource set, a node or its turn.
    #[default]
    Pending,
    /// Owned by a node that has not begun yet.
    Assigned,
    /// Being worked on.
    Running,
    /// Waits for something outside: approval, budget, quota, backoff, hold, lost runs.
    Parked,
    /// Every check passes, proven in a fresh clone.
    Converged,
    /// Judged impossible with the means given; carries evidence.
    Unreachable,
    /// A bound ended it: iterations or wall time.
    Exhausted,
    /// The work as declared cannot be started.
    Failed,
    /// Ended by a user.
    Cancelled,
}

impl Phase {
    /// True when the loop has ended for good.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Converged | Self::Unreachable | Self::Exhausted | Self::Failed | Self::Cancelled
        )
    }

    /// True when a node owns the loop's resource set.
    pub fn is_owned(self) -> bool {
        matches!(self, Self::Assigned | Self::Running)
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// Why a loop is in its phase: a closed set, stable in the API.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum Reason {
    /// Nothing to say.
    #[default]
    None,
    /// Pending: submitted and not looked at yet.
    Submitted,
    /// Pending: another loop owns an overlapping resource.
    ResourcesOwned,
    /// Pending: a run that was never proven to have stopped blocks the resources.
    Unsealed,
    /// Pending: no node fits now.
    NoNode,
    /// Pending: no node could ever fit.
    NeverFits,
    /// Pending: its run was lost with its node.
    RunLost,
    /// Pending: its node could not start its processes; tried again after a pause.
    CannotStart,
    /// Pending: its node is drained; it goes elsewhere.
    Drained,
    /// Parked: an effect waits for approval.
    Approval,
    /// Parked: money or tokens have ended.
    Budget,
    /// Parked: the provider's quota has ended for longer than a run waits. Tried again after a while.
    Quota,
    /// Parked: a pause before the next try.
    Backoff,
    /// Parked: held by a user or by a named condition.
    Hold,
    /// Parked: the journal holds a token that the store has not reached, so the store went back in
    /// time. Tried again after a while.
    StoreBehindJournal,
    /// Parked: another installation has begun work on the same paths of the repository that is not ended
    /// in its journal. Tried again after a while.
    OtherInstallation,
    /// Parked: several runs were lost without an accepted iteration.
    RunsLost,
    /// Unreachable: patience ended without progress.
    NoProgress,
    /// Unreachable: the work goes in circles.
    Flapping,
    /// Unreachable: declared so by the agent, and nothing speaks against it.
    Declared,
    /// Exhausted: all iterations used.
    Iterations,
    /// Exhausted: all time used.
    WallTime,
    /// Failed: the agent cannot be started.
    AgentCannotStart,
    /// Failed: a check cannot be started.
    CheckCannotStart,
    /// Failed: the ref does not exist.
    MissingRef,
    /// Failed: the repository cannot be reached, for longer than the bound.
    RepositoryUnreachable,
    /// Failed: the declared work is invalid for this repository.
    InvalidWork,
    /// Cancelled by a user.
    ByUser,
}

impl Reason {
    /// True when a loop parked for this reason goes on by itself after a pause.
    pub fn is_timed(self) -> bool {
        matches!(
            self,
            Self::Backoff | Self::StoreBehindJournal | Self::OtherInstallation | Self::Quota
        )
    }
}

/// How a run ended, as its worker reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The phase the loop goes to: a terminal one, `Parked`, or `Pending` (drained, or a fault of
    /// the node's own).
    pub phase: Phase,
    /// Why.
    pub reason: Reason,
    /// One line for people, with numbers.
    pub message: String,
    /// For `Unreachable`: which checks fail and what was tried, bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// For `Parked` with a reason that ends by itself: milliseconds until the next try.
    #[serde(default)]
    pub retry_after_ms: u64,
    /// For `Parked` with reason `Budget`: what the call that found no room would have needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<Amount>,
}

/// Most iteration summaries kept in the status; older ones are in the journal.
pub const RECENT_MAX: usize = 20;

/// Counters and decisions that survive takeover. Written by the owner, under its token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Iterations finished, over all runs.
    pub iterations: u32,
    /// Iterations kept.
    pub accepted: u32,
    /// Milliseconds spent in runs, without those in which model calls waited for a provider's quota.
    pub run_ms: u64,
    /// Distance at the first observation.
    pub initial_distance: Option<Distance>,
    /// Best distance so far: that of the checkpoint.
    pub best_distance: Option<Distance>,
    /// The last measured distance.
    pub distance: Option<Distance>,
    /// Names of the checks that failed when last measured; bounded by the number of checks.
    pub failing: Vec<String>,
    /// The accepted commit.
    pub checkpoint: Option<String>,
    /// The commit of the base ref the checkpoint builds on.
    pub base: Option<String>,
    /// The published commit.
    pub published: Option<String>,
    /// What the run does now: `observing`, `agent`, `verifying`, `publishing`; empty if idle.
    pub activity: String,
    /// The newest iterations, oldest first, at most [`RECENT_MAX`].
    pub recent: Vec<IterationSummary>,
    /// The governor's memory.
    pub governor: serde_json::Value,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// An iteration in short, for tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IterationSummary {
    /// From 1.
    pub number: u32,
    /// Token of the run.
    pub token: Token,
    /// Node that ran it.
    pub node: NodeName,
    /// Distance before.
    pub before: Distance,
    /// Distance after.
    pub after: Distance,
    /// What became of it.
    pub decision: Decision,
    /// Why.
    pub reason: String,
    /// Checks failing after it.
    pub failing: Vec<String>,
    /// Files changed.
    pub files: u32,
    /// Lines changed.
    pub lines: u32,
    /// The checkpoint, if kept.
    pub checkpoint: Option<String>,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
    /// When it ended; for display only.
    pub ended_at: Option<jiff::Timestamp>,
}

/// A run that ended without proof that its processes stopped: its journal must be sealed before any
/// overlapping set is worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unsealed {
    /// The loop whose run it was.
    pub loop_uid: LoopUid,
    /// Its namespace and name, for display.
    pub loop_key: String,
    /// The run's token.
    pub token: Token,
    /// Canonical entries of the set.
    pub resources: Vec<String>,
    /// URL of the repository whose journal must be sealed; empty for loops without one.
    pub repository: String,
}

/// A named condition that holds or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// CamelCase name, e.g. `AtomicPushSupported`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: bool,
    /// What was found.
    pub message: String,
    /// Since when; for display only.
    pub since: Option<jiff::Timestamp>,
}

/// The observed state of a loop. Written only by the leader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoopStatus {
    /// Where it is.
    pub phase: Phase,
    /// Why.
    pub reason: Reason,
    /// One line for people.
    pub message: String,
    /// Generation of the spec this status speaks of.
    pub observed_generation: u64,
    /// Node that owns it, or owned it last.
    pub node: Option<NodeName>,
    /// Incarnation that owns it.
    pub incarnation: Option<Incarnation>,
    /// Id of the assignment's transaction, to read back a lost answer.
    pub attempt: Option<AttemptId>,
    /// Runs begun.
    pub runs: u32,
    /// Runs lost since the last accepted iteration.
    pub runs_lost: u32,
    /// Starts in a row that failed by a fault of the node, see [`crate::lifecycle::START_FAULTS_MAX`].
    pub start_faults: u32,
    /// Journals that must be sealed before anyone works on overlapping resources.
    pub unsealed: Vec<Unsealed>,
    /// Named conditions.
    pub conditions: Vec<Condition>,
    /// Evidence of an `Unreachable` verdict.
    pub evidence: Vec<String>,
    /// What the owner reports.
    pub progress: Progress,
    /// In this phase since; for display only.
    pub since: Option<jiff::Timestamp>,
    /// First run began; for display only.
    pub started_at: Option<jiff::Timestamp>,
    /// Ended; for display, and for `ttlAfterFinished`.
    pub finished_at: Option<jiff::Timestamp>,
    /// Parked until; the timer key decides, this is for display.
    pub parked_until: Option<jiff::Timestamp>,
    /// Parked for its budget until there is room for so much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_need: Option<Amount>,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}
