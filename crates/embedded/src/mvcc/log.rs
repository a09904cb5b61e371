//! The event log: the changes of each revision, for watches that start in the past or lag.

use super::Change;
use std::collections::VecDeque;
use std::sync::Arc;

/// Revisions that stay for watches that were registered before a compaction, so that compacting
/// right after a write does not cut off a watch that has merely not been polled yet. Small: it
/// outlives compaction, so it is memory that a compaction cannot give back.
const GRACE_REVISIONS: i64 = 1024;
/// The same bound in bytes: while the log holds more, it keeps nothing that is compacted.
const GRACE_BYTES: usize = 16 << 20;

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
        // What is not published yet is still to be seen by everybody.
        let drop_to = compacted.min(published + 1);
        while self.first < keep_from || (self.first < drop_to && self.bytes > GRACE_BYTES) {
            let Some(changes) = self.revisions.pop_front() else { break };
            self.bytes -= changes.iter().map(weight).sum::<usize>();
            self.first += 1;
        }
    }
}

fn weight(change: &Change) -> usize {
    change.kv.key.len() + change.kv.value.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_client::proto::PbKeyValue;

    fn change(size: usize) -> Change {
        let kv = PbKeyValue { value: vec![0; size], ..Default::default() };
        Change { kv: Arc::new(kv), deleted: false }
    }

    #[test]
    fn revisions_are_found_by_number_and_old_ones_trimmed() {
        let mut log = EventLog::new(2);
        for _ in 2..=3000 {
            log.push(vec![change(10)]);
        }
        let numbers = |log: &EventLog, from, to| {
            log.between(from, to).map(|(revision, _)| revision).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&log, 0, 3), [2, 3]);
        assert_eq!(numbers(&log, 2999, 5000), [2999, 3000]);
        assert!(numbers(&log, 3001, 3000).is_empty() && numbers(&log, 10, 9).is_empty());
        log.trim(1500, 3000);
        assert_eq!((log.first(), log.bytes()), (1500, 1501 * 10));
        assert_eq!(numbers(&log, 0, 1501), [1500, 1501]);
        // Compacted to the end, the last published ones stay for watches that have not read them.
        log.trim(3000, 3000);
        assert_eq!(log.first(), 3000 - GRACE_REVISIONS);
        // Unless they are large.
        log.push(vec![change(GRACE_BYTES)]);
        log.trim(3000, 3001);
        assert_eq!(log.first(), 3000);
    }
}
