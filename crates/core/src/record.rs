//! The journal's records: one per takeover, iteration, publication and end, appended to the loop's
//! journal in its repository. The raw material of explain, replay and the outer loop.

use serde::{Deserialize, Serialize};

use crate::ids::{LoopUid, NodeName, Token};
use crate::model::AgentAccount;
use crate::quantity::Distance;
use crate::resource::PathSet;
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
    /// Patterns of the paths that the owner may change in this repository, at most [`OWNS_BYTES_MAX`] of them together.
    /// Another installation that uses the repository learns from it whether it would work on the same. Not told in
    /// records of the first versions, and where there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owns: Option<Vec<String>>,
    /// What happened.
    pub entry: JournalEntry,
}

/// Most bytes of the paths in a record: each record holds them, and one is to stay far below a hundred kilobytes. A set
/// with longer ones counts as one that may touch everything.
pub const OWNS_BYTES_MAX: usize = 4096;

impl JournalRecord {
    /// True when this is the last word of a loop that has ended: nobody acts for it any more.
    pub fn is_last_word(&self) -> bool {
        matches!(self.entry, JournalEntry::Ended { .. } | JournalEntry::Published { .. })
    }

    /// Whether a journal of which this is the newest record is one of a loop that was begun, has not ended, and may change
    /// some of these paths. Where it does not tell its paths, it may.
    pub fn may_act_on(&self, paths: &PathSet) -> bool {
        let theirs = self.owns.as_ref().and_then(|owns| PathSet::of_patterns(owns));
        !self.is_last_word() && theirs.is_none_or(|theirs| theirs.overlaps(paths))
    }
}

/// Paths as a record tells them; `None` if there are too many.
pub fn told_paths(paths: &PathSet) -> Option<Vec<String>> {
    let told: Vec<String> = paths.patterns().collect();
    let bytes: usize = told.iter().map(String::len).sum();
    (bytes <= OWNS_BYTES_MAX).then_some(told)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Phase, Reason};

    fn record(owns: Option<&[&str]>, entry: JournalEntry) -> JournalRecord {
        JournalRecord {
            version: RECORD_VERSION,
            loop_uid: "u".into(),
            token: Token(7),
            generation: 1,
            sequence: 1,
            node: "n1".into(),
            at: jiff::Timestamp::UNIX_EPOCH,
            owns: owns.map(|owns| owns.iter().map(|one| (*one).to_owned()).collect()),
            entry,
        }
    }

    fn paths(patterns: &[&str]) -> PathSet {
        PathSet::of_patterns(patterns).unwrap()
    }

    fn takeover() -> JournalEntry {
        JournalEntry::Takeover { base: "b".to_owned() }
    }

    #[test]
    fn who_has_not_ended_may_act_on_its_paths() {
        let mine = paths(&["src/**"]);
        assert!(record(Some(&["src/a"]), takeover()).may_act_on(&mine));
        assert!(!record(Some(&["docs/**"]), takeover()).may_act_on(&mine));
        assert!(!record(Some(&[]), takeover()).may_act_on(&mine), "it may change nothing");
        assert!(record(Some(&["**"]), takeover()).may_act_on(&mine));
        let sealed = JournalEntry::SealedByOther { by: "v".into() };
        assert!(record(Some(&["src/a"]), sealed).may_act_on(&mine), "it may go on");
    }

    #[test]
    fn who_does_not_tell_its_paths_may_act_on_all() {
        let mine = paths(&["src/**"]);
        assert!(record(None, takeover()).may_act_on(&mine));
        assert!(record(Some(&["a//b"]), takeover()).may_act_on(&mine), "unreadable");
        let many: Vec<String> = (0..500).map(|n| format!("directory-{n}/**")).collect();
        assert_eq!(told_paths(&PathSet::of_patterns(&many).unwrap()), None);
        assert_eq!(told_paths(&mine), Some(vec!["src/**".to_owned()]));
    }

    #[test]
    fn who_has_ended_does_not() {
        let outcome = Outcome {
            phase: Phase::Unreachable,
            reason: Reason::NoProgress,
            message: String::new(),
            evidence: Vec::new(),
            retry_after_ms: 0,
            need: None,
        };
        let (commit, reference) = ("c".to_owned(), "refs/heads/main".to_owned());
        for entry in
            [JournalEntry::Ended { outcome }, JournalEntry::Published { commit, reference }]
        {
            for owns in [None, Some(["src/a"].as_slice())] {
                assert!(!record(owns, entry.clone()).may_act_on(&paths(&["src/**"])));
            }
        }
    }

    #[test]
    fn records_of_the_first_versions_are_read() {
        let mut json = serde_json::to_value(record(Some(&["a"]), takeover())).unwrap();
        assert_eq!(json["owns"], serde_json::json!(["a"]));
        json.as_object_mut().unwrap().remove("owns");
        let read: JournalRecord = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(read.owns, None);
        assert_eq!(serde_json::to_value(read).unwrap(), json);
    }
}
