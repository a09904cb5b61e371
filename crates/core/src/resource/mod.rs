//! Resource sets: what a loop may touch, whether two sets overlap, and who holds what.
//!
//! An entry is `scheme:path`. A path is a sequence of segments; each segment is literal, has `*` in
//! it (any run of characters, also none, within this one segment), is `*` (any one segment), or is a
//! trailing `**` (one or more further segments). So `src/**` covers everything below `src` and not
//! a file named `src`. No other character is special: `[id].ts` means just that.
//!
//! Overlap is decided exactly, on the languages of paths: two entries overlap if and only if some
//! path matches both. Resources belong to the whole cluster, not to a namespace.

mod entry;
mod index;
mod paths;
mod repo;
mod segment;
mod set;
#[cfg(test)]
mod tests;

pub use entry::{ENTRY_BYTES_MAX, Entry, EntryProblem, SCHEME_BYTES_MAX, SEGMENTS_MAX};
pub use index::{Blocker, ClaimIndex};
pub use paths::{PINS_MAX, PathSet, PinSet};
pub use repo::{InvalidRepository, RepoId, canonical_repo_id};
pub use segment::{Glob, SEGMENT_BYTES_MAX, Segment};
pub use set::{ENTRIES_MAX, EntryError, ResourceSet};
