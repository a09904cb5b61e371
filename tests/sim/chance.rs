//! Chance from a seed: one stream per purpose, so that a change in one place does not shift the others.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

/// A stream of random numbers (SplitMix64).
pub(crate) struct Chance(Mutex<u64>);

impl Chance {
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        // Keys of this hasher are fixed, so it is the same in every process.
        let mut hasher = DefaultHasher::new();
        (seed, purpose).hash(&mut hasher);
        Self(Mutex::new(hasher.finish()))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut state = self.0.lock().expect("nobody panics inside");
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True this often in a hundred.
    pub(crate) fn percent(&self, share: u64) -> bool {
        self.between(1, 100) <= share
    }

    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        let index = usize::try_from(self.next() % of.len() as u64).expect("fits");
        &of[index]
    }

    pub(crate) fn share(&self) -> f64 {
        self.between(0, 999_999) as f64 / 1e6
    }
}
