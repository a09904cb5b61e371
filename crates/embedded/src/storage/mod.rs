//! The durable form of the state in redb.
//!
//! `log` holds the changes of every revision since some point before the last compaction, one row
//! per commit; `base` holds what the rows folded away before that amounted to. Opening reads
//! `base`, then applies `log`. Compaction only writes its revision; rows are folded into `base`
//! later, a few at a time, because a row that lives a little longer harms nobody.

mod backend;
mod rows;

use crate::error::{OpenError, storage};
use crate::lease::LeaseChange;
use crate::mvcc::{Kv, State, log::EventLog};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// First revision of a commit to its changes.
const LOG: TableDefinition<'_, i64, &[u8]> = TableDefinition::new("log");
/// Key to its version as of the folded rows.
const BASE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("base");
/// Lease to its TTL in seconds.
const LEASES: TableDefinition<'_, i64, i64> = TableDefinition::new("leases");

/// Format of the tables; a higher number in the file is refused.
const FORMAT: u64 = 1;
const FORMAT_KEY: &str = "format";
const COMPACTED_KEY: &str = "compacted";
const MEMBER_KEY: &str = "member";

/// Rows folded per step: keeps the pause between two commits at about a millisecond.
const FOLD_ROWS_MAX: usize = 64;

/// Name of the file in the store's directory.
pub(crate) const FILE: &str = "store.redb";

type Result<T> = std::result::Result<T, Box<redb::Error>>;

/// An open database. Of one process only: redb locks the file.
#[derive(Debug)]
pub(crate) struct Storage {
    db: Database,
    compacted: i64,
    /// First revisions of the rows that are in `log`.
    rows: VecDeque<i64>,
}

/// What was found in a database.
pub(crate) struct Found {
    pub(crate) state: State,
    pub(crate) leases: BTreeMap<i64, i64>,
    pub(crate) member: u64,
}

/// What one commit writes.
pub(crate) struct Commit<'a> {
    pub(crate) state: &'a State,
    /// Newest revision of the commit before.
    pub(crate) after: i64,
    pub(crate) leases: BTreeMap<i64, LeaseChange>,
}

/// Pages that redb may cache: little, since nothing is read from it once it is open.
const CACHE_BYTES: usize = 8 << 20;

fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Opens or makes the database file in a directory.
pub(crate) fn open_file(path: &Path) -> std::result::Result<Database, OpenError> {
    let directory = |source| OpenError::Directory { path: path.to_owned(), source };
    let mut maker = std::fs::DirBuilder::new();
    maker.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut maker, 0o700);
    maker.create(path).map_err(directory)?;
    builder().create(path.join(FILE)).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.to_owned() },
        DatabaseError::Storage(redb::StorageError::Io(source)) => directory(source),
        other => OpenError::Storage(storage(other)),
    })
}

/// Opens a database on any storage.
pub(crate) fn open_backend(
    backend: Box<dyn redb::StorageBackend>,
) -> std::result::Result<Database, OpenError> {
    builder()
        .create_with_backend(backend::Boxed(backend))
        .map_err(|error| OpenError::Storage(storage(error)))
}

impl Storage {
    /// Reads what a database holds. `member` identifies a database that is new.
    pub(crate) fn load(db: Database, member: u64) -> std::result::Result<(Self, Found), OpenError> {
        let (format, compacted, member) = initialise(&db, member)?;
        if format > FORMAT {
            return Err(OpenError::Format { found: format, known: FORMAT });
        }
        let read = db.begin_read().map_err(storage)?;
        let mut state = State::empty();
        let base = read.open_table(BASE).map_err(storage)?;
        for row in base.iter().map_err(storage)? {
            let (key, value) = row.map_err(storage)?;
            let kv: Kv = Arc::new(rows::decode_kv(value.value())?);
            state.index.push(key.value(), kv.mod_revision, Some(kv));
        }
        let rows = replay(&read.open_table(LOG).map_err(storage)?, &mut state)?;
        let mut leases = BTreeMap::new();
        let table = read.open_table(LEASES).map_err(storage)?;
        for row in table.iter().map_err(storage)? {
            let (id, ttl) = row.map_err(storage)?;
            leases.insert(id.value(), ttl.value());
        }
        drop((base, table, read));
        state.published = state.revision;
        if compacted >= 0 {
            state.compact(compacted);
        }
        Ok((Self { db, compacted, rows }, Found { state, leases, member }))
    }

    /// Writes a commit; when it returns, the commit is durable.
    pub(crate) fn commit(&mut self, commit: Commit<'_>) -> Result<()> {
        let txn = self.db.begin_write().map_err(storage)?;
        if commit.state.revision > commit.after {
            let first = commit.after + 1;
            let row = rows::encode(commit.state.log.between(first, commit.state.revision));
            txn.open_table(LOG).map_err(storage)?.insert(first, &*row).map_err(storage)?;
            self.rows.push_back(first);
        }
        if !commit.leases.is_empty() {
            let mut table = txn.open_table(LEASES).map_err(storage)?;
            for (id, change) in commit.leases {
                match change {
                    LeaseChange::Granted(ttl) => table.insert(id, ttl).map_err(storage)?,
                    LeaseChange::Gone => table.remove(id).map_err(storage)?,
                };
            }
        }
        if commit.state.compacted > self.compacted {
            let compacted = u64::try_from(commit.state.compacted).unwrap_or(0);
            let mut meta = txn.open_table(META).map_err(storage)?;
            meta.insert(COMPACTED_KEY, compacted).map_err(storage)?;
            self.compacted = commit.state.compacted;
        }
        txn.commit().map_err(storage)
    }

    /// Rows that wait to be folded.
    pub(crate) fn foldable(&self) -> usize {
        // The row that holds the compacted revision stays: a watch may start there.
        self.rows.partition_point(|first| *first <= self.compacted).saturating_sub(1)
    }

    /// Folds some rows into `base`, in order.
    pub(crate) fn fold(&mut self) -> Result<()> {
        let txn = self.db.begin_write().map_err(storage)?;
        let rows = self.foldable().min(FOLD_ROWS_MAX);
        for first in self.rows.drain(..rows) {
            fold_row(&txn, first)?;
        }
        txn.commit().map_err(storage)
    }
}

fn fold_row(txn: &WriteTransaction, first: i64) -> Result<()> {
    let mut log = txn.open_table(LOG).map_err(storage)?;
    let mut base = txn.open_table(BASE).map_err(storage)?;
    let Some(row) = log.remove(first).map_err(storage)? else { return Ok(()) };
    let revisions =
        rows::decode(row.value()).map_err(|error| Box::new(redb::Error::Corrupted(error)))?;
    for change in revisions.iter().flatten() {
        let key = change.kv.key.as_slice();
        if change.deleted {
            base.remove(key).map_err(storage)?;
        } else {
            base.insert(key, &*rows::encode_kv(&change.kv)).map_err(storage)?;
        }
    }
    Ok(())
}

/// Makes the tables of a new database; answers format, compacted revision and member id.
fn initialise(db: &Database, member: u64) -> Result<(u64, i64, u64)> {
    let txn = db.begin_write().map_err(storage)?;
    let found = {
        let mut meta = txn.open_table(META).map_err(storage)?;
        let get = |key: &str| -> Result<Option<u64>> {
            Ok(meta.get(key).map_err(storage)?.map(|value| value.value()))
        };
        let (format, compacted, known) = (get(FORMAT_KEY)?, get(COMPACTED_KEY)?, get(MEMBER_KEY)?);
        if format.is_none() {
            meta.insert(FORMAT_KEY, FORMAT).map_err(storage)?;
            meta.insert(MEMBER_KEY, member).map_err(storage)?;
        }
        let compacted = compacted.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1);
        (format.unwrap_or(FORMAT), compacted, known.unwrap_or(member))
    };
    txn.open_table(LOG).map_err(storage)?;
    txn.open_table(BASE).map_err(storage)?;
    txn.open_table(LEASES).map_err(storage)?;
    txn.commit().map_err(storage)?;
    Ok(found)
}

/// Applies the rows of the log; answers their first revisions.
fn replay(
    table: &impl ReadableTable<i64, &'static [u8]>,
    state: &mut State,
) -> std::result::Result<VecDeque<i64>, OpenError> {
    let mut firsts = VecDeque::new();
    for row in table.iter().map_err(storage)? {
        let (first, row) = row.map_err(storage)?;
        let first = first.value();
        if firsts.is_empty() {
            state.log = EventLog::new(first);
            state.revision = first - 1;
        }
        if first != state.revision + 1 {
            let expected = state.revision + 1;
            return Err(OpenError::Damaged(format!("revision {expected} missing before {first}")));
        }
        for changes in rows::decode(row.value()).map_err(OpenError::Damaged)? {
            state.revision += 1;
            for change in &changes {
                let kv = (!change.deleted).then(|| Arc::clone(&change.kv));
                state.index.push(&change.kv.key, state.revision, kv);
            }
            state.log.push(changes);
        }
        firsts.push_back(first);
    }
    Ok(firsts)
}
