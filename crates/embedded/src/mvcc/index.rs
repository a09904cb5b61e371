//! Key histories: which version of a key is current at a revision.

use super::{Kv, span::Span};
use std::collections::BTreeMap;

/// One entry of a key's history.
#[derive(Clone, Debug)]
struct Version {
    revision: i64,
    /// `None`: the key was deleted.
    kv: Option<Kv>,
}

/// All histories since the last compaction, ordered by key.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
}

/// Newest version at or before `at`, if the key exists then.
fn version_at(history: &[Version], at: i64) -> Option<&Kv> {
    // Almost every read asks for the newest version, so look from the end.
    history.iter().rev().find(|version| version.revision <= at)?.kv.as_ref()
}

impl Index {
    /// The key's version at revision `at`.
    pub(crate) fn get(&self, key: &[u8], at: i64) -> Option<&Kv> {
        version_at(self.keys.get(key)?, at)
    }

    /// Versions at revision `at` of all keys of the span, in key order.
    pub(crate) fn range<'a>(&'a self, span: Span<'a>, at: i64) -> impl Iterator<Item = &'a Kv> {
        let histories = span.bounds().map(|bounds| self.keys.range::<[u8], _>(bounds));
        histories.into_iter().flatten().filter_map(move |(_, history)| version_at(history, at))
    }

    /// Appends a version. Revisions never fall; a second version of the same revision replaces the
    /// first for all later readers.
    pub(crate) fn push(&mut self, key: &[u8], revision: i64, kv: Option<Kv>) {
        let version = Version { revision, kv };
        match self.keys.get_mut(key) {
            Some(history) => history.push(version),
            None => {
                self.keys.insert(key.to_vec(), vec![version]);
            }
        }
    }

    /// Drops what nobody can read any more once revisions below `at` are gone.
    pub(crate) fn compact_key(&mut self, key: &[u8], at: i64) {
        let Some(history) = self.keys.get_mut(key) else { return };
        let known = history.iter().take_while(|version| version.revision <= at).count();
        // The newest version at or before `at` stays readable, unless it is a deletion.
        let keep = known.saturating_sub(1);
        let dead = known > 0 && history[keep].kv.is_none();
        history.drain(..if dead { known } else { keep });
        if history.is_empty() {
            self.keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_client::proto::PbKeyValue;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn kv(revision: i64) -> Kv {
        Arc::new(PbKeyValue { mod_revision: revision, ..Default::default() })
    }

    proptest! {
        /// Compaction changes no answer at or after its revision, and keeps nothing needless.
        #[test]
        fn compaction_changes_no_later_answer(
            writes in prop::collection::vec((0_u8..4, any::<bool>()), 1..60),
            at in 0_i64..60,
        ) {
            let mut whole = Index::default();
            let revisions = i64::try_from(writes.len()).unwrap();
            for (revision, (key, delete)) in (1..).zip(&writes) {
                // Deleting a key that is not there makes no version, as in the server.
                if !delete || whole.get(&[*key], revision).is_some() {
                    whole.push(&[*key], revision, (!delete).then(|| kv(revision)));
                }
            }
            let at = at.min(revisions);
            let mut compacted = Index { keys: whole.keys.clone() };
            for key in 0_u8..4 {
                compacted.compact_key(&[key], at);
            }
            for revision in at..=revisions {
                for key in 0_u8..4 {
                    prop_assert_eq!(compacted.get(&[key], revision), whole.get(&[key], revision));
                }
            }
            for history in compacted.keys.values() {
                let old = history.iter().filter(|version| version.revision <= at).count();
                prop_assert!(old <= 1 && !history.is_empty());
                prop_assert!(history[0].revision > at || history[0].kv.is_some());
            }
        }
    }
}
