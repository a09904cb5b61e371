//! What a commit of the journal holds.

use flyball_core::record::{JournalEntry, JournalRecord};

use super::error::JournalError;
use super::oid::Oid;

/// A record from the body of its commit.
pub(super) fn parse(commit: &str, body: &str, tip: &Oid) -> Result<JournalRecord, JournalError> {
    serde_json::from_str(body).map_err(|error| JournalError::Corrupt {
        commit: commit.trim().parse().unwrap_or_else(|_| tip.clone()),
        message: error.to_string(),
    })
}

/// The checkpoint that a record vouches for.
pub(super) fn checkpoint_of(entry: &JournalEntry) -> Option<Oid> {
    let text = match entry {
        JournalEntry::Iteration(iteration) => iteration.checkpoint.as_ref()?,
        JournalEntry::Rebased { checkpoint, .. } => checkpoint,
        JournalEntry::Published { commit, .. } => commit,
        _ => return None,
    };
    text.parse().ok()
}
