//! The event log: the changes of each revision, for watches that start in the past or lag.

use super::Change;
use std::collections::VecDeque;
use std::sync::Arc;

/// Revisions that stay for watches that were registered before a compaction, so that compacting
/// right after a write does not cut off a watch that has merely not been polled yet. Small: it
/// outlives compaction, so it is memory that a compaction cannot give back.
const GRACE_REVISIONS: i64 = 1024;

/// Changes by revision, without gaps.
#[derive(Debug)]
pub(crate) struct EventLog {
    first: i64,
    revisions: VecDeque<Arc<[Change]>>,
    bytes: usize,
}

impl EventLog {
    /// An empty log whose next revision is `first`.
    pub(crate) fn new(first: i64) -> Self {
        Self { first, revisions: VecDeque::new(), bytes: 0 }
    }

    /// Oldest revision held (or the next one, if none is).
    pub(crate) fn first(&self) -> i64 {
        self.first
    }

    /// Bytes of keys and values held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the next revision.
    pub(crate) fn push(&mut self, changes: Vec<Change>) {
        self.bytes += changes.iter().map(weight).sum::<usize>();
        self.revisions.push_back(changes.into());
    }

    /// Revisions `from..=to` as far as they are held.
    pub(crate) fn between(
        &self,
        from: i64,
        to: i64,
    ) -> impl Iterator<Item = (i64, &Arc<[Change]>)> {
        let skip = usize::try_from(from - self.first).unwrap_or(0);
        let take = usize::try_from(to - from.max(self.first) + 1).unwrap_or(0);
        let start = self.first + i64::try_from(skip).unwrap_or(0);
        (start..).zip(self.revisions.iter().skip(skip).take(take))
    }

    /// Forgets revisions before `compacted`, except the last few that are published.
    pub(crate) fn trim(&mut self, compacted: i64, published: i64) {
        let keep_from = compacted.min(published - GRACE_REVISIONS);
        while self.first < keep_from {
            let Some(changes) = self.revisions.pop_front() else { break };
            self.bytes -= changes.iter().map(weight).sum::<usize>();
            self.first += 1;
        }
    }
}

fn weight(change: &Change) -> usize {
    change.kv.key.len() + change.kv.value.len()
}
