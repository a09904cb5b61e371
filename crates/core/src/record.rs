//! The journal's records: one per takeover, iteration, publication and end, appended to the loop's
//! journal in its repository. The raw material of explain, replay and the outer loop.

use serde::{Deserialize, Serialize};

use crate::ids::{LoopUid, NodeName, Token};
use crate::model::AgentAccount;
use crate::quantity::Distance;
use crate::status::Outcome;

/// Version of the records written by this code. Readers accept unknown fields.
pub const RECORD_VERSION: u32 = 1;

/// One journal entry: the seal (token, sequence) and what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalRecord {
    /// Format version, [`RECORD_VERSION`].
    pub version: u32,
    /// The loop.
    pub loop_uid: LoopUid,
    /// Token of the owner that wrote this; never goes down along the chain.
    pub token: Token,
    /// Generation of the spec that the owner worked on; 0 in records of the first versions. A loop
    /// whose spec changed starts over: what earlier generations did does not count for it.
    #[serde(default)]
    pub generation: u64,
    /// Position in the chain, from 1.
    pub sequence: u64,
    /// Node that wrote this.
    pub node: NodeName,
    /// When it was written; for display only.
    pub at: jiff::Timestamp,
    /// What happened.
    pub entry: JournalEntry,
}

/// What a journal record records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum JournalEntry {
    /// A new owner sealed the journal before its first iteration.
    Takeover {
        /// The commit it starts from.
        base: String,
    },
    /// An overlapping loop's owner sealed this journal because this loop's last run was never
    /// proven to have stopped.
    SealedByOther {
        /// The loop that sealed it.
        by: LoopUid,
    },
    /// An iteration, kept or not.
    Iteration(Box<IterationRecord>),
    /// The base moved: the accepted commits were rebased onto it and measured again.
    Rebased {
        /// The new base commit.
        base: String,
        /// The rebased checkpoint.
        checkpoint: String,
        /// Distance of the rebased checkpoint.
        distance: Distance,
    },
    /// The result was pushed to the publish branch in the same atomic push as this record.
    Published {
        /// The published commit.
        commit: String,
        /// Full ref name it was pushed to.
        reference: String,
    },
    /// The loop ended.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// Everything about one iteration: observe, compare, act, verify, keep or revert.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IterationRecord {
    /// From 1, counted over all runs of the loop.
    pub number: u32,
    /// What acted: the agent's command, later its name and version.
    pub agent: String,
    /// Digest of the brief the agent was given.
    pub brief_digest: String,
    /// Tree the agent started from.
    pub base_tree: String,
    /// Tree snapshotted after the agent ended.
    pub result_tree: String,
    /// Commit of the checkpoint if it was kept.
    pub checkpoint: Option<String>,
    /// Size of the change.
    pub diff: DiffStat,
    /// Verdict and score per check, of the snapshotted tree.
    pub checks: Vec<CheckResult>,
    /// Distance before the agent acted.
    pub distance_before: Distance,
    /// Distance of the result.
    pub distance_after: Distance,
    /// Kept, reverted or refused.
    pub decision: Decision,
    /// Why, in one line.
    pub reason: String,
    /// What the agent said of itself; a hint, never a verdict.
    pub agent_note: String,
    /// How the agent's process ended.
    pub agent_exit: String,
    /// What the agent said of itself, beside what the gateway metered; absent in records of the first versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_run: Option<Box<AgentAccount>>,
    /// Wall time of the agent, milliseconds.
    pub agent_ms: u64,
    /// Wall time of the checks, milliseconds.
    pub checks_ms: u64,
    /// Trace of this iteration, 32 hex digits, empty if none.
    pub trace_id: String,
    /// Digests of artifacts: file name and hash.
    pub artifacts: Vec<(String, String)>,
    /// When it began; for display only.
    pub started_at: Option<jiff::Timestamp>,
    /// When it ended; for display only.
    pub ended_at: Option<jiff::Timestamp>,
}

/// Size of a change against its base.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiffStat {
    /// Files changed, added or removed.
    pub files: u32,
    /// Lines added and removed together; a binary file counts as one.
    pub lines: u32,
}

/// What became of an iteration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// The change is the new checkpoint.
    Kept,
    /// The change was measured and thrown away.
    #[default]
    Reverted,
    /// The change was out of bounds and thrown away unmeasured.
    Refused,
    /// The agent changed nothing.
    Unchanged,
}

/// How a check ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckResult {
    /// Name of the check.
    pub name: String,
    /// True when it passed.
    pub passed: bool,
    /// Its share of the distance, 0 to 1.
    pub distance: Distance,
    /// Cases counted by its score, if it has one.
    pub cases: Option<CaseCount>,
    /// Failing cases, sorted; at most [`FAILING_CASES_MAX`], the rest is in `cases`.
    pub failing_cases: Vec<String>,
    /// How the process ended: `exit 1`, `signal 9`, `timeout after 5m`, `could not start: …`.
    pub exit: String,
    /// Wall time, milliseconds.
    pub duration_ms: u64,
}

/// Most failing case names kept per check; enough to see the pattern, small enough for the store.
pub const FAILING_CASES_MAX: usize = 50;

/// Cases counted by a score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CaseCount {
    /// Passed.
    pub passed: u64,
    /// Failed, with those that vanished.
    pub failed: u64,
    /// Seen before and now gone (counted in `failed` unless the check allows removal).
    pub vanished: u64,
}
