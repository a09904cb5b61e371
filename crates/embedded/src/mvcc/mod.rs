//! Multi-version state in memory: key histories, the event log, requests evaluated against them.
//!
//! The state holds every live key with its value and every version since the last compaction.
//! That is a deliberate trade: the store of a control plane is small and bounded per loop, and
//! reads and watches then never touch the disk.

pub(crate) mod check;
pub(crate) mod index;
pub(crate) mod log;
pub(crate) mod range;
pub(crate) mod span;
pub(crate) mod txn;

use etcd_client::proto::PbKeyValue;
use std::sync::Arc;

/// One version of a key, shared by index, log and whoever is reading.
pub(crate) type Kv = Arc<PbKeyValue>;

/// One effect of a revision.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The new version; of a deletion only key and `mod_revision`.
    pub(crate) kv: Kv,
    /// Whether the key was deleted.
    pub(crate) deleted: bool,
}

/// The whole state. Written by the writer alone; readers look at `published` only.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) index: index::Index,
    pub(crate) log: log::EventLog,
    /// Newest revision that was applied; may not be durable yet.
    pub(crate) revision: i64,
    /// Newest revision that is durable: all that readers and watchers may see.
    pub(crate) published: i64,
    /// Revision of the last compaction; -1 if there was none (as etcd counts).
    pub(crate) compacted: i64,
    /// Set for good when the store was shut down or could not write.
    pub(crate) stopped: bool,
}

impl State {
    /// The state of an empty store: etcd's first revision is 1, and the first write makes 2.
    pub(crate) fn empty() -> Self {
        Self {
            index: index::Index::default(),
            log: log::EventLog::new(2),
            revision: 1,
            published: 1,
            compacted: -1,
            stopped: false,
        }
    }

    /// Forgets versions that are superseded at or before `at`. The caller has checked `at`.
    pub(crate) fn compact(&mut self, at: i64) {
        let from = self.compacted.max(0);
        self.compacted = at;
        for (_, changes) in self.log.between(from, at) {
            for change in changes.iter() {
                self.index.compact_key(&change.kv.key, at);
            }
        }
        self.log.trim(at, self.published);
    }
}
