//! Subject lines of journal commits: `git log` on a journal reads as the loop's story.

use flyball_core::record::{Decision, JournalEntry, JournalRecord};

/// Longest subject in characters; what terminals show in one line.
const SUBJECT_CHARS_MAX: usize = 120;

/// One line for people.
pub(super) fn subject(record: &JournalRecord) -> String {
    let text = match &record.entry {
        JournalEntry::Takeover { base } => {
            format!("{} takes over with token {} on {}", record.node, record.token, short(base))
        }
        JournalEntry::SealedByOther { by } => {
            format!("sealed with token {} by loop {by}", record.token)
        }
        JournalEntry::Iteration(iteration) => {
            let decision = match iteration.decision {
                Decision::Kept => "kept",
                Decision::Reverted => "reverted",
                Decision::Refused => "refused",
                Decision::Unchanged => "unchanged",
            };
            format!("iteration {} {decision}: {}", iteration.number, iteration.reason)
        }
        JournalEntry::Rebased { base, checkpoint, .. } => {
            format!("rebased onto {} as {}", short(base), short(checkpoint))
        }
        JournalEntry::Published { commit, reference } => {
            format!("published {} to {reference}", short(commit))
        }
        JournalEntry::Ended { outcome } => {
            format!("ended {:?}: {}", outcome.phase, outcome.message)
        }
    };
    // A subject is one line; reasons may quote anything.
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= SUBJECT_CHARS_MAX {
        return line;
    }
    line.chars().take(SUBJECT_CHARS_MAX - 1).chain(['…']).collect()
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}
