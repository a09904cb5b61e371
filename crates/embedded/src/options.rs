//! What an embedded server can be told at start, with the reasons for the defaults.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a server.
#[derive(Debug)]
pub struct Options {
    /// Directory of the store; it is created with mode 0700. `None` keeps everything in memory.
    pub path: Option<PathBuf>,
    /// Storage to use in place of a file under `path`; for crash tests.
    pub backend: Option<Box<dyn redb::StorageBackend>>,
    /// Leases are granted at least this TTL, in seconds. 2, as in etcd with its default election
    /// timeout of 1 s, so that nothing works here that would not work on a real cluster.
    pub lease_ttl_seconds_min: i64,
    /// Revisions that stay readable before compaction happens by itself. 100 000 is hours of a busy
    /// control plane: far longer than any reader or watch stays away, and tens of MB at most.
    pub history_revisions_max: i64,
    /// Bytes of keys and values that history may hold before it is compacted by itself. 64 MiB, so
    /// that few large values cannot take the memory that many small ones were meant to have.
    pub history_bytes_max: usize,
    /// How often a watch that asked for progress hears about it when nothing happens. etcd's
    /// default is 10 min.
    pub progress_interval: Duration,
    /// Commands that may wait for the writer before new ones are refused with etcd's "too many
    /// requests". 8192 is over a hundred full batches of the committer, so a correct client never
    /// meets it, while it bounds the memory of one that does not wait for its answers.
    pub queue_max: usize,
    /// URLs under which this server can be reached; shown in the member list.
    pub client_urls: Vec<String>,
    /// Where the server's own choices of identifiers start; `None` is random. For simulation.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: None,
            backend: None,
            lease_ttl_seconds_min: 2,
            history_revisions_max: 100_000,
            history_bytes_max: 64 << 20,
            progress_interval: Duration::from_secs(600),
            queue_max: 8192,
            client_urls: Vec::new(),
            seed: None,
        }
    }
}

impl Options {
    /// A store in a directory, defaults otherwise.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..Self::default() }
    }

    /// A store in memory, defaults otherwise.
    pub fn in_memory() -> Self {
        Self::default()
    }
}

/// Bytes of one request (etcd's default): 1.5 MiB.
pub(crate) const REQUEST_BYTES_MAX: usize = 3 << 19;

/// Commands of one commit. Bounds how long the first of them waits for the rest to be applied.
pub(crate) const BATCH_COMMANDS_MAX: usize = 1024;

/// Leases that one batch ends by itself; etcd's own rate is 500 per scan. The rest follow in the
/// next batch, so a mass expiry cannot block writes.
pub(crate) const EXPIRIES_PER_BATCH_MAX: usize = 500;

/// History may exceed its bound in revisions by this fraction before it is compacted: compaction in
/// steps costs a millisecond now and then, not a second once a day.
pub(crate) const COMPACTION_STEPS: i64 = 100;

/// Rows of compacted history that may lie in the log of a store that is never quiet. Folding 64 of
/// them costs one more sync, so under full load it takes one or two per cent.
pub(crate) const FOLDABLE_ROWS_MAX: usize = 256;
