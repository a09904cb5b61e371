//! Entries of the audit trail, chained: each holds the hash of the one before, so that an entry that was
//! changed, taken out or put in shows.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest reason that is kept, in characters: a refusal says all it has to in a few lines.
const REASON_CHARS_MAX: usize = 400;
/// What the first entry of all holds as the hash of the one before.
pub const BEFORE_ALL: &str = "0";

/// One call that changed something, or was to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditEntry {
    /// 1, 2, 3, … without gaps.
    pub number: u64,
    /// Random, to tell whether it was written.
    pub id: String,
    /// When the call was answered.
    pub at: Timestamp,
    /// The caller.
    pub who: String,
    /// Where the call came from.
    pub from: String,
    /// What was done.
    pub verb: String,
    /// To what kind of thing.
    pub kind: String,
    /// In which namespace; empty for none or all.
    pub namespace: String,
    /// To which.
    pub name: String,
    /// `Ok`, or the code of the error.
    pub result: String,
    /// Why it was refused or failed; empty if it was done.
    pub reason: String,
    /// The caller's trace, if it named one.
    pub trace: String,
    /// The scheduler that answered.
    pub scheduler: String,
    /// How many further calls, the same in everything, this entry stands for.
    #[serde(skip_serializing_if = "is_zero")]
    pub repeated: u64,
    /// Hash of the entry before, as it is kept.
    pub previous: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl AuditEntry {
    /// With a reason, clipped.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.reason = reason.chars().take(REASON_CHARS_MAX).collect();
        self
    }
}

/// Where the chain begins and ends. It is kept beside the entries and written with each of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainHead {
    /// Number of the oldest entry that is kept.
    pub first: u64,
    /// The hash that it holds of the one before it.
    pub before_first: String,
    /// Number of the entry to come.
    pub next: u64,
    /// Hash of the newest entry.
    pub last: String,
}

impl Default for ChainHead {
    fn default() -> Self {
        Self { first: 1, before_first: BEFORE_ALL.to_owned(), next: 1, last: BEFORE_ALL.to_owned() }
    }
}

/// The hash of an entry as it is kept.
pub fn entry_hash(kept: &[u8]) -> String {
    Sha256::digest(kept).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// An entry is missing, or one is there twice.
    #[error("entry {expected} is missing: the next one found is {found}")]
    Missing {
        /// The number that should have come.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// An entry does not fit the one before it.
    #[error("entry {number} does not hold the hash of the one before: one of the two was changed")]
    Changed {
        /// Its number.
        number: u64,
    },
    /// An entry cannot be read.
    #[error("entry {number} cannot be read")]
    Unreadable {
        /// The number in its key.
        number: u64,
    },
    /// The newest entries do not fit the head.
    #[error(
        "the trail ends with entry {found}, but its head says {expected}, or the last one was changed"
    )]
    End {
        /// The last number by the head.
        expected: u64,
        /// The last one found.
        found: u64,
    },
}

/// Walks along a chain, oldest entry first.
#[derive(Debug, Clone)]
pub struct ChainWalk {
    head: ChainHead,
    next: u64,
    previous: String,
}

impl ChainWalk {
    /// A walk along what a head says there is.
    pub fn new(head: ChainHead) -> Self {
        let (next, previous) = (head.first, head.before_first.clone());
        Self { head, next, previous }
    }

    /// The next entry, as it is kept under a number.
    ///
    /// # Errors
    /// [`Broken`] at the first fault.
    pub fn step(
        &mut self,
        number: u64,
        kept: &[u8],
        read: Option<&AuditEntry>,
    ) -> Result<(), Broken> {
        if number != self.next {
            return Err(Broken::Missing { expected: self.next, found: number });
        }
        let Some(read) = read else { return Err(Broken::Unreadable { number }) };
        if read.number != number || read.previous != self.previous {
            return Err(Broken::Changed { number });
        }
        self.next += 1;
        self.previous = entry_hash(kept);
        Ok(())
    }

    /// The hash of the entry passed last.
    pub fn hash(&self) -> &str {
        &self.previous
    }

    /// After the last entry: how many there were.
    ///
    /// # Errors
    /// [`Broken::End`] when the head says otherwise.
    pub fn end(self) -> Result<u64, Broken> {
        if self.next != self.head.next || self.previous != self.head.last {
            let (expected, found) = (self.head.next.saturating_sub(1), self.next.saturating_sub(1));
            return Err(Broken::End { expected, found });
        }
        Ok(self.next - self.head.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: u64) -> (ChainHead, Vec<Vec<u8>>) {
        let mut head = ChainHead::default();
        let mut kept = Vec::new();
        for number in 1..=count {
            let (who, previous) = (format!("user:u{number}"), head.last.clone());
            let entry = AuditEntry { number, who, previous, ..AuditEntry::default() };
            kept.push(serde_json::to_vec(&entry).unwrap());
            head.last = entry_hash(kept.last().unwrap());
            head.next += 1;
        }
        (head, kept)
    }

    fn walk(head: ChainHead, kept: &[(u64, Vec<u8>)]) -> Result<u64, Broken> {
        let mut walk = ChainWalk::new(head);
        for (number, bytes) in kept {
            walk.step(*number, bytes, serde_json::from_slice(bytes).ok().as_ref())?;
        }
        walk.end()
    }

    fn numbered(kept: Vec<Vec<u8>>) -> Vec<(u64, Vec<u8>)> {
        (1..).zip(kept).collect()
    }

    #[test]
    fn an_entry_says_why_within_bounds_and_how_often_only_if_it_was_more_than_once() {
        let long = "x".repeat(REASON_CHARS_MAX + 1);
        let entry = AuditEntry { number: 7, ..AuditEntry::default() }.because(&long);
        assert_eq!((entry.number, entry.reason.len()), (7, REASON_CHARS_MAX));
        let once = serde_json::to_value(&entry).unwrap();
        assert_eq!(once.get("repeated"), None);
        let often = serde_json::to_value(AuditEntry { repeated: 2, ..entry }).unwrap();
        assert_eq!(often["repeated"], 2);
    }

    #[test]
    fn a_walk_tells_the_hash_that_it_has_come_to() {
        let (head, kept) = chain(2);
        let mut walk = ChainWalk::new(head.clone());
        for (number, bytes) in numbered(kept) {
            walk.step(number, &bytes, serde_json::from_slice(&bytes).ok().as_ref()).unwrap();
        }
        assert_eq!(walk.hash(), head.last);
    }

    #[test]
    fn a_whole_chain_holds_and_every_change_shows() {
        let (head, kept) = chain(5);
        let kept = numbered(kept);
        assert_eq!(walk(head.clone(), &kept), Ok(5));
        for index in 0..5 {
            let mut changed = kept.clone();
            let text = String::from_utf8(changed[index].1.clone()).unwrap();
            changed[index].1 = text.replace("user:u", "user:x").into_bytes();
            assert!(walk(head.clone(), &changed).is_err(), "{index}");
            let mut missing = kept.clone();
            missing.remove(index);
            assert!(walk(head.clone(), &missing).is_err(), "{index}");
        }
        let mut more = kept.clone();
        more.push((6, kept[4].1.clone()));
        assert!(walk(head.clone(), &more).is_err());
        // The oldest ones may be dropped when the head says so.
        let second: AuditEntry = serde_json::from_slice(&kept[1].1).unwrap();
        let trimmed = ChainHead { first: 2, before_first: second.previous, ..head };
        assert_eq!(walk(trimmed, &kept[1..]), Ok(4));
    }
}
