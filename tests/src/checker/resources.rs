//! The patterns of a history, each once, and which of them overlap.

use std::collections::BTreeMap;

use super::overlap::Pattern;

/// A pattern's number.
pub(super) type PatternId = usize;

/// One entry of a claimed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    pub(super) pattern: PatternId,
    pub(super) shared: bool,
}

/// Every pattern of a history.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    all: Vec<Pattern>,
    texts: BTreeMap<String, Held>,
    ids: BTreeMap<Pattern, PatternId>,
    /// By head: what overlaps a pattern has a head that begins with its head, or the reverse.
    heads: BTreeMap<String, Vec<PatternId>>,
    /// Patterns that overlap a pattern, itself included; found when first asked for.
    neighbours: BTreeMap<PatternId, Vec<PatternId>>,
}

impl Patterns {
    /// The entry's pattern and access. `None` if it has no scheme.
    pub(super) fn intern(&mut self, text: &str) -> Option<Held> {
        if let Some(held) = self.texts.get(text) {
            return Some(*held);
        }
        let (pattern, shared) = Pattern::parse(text)?;
        let next = self.all.len();
        let id = *self.ids.entry(pattern.clone()).or_insert(next);
        if id == next {
            self.heads.entry(pattern.head()).or_default().push(id);
            self.all.push(pattern);
        }
        let held = Held { pattern: id, shared };
        self.texts.insert(text.to_owned(), held);
        Some(held)
    }

    /// Patterns that overlap this one. To be asked only when all are known.
    pub(super) fn overlapping(&mut self, id: PatternId) -> &[PatternId] {
        if !self.neighbours.contains_key(&id) {
            let found = self.find(id);
            self.neighbours.insert(id, found);
        }
        self.neighbours.get(&id).map_or(&[], Vec::as_slice)
    }

    fn find(&self, id: PatternId) -> Vec<PatternId> {
        let pattern = &self.all[id];
        let head = pattern.head();
        let ends = head.char_indices().filter(|(_, c)| matches!(c, ':' | '/'));
        let shorter = ends.filter_map(|(at, _)| {
            let shorter = &head[..=at];
            (shorter.len() < head.len()).then(|| self.heads.get(shorter)).flatten()
        });
        let longer = self.heads.range(head.clone()..);
        let longer = longer.take_while(|(other, _)| other.starts_with(&head)).map(|(_, ids)| ids);
        let near = shorter.chain(longer).flatten().copied();
        near.filter(|other| self.all[*other].overlaps(pattern)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn neighbours_are_those_of_every_pair(
            texts in proptest::collection::vec(
                "(git|g):(a|b|ab|\\*|a\\*)(/(a|b|ab|\\*|\\*b)){0,3}(/\\*\\*)?", 1..30),
        ) {
            let mut patterns = Patterns::default();
            for text in &texts {
                patterns.intern(text).unwrap();
            }
            for id in 0..patterns.all.len() {
                let wanted: Vec<_> = (0..patterns.all.len())
                    .filter(|other| patterns.all[id].overlaps(&patterns.all[*other]))
                    .collect();
                let mut found = patterns.overlapping(id).to_vec();
                found.sort_unstable();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
