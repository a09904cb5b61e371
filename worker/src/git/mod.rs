//! Git for runs: hostile-repository-safe calls, a cache per remote, a private repository per run,
//! snapshots, rebases, a fresh clone for the proof, and the journal that fences every push.
//!
//! # One run, in order
//! ```text
//! Git::new(settings)                        once per worker
//! Caches::new(git, data/cache)              once per worker
//!
//! cache = caches.open(repo id, url)         per run
//! base  = cache.resolve("main")             full ref name, once: MissingRef -> Failed
//! f = cache.fetch(Some(base), Some(&refs))  base commit, journal tip; Unreachable -> Parked
//! repo  = RunRepo::create(&cache, run dir)
//! journal = Journal::at(&repo, &refs, f.journal)     last record, checkpoint() of earlier runs
//! journal.seal(&owner, &base)               Fenced -> this owner is too old: stop
//!
//! loop:                                     one iteration
//!   cache.fetch(Some(base), None)           base moved? repo.rebase(old, checkpoint, new)
//!   repo.checkout(Verify, checkpoint, KeepIgnored)     observe: run the checks there
//!   repo.checkout(Work, checkpoint, KeepIgnored); repo.lend_git(Work, checkpoint)
//!   …agent acts in Work and is proven to have ended…
//!   snap = repo.snapshot(base tree)         snap.refused + check_bounds(…) -> violations
//!   tree = repo.restore_pins(&snap.tree, &base tree, pins)
//!   repo.checkout(Verify, tree, KeepIgnored)           run the checks there
//!   kept: commit = repo.commit_tree(tree, [checkpoint], message, now)
//!         journal.append(&owner, Iteration, [run ref: old checkpoint -> commit])
//!   reverted: journal.append(&owner, Iteration, [])
//!
//! distance 0:
//!   repo.final_clone(commit, restored tree) checks there decide
//!   journal.find_published(commit, generation) after a takeover
//!   journal.append(&owner, Published, [publish branch: expected old -> commit])
//!                                           PublishMoved -> observe the new tip again
//! journal.append(&owner, Ended, [])
//! ```
//! Calls are cancelled by dropping their future, which kills git and what it started. Only an
//! `append` that was cancelled leaves something open: whether it was applied. Open the journal
//! again then.
//!
//! There is no push that does not append to the journal.

mod cache;
mod commit;
mod diff;
mod error;
mod files;
mod final_clone;
mod journal;
mod journal_ref;
mod loose;
mod objects;
mod oid;
mod others;
mod push;
mod rebase;
mod repo;
mod runner;
mod scopes;
mod snapshot;
mod subject;
mod upkeep;

pub use cache::{Cache, Caches, Fetched};
pub use diff::{Change, ChangeKind, check_bounds, diff_stat};
pub use error::{GitError, JournalError};
pub(crate) use files::remove_any;
pub use journal::{Appended, Journal, Owner, RECORDS_MAX};
pub use journal_ref::{DEFAULT_PREFIX, FALLBACK_PREFIX, LoopRefs};
pub use oid::Oid;
pub use others::Other;
pub use push::{Doubt, RefUpdate};
pub use rebase::Rebased;
pub use repo::{Found, Leftovers, Place, RunRepo};
pub use runner::{Git, GitSettings, IDENTITY_EMAIL, IDENTITY_NAME};
pub(crate) use scopes::{ignored_dirs, real_dir};
pub use snapshot::{
    SNAPSHOT_BYTES_MAX, SNAPSHOT_FILE_BYTES_MAX, SNAPSHOT_PATHS_MAX, Snapshot, VIOLATIONS_MAX,
};

#[cfg(test)]
mod tests;
