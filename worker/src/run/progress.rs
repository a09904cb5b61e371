//! What survives a takeover: counters, summaries and the governor's memory.

use flyball_core::governor::Governor;
use flyball_core::ids::{NodeName, Token};
use flyball_core::record::{Decision, IterationRecord, JournalEntry, JournalRecord};
use flyball_core::score::CaseMemory;
use flyball_core::status::{IterationSummary, Progress, RECENT_MAX};
use serde_json::{Value, json};

/// Takes the governor's memory and the test cases seen out of the progress. Memory that cannot be
/// read starts empty: the counters that bound the loop are elsewhere.
pub(super) fn restore_memory(progress: &Progress) -> (Value, CaseMemory) {
    let memory = progress.governor.get("memory").cloned().unwrap_or(Value::Null);
    let cases = progress.governor.get("cases").cloned().unwrap_or(Value::Null);
    (memory, serde_json::from_value(cases).unwrap_or_default())
}

/// Puts them in.
/// Most bytes of test cases kept in the status, which has to fit into one value of the store beside
/// everything else. Beyond it they are seen anew by the next owner.
const CASES_BYTES_MAX: usize = 256 * 1024;

pub(super) fn keep_memory(progress: &mut Progress, governor: &Governor, cases: &CaseMemory) {
    let cases = serde_json::to_value(cases).unwrap_or_default();
    let cases = if cases.to_string().len() > CASES_BYTES_MAX { Value::Null } else { cases };
    progress.governor = json!({ "memory": governor.memory(), "cases": cases });
}

/// Counts an iteration and keeps its summary.
pub(super) fn count(
    progress: &mut Progress,
    record: &IterationRecord,
    token: Token,
    node: &NodeName,
) {
    progress.iterations = progress.iterations.max(record.number);
    if record.decision == Decision::Kept {
        progress.accepted += 1;
        progress.checkpoint.clone_from(&record.checkpoint);
        progress.distance = Some(record.distance_after);
        progress.best_distance = Some(record.distance_after);
    }
    let duration_ms = record.agent_ms.saturating_add(record.checks_ms);
    let failing = record.checks.iter().filter(|check| !check.passed);
    progress.recent.push(IterationSummary {
        number: record.number,
        token,
        node: node.clone(),
        before: record.distance_before,
        after: record.distance_after,
        decision: record.decision,
        reason: record.reason.clone(),
        failing: failing.map(|check| check.name.clone()).collect(),
        files: record.diff.files,
        lines: record.diff.lines,
        checkpoint: record.checkpoint.clone(),
        duration_ms,
        ended_at: record.ended_at,
    });
    let excess = progress.recent.len().saturating_sub(RECENT_MAX);
    progress.recent.drain(..excess);
}

/// Adds what the journal knows and the status does not: a worker that died between its push and
/// its report. `records` are newest first; those of other generations of the spec do not count.
pub(super) fn catch_up(progress: &mut Progress, records: &[JournalRecord], generation: u64) {
    let known = progress.iterations;
    // What is older than the last iteration that was reported is in the status already.
    let mut news = known == 0;
    for record in records.iter().rev().filter(|record| record.generation == generation) {
        match &record.entry {
            JournalEntry::Iteration(iteration) if iteration.number > known => {
                count(progress, iteration, record.token, &record.node);
            }
            JournalEntry::Iteration(iteration) => news |= iteration.number == known,
            JournalEntry::Rebased { base, checkpoint, distance } if news => {
                progress.base = Some(base.clone());
                progress.checkpoint = Some(checkpoint.clone());
                progress.distance = Some(*distance);
            }
            JournalEntry::Takeover { base } if news && progress.base.is_none() => {
                progress.base = Some(base.clone());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use flyball_core::quantity::Distance;

    use super::*;

    fn record(sequence: u64, entry: JournalEntry) -> JournalRecord {
        JournalRecord {
            version: 1,
            loop_uid: "u".into(),
            token: Token(3),
            generation: 2,
            sequence,
            node: "n".into(),
            at: jiff::Timestamp::UNIX_EPOCH,
            owns: None,
            entry,
        }
    }

    fn kept(number: u32) -> JournalEntry {
        JournalEntry::Iteration(Box::new(IterationRecord {
            number,
            decision: Decision::Kept,
            checkpoint: Some(format!("c{number}")),
            distance_after: Distance(u64::from(10 - number)),
            ..IterationRecord::default()
        }))
    }

    #[test]
    fn an_iteration_pushed_and_never_reported_is_counted_once() {
        let mut progress = Progress { iterations: 1, accepted: 1, ..Progress::default() };
        let records = [record(3, kept(2)), record(2, kept(1))];
        catch_up(&mut progress, &records, 2);
        catch_up(&mut progress, &records, 2);
        assert_eq!((progress.iterations, progress.accepted), (2, 2));
        assert_eq!(progress.checkpoint.as_deref(), Some("c2"));
    }

    #[test]
    fn what_was_done_for_an_earlier_spec_does_not_count() {
        let mut progress = Progress::default();
        catch_up(&mut progress, &[record(2, kept(2)), record(1, kept(1))], 3);
        assert_eq!(progress, Progress::default());
    }

    #[test]
    fn an_old_rebase_does_not_come_back() {
        let rebased = JournalEntry::Rebased {
            base: "b0".to_owned(),
            checkpoint: "old".to_owned(),
            distance: Distance(9),
        };
        let mut progress = Progress::default();
        catch_up(&mut progress, &[record(3, kept(1)), record(2, rebased.clone())], 2);
        assert_eq!(progress.checkpoint.as_deref(), Some("c1"));
        catch_up(&mut progress, &[record(3, kept(1)), record(2, rebased)], 2);
        assert_eq!(progress.checkpoint.as_deref(), Some("c1"));
    }
}
