//! Random resource sets over a small world of paths, and what they cover, found out by looking at every
//! path: an oracle that shares nothing with the code that decides overlap.

use flyball_core::resource::ResourceSet;
use flyball_core::spec::Access;

use crate::dice::Dice;

const DIRS: [&str; 3] = ["a", "b", "ab"];
const FILES: [&str; 3] = ["0", "1", "10"];
const DIR_PATTERNS: [&str; 5] = ["a", "b", "ab", "*", "a*"];
const FILE_PATTERNS: [&str; 6] = ["0", "1", "10", "*", "1*", "**"];

/// What a loop owns.
pub(crate) struct Owned {
    pub(crate) set: ResourceSet,
    /// Owner keys, exclusive or shared.
    pub(crate) keys: Vec<(bool, String)>,
    /// Paths that it may write, one bit each.
    pub(crate) writes: u16,
    reads: u16,
}

impl Owned {
    pub(crate) fn roll(dice: &mut Dice) -> Self {
        loop {
            let count = 1 + dice.index(2);
            let (mut texts, mut writes, mut reads) = (Vec::new(), 0, 0);
            for _ in 0..count {
                let dir = DIR_PATTERNS[dice.index(DIR_PATTERNS.len())];
                let file = FILE_PATTERNS[dice.index(FILE_PATTERNS.len())];
                let shared = dice.chance(150);
                let bits = if shared { &mut reads } else { &mut writes };
                *bits |= covered(dir, file);
                let mark = if shared { "read " } else { "" };
                texts.push(format!("{mark}git:example.org/r/{dir}/{file}"));
            }
            // Those that overlap in themselves are refused.
            let Ok(set) = ResourceSet::from_canonical(&texts) else { continue };
            if writes != 0 {
                let keys = set.owner_keys();
                let keys = keys.map(|(access, key)| (access == Access::Exclusive, key)).collect();
                return Self { set, keys, writes, reads };
            }
        }
    }

    /// Whether some path is written by one and touched by the other.
    pub(crate) fn clashes(&self, other: &Self) -> bool {
        let mine = self.writes & (other.writes | other.reads);
        mine | (self.reads & other.writes) != 0
    }
}

fn covered(dir: &str, file: &str) -> u16 {
    let mut bits = 0;
    for (i, one) in DIRS.iter().enumerate() {
        for (j, two) in FILES.iter().enumerate() {
            if matches(dir, one) && matches(file, two) {
                bits |= 1 << (i * FILES.len() + j);
            }
        }
    }
    bits
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, _)) => text.starts_with(start),
        None => pattern == text,
    }
}
