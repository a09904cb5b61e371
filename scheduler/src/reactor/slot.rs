//! One key of the store as the reactor knows it: its value and the revision it is known at, so that
//! news may arrive in any order (a commit's answer, the watch, a snapshot) and the newest stays.

use flyball_store::Stored;

/// What is known of one key. The default knows nothing and accepts everything.
#[derive(Debug, Clone)]
pub(super) struct Slot<T> {
    value: Option<Stored<T>>,
    revision: i64,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { value: None, revision: 0 }
    }
}

impl<T> Slot<T> {
    /// Takes news of `revision`; false if something as new was known already.
    pub(super) fn apply(&mut self, value: Option<Stored<T>>, revision: i64) -> bool {
        if revision <= self.revision {
            return false;
        }
        self.value = value;
        self.revision = revision;
        true
    }

    /// Takes a listing made at `revision`: what it does not contain is gone, unless this slot knows
    /// of something newer.
    pub(super) fn reset(&mut self, value: Option<Stored<T>>, revision: i64) {
        if self.revision <= revision {
            self.revision = revision;
            self.value = value;
        }
    }

    /// The value with its revisions.
    pub(super) fn stored(&self) -> Option<&Stored<T>> {
        self.value.as_ref()
    }

    /// The value.
    pub(super) fn get(&self) -> Option<&T> {
        self.value.as_ref().map(|stored| &stored.value)
    }

    /// The revision it is known at, 0 if nothing is known.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// Revision of the last put, 0 if there is no value: what a write has to compare.
    pub(super) fn mod_revision(&self) -> i64 {
        self.value.as_ref().map_or(0, |stored| stored.mod_revision)
    }

    /// Create revision of the value, 0 if there is none.
    pub(super) fn create_revision(&self) -> i64 {
        self.value.as_ref().map_or(0, |stored| stored.create_revision)
    }

    /// True when nothing is left to remember: no value, and everything up to `seen` has arrived, so
    /// that no older news can bring the value back.
    pub(super) fn is_forgettable(&self, seen: i64) -> bool {
        self.value.is_none() && self.revision <= seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(value: u8, revision: i64) -> Option<Stored<u8>> {
        Some(Stored { value, mod_revision: revision, create_revision: revision, lease: 0 })
    }

    #[test]
    fn older_news_never_wins() {
        let mut slot = Slot::default();
        assert!(slot.apply(stored(1, 5), 5));
        assert!(slot.apply(None, 7));
        assert!(!slot.apply(stored(1, 5), 5), "the watch repeats what a commit's answer told");
        assert_eq!(slot.get(), None);
        assert!(!slot.is_forgettable(6));
        assert!(slot.is_forgettable(7));
    }

    #[test]
    fn a_listing_replaces_only_what_is_not_newer() {
        let mut slot = Slot::default();
        slot.apply(stored(1, 9), 9);
        slot.reset(None, 8);
        assert_eq!(slot.get(), Some(&1));
        slot.reset(None, 9);
        assert_eq!(slot.get(), None);
    }
}
