//! The cases of one output, and the memory of those seen before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fnv1a;

/// Most cases told apart by name per check, in one output and in the memory (of 8 bytes each and its
/// name): more than all but a few test suites have. The rest is counted without names.
pub const CASES_MAX: usize = 20_000;

/// Longest name shown for a case, bytes. Longer ones are still told apart.
pub const CASE_NAME_BYTES_MAX: usize = 200;

/// What one output says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cases {
    pub(super) passed: BTreeSet<String>,
    pub(super) failed: BTreeSet<String>,
    /// Counted without a name.
    pub(super) nameless_passed: u64,
    pub(super) nameless_failed: u64,
    /// How many of the nameless are named cases whose line was garbled: they may be any of those
    /// that seem to be gone.
    pub(super) garbled: u64,
}

impl Cases {
    pub(super) fn add(&mut self, name: &str, passed: bool) {
        let name = shown_name(name);
        if !passed {
            self.passed.remove(&name);
        } else if self.failed.contains(&name) {
            return;
        }
        let full = self.passed.len() + self.failed.len() >= CASES_MAX;
        let set = if passed { &mut self.passed } else { &mut self.failed };
        if !full || set.contains(&name) {
            set.insert(name);
        } else {
            self.add_nameless(u64::from(passed), u64::from(!passed));
        }
    }

    pub(super) fn add_nameless(&mut self, passed: u64, failed: u64) {
        self.nameless_passed = self.nameless_passed.saturating_add(passed);
        self.nameless_failed = self.nameless_failed.saturating_add(failed);
    }

    pub(super) fn passed_count(&self) -> u64 {
        self.nameless_passed.saturating_add(self.passed.len() as u64)
    }

    pub(super) fn failed_count(&self) -> u64 {
        self.nameless_failed.saturating_add(self.failed.len() as u64)
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.passed.iter().chain(&self.failed)
    }

    /// Nameless cases that really have no name.
    fn nameless(&self) -> u64 {
        let all = self.nameless_passed.saturating_add(self.nameless_failed);
        all.saturating_sub(self.garbled)
    }
}

/// Cuts a long name and ends it with its hash, so that names with a long common start stay apart.
fn shown_name(name: &str) -> String {
    let name: String = name.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if name.len() <= CASE_NAME_BYTES_MAX {
        return name;
    }
    let hash = fnv1a(name.as_bytes());
    let mut end = CASE_NAME_BYTES_MAX - 20;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…{hash:016x}", &name[..end])
}

/// The cases ever seen, per check. As JSON it is 16 characters per case; names are kept only in
/// memory, so after a takeover cases that are gone are counted but not named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CaseMemory {
    checks: BTreeMap<String, Seen>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Seen {
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    cases: BTreeMap<u64, String>,
    /// Most cases without a name seen at once.
    nameless: u64,
}

/// How an output differs from all that was seen before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Passed cases that were never seen; zero when nothing was seen before.
    pub(super) new_passed: u64,
    /// Cases seen before that are not there now.
    pub(super) gone: u64,
    /// Those of the gone whose names are known for certain.
    pub(super) gone_names: Vec<String>,
}

impl CaseMemory {
    /// Cases remembered for a check.
    pub fn cases_seen(&self, check: &str) -> u64 {
        let seen = self.checks.get(check);
        seen.map_or(0, |seen| seen.nameless.saturating_add(seen.cases.len() as u64))
    }

    /// Forgets checks that are not declared any more.
    pub fn retain_checks(&mut self, declared: impl Fn(&str) -> bool) {
        self.checks.retain(|name, _| declared(name));
    }

    /// Compares with all that was seen before, then adds what is there.
    pub(super) fn update(&mut self, check: &str, cases: &Cases) -> Difference {
        if !self.checks.contains_key(check) {
            self.checks.insert(check.to_owned(), Seen::default());
        }
        self.checks.get_mut(check).map(|seen| seen.update(cases)).unwrap_or_default()
    }
}

impl Seen {
    fn update(&mut self, cases: &Cases) -> Difference {
        let first = self.cases.is_empty() && self.nameless == 0;
        let present: BTreeMap<u64, &String> =
            cases.names().map(|name| (fnv1a(name.as_bytes()), name)).collect();
        let missing = self.cases.iter().filter(|(hash, _)| !present.contains_key(hash));
        let missing: Vec<&String> = missing.map(|(_, name)| name).collect();
        let gone_named = (missing.len() as u64).saturating_sub(cases.garbled);
        let gone_nameless = self.nameless.saturating_sub(cases.nameless());
        let mut difference = Difference {
            new_passed: if first { 0 } else { self.new_passed(cases) },
            gone: gone_named.saturating_add(gone_nameless),
            gone_names: Vec::new(),
        };
        if cases.garbled == 0 {
            let known = missing.into_iter().filter(|name| !name.is_empty());
            difference.gone_names = known.cloned().collect();
        }
        self.nameless = self.nameless.max(cases.nameless());
        for (hash, name) in present {
            if self.cases.len() < CASES_MAX || self.cases.contains_key(&hash) {
                self.cases.insert(hash, name.clone());
            }
        }
        difference
    }

    fn new_passed(&self, cases: &Cases) -> u64 {
        let unseen = |name: &&String| !self.cases.contains_key(&fnv1a(name.as_bytes()));
        let named = cases.passed.iter().filter(unseen).count() as u64;
        let nameless = cases.nameless().saturating_sub(self.nameless).min(cases.nameless_passed);
        named.saturating_add(nameless)
    }
}

fn to_hex<S: Serializer>(cases: &BTreeMap<u64, String>, to: S) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(cases.len() * 16);
    for hash in cases.keys() {
        let _ = write!(text, "{hash:016x}");
    }
    to.serialize_str(&text)
}

fn from_hex<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<u64, String>, D::Error> {
    let text = String::deserialize(from)?;
    let parts = text.as_bytes().chunks(16).take(CASES_MAX);
    let hash = |part: &[u8]| {
        let part = std::str::from_utf8(part).ok().filter(|part| part.len() == 16);
        part.and_then(|part| u64::from_str_radix(part, 16).ok())
    };
    parts
        .map(|part| hash(part).map(|hash| (hash, String::new())))
        .collect::<Option<_>>()
        .ok_or_else(|| serde::de::Error::custom("not a list of case hashes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_its_start_up_to_a_characters_edge_and_ends_in_its_hash() {
        let exact = "n".repeat(CASE_NAME_BYTES_MAX);
        assert_eq!(shown_name(&exact), exact);
        let start = CASE_NAME_BYTES_MAX - 20;
        for pad in 0..4 {
            // Four bytes each, so that the cut falls into the middle of one for most of the pads.
            let name = "n".repeat(pad) + &"\u{1F980}".repeat(CASE_NAME_BYTES_MAX);
            let shown = shown_name(&name);
            let (kept, hash) = shown.split_once('…').unwrap();
            assert!(kept.len() <= start && kept.len() + 4 > start, "{pad}: {}", kept.len());
            assert!(name.starts_with(kept));
            assert_eq!(hash, format!("{:016x}", fnv1a(name.as_bytes())));
        }
    }

    #[test]
    fn exactly_as_many_cases_are_remembered_as_are_allowed() {
        let mut seen = Seen::default();
        let hashes = 0..CASES_MAX as u64 - 1;
        seen.cases = hashes.map(|hash| (hash, String::new())).collect();
        let passed = ["one", "two", "three"].map(str::to_owned);
        let cases = Cases { passed: passed.into_iter().collect(), ..Cases::default() };
        seen.update(&cases);
        assert_eq!(seen.cases.len(), CASES_MAX);
    }
}
