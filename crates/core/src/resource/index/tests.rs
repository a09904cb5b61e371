//! The claim index against brute force over all claims, and what a search costs.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Insert(u8, i64, ResourceSet),
    Remove(u8),
}

fn set() -> impl Strategy<Value = ResourceSet> {
    let segment = prop::sample::select(vec!["a", "b", "ab", "*", "a*", "*b", "*a", "a*b", "é*"]);
    let path = (any::<bool>(), prop::collection::vec(segment, 0..3), any::<bool>());
    let entry = (prop::sample::select(vec!["git", "gpu"]), path, any::<bool>()).prop_map(
        |(scheme, (rooted, mut segments, rest), read)| {
            if rest || segments.is_empty() {
                segments.push("**");
            }
            let root = if rooted { "/" } else { "" };
            let mark = if read { "read " } else { "" };
            format!("{mark}{scheme}:{root}{}", segments.join("/"))
        },
    );
    prop::collection::vec(entry, 1..5).prop_map(|texts| {
        // Entries that conflict with an earlier one of the set are left out.
        let mut kept: Vec<String> = Vec::new();
        for text in texts {
            kept.push(text);
            if ResourceSet::from_canonical(&kept).is_err() {
                kept.pop();
            }
        }
        ResourceSet::from_canonical(&kept).unwrap()
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..12u8, 1..9i64, set()).prop_map(|(id, token, set)| Step::Insert(id, token, set)),
        1 => (0..12u8).prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 0..20)
}

/// Applies the steps to an index and to a plain map.
fn apply(steps: &[Step]) -> (ClaimIndex<u8>, BTreeMap<u8, (i64, ResourceSet)>) {
    let (mut index, mut plain) = (ClaimIndex::new(), BTreeMap::new());
    for step in steps {
        match step {
            Step::Insert(id, token, set) => {
                index.insert(*id, Token(*token), set);
                plain.insert(*id, (*token, set.clone()));
            }
            Step::Remove(id) => assert_eq!(index.remove(id), plain.remove(id).is_some()),
        }
    }
    (index, plain)
}

fn brute_force(
    plain: &BTreeMap<u8, (i64, ResourceSet)>,
    wanted: &ResourceSet,
    conflicts: impl Fn(&Entry, &Entry) -> bool,
) -> Vec<Blocker<u8>> {
    let mut found = Vec::new();
    for (uid, (token, set)) in plain {
        for held in set.entries() {
            for wanted in wanted.entries().iter().filter(|wanted| conflicts(held, wanted)) {
                let (held, wanted) = (held.clone(), wanted.clone());
                found.push(Blocker { uid: *uid, token: Token(*token), held, wanted });
            }
        }
    }
    found.sort();
    found
}

fn sorted(mut blockers: Vec<Blocker<u8>>) -> Vec<Blocker<u8>> {
    blockers.sort();
    blockers
}

proptest! {
    #[test]
    fn blockers_are_those_of_brute_force(steps in steps(), wanted in set()) {
        let (mut index, plain) = apply(&steps);
        prop_assert_eq!(index.len(), plain.len());
        let found = index.blockers(&wanted);
        prop_assert_eq!(sorted(found.clone()), brute_force(&plain, &wanted, Entry::conflicts));
        prop_assert_eq!(index.is_free(&wanted), found.is_empty());
        let two = found.iter().take(2).cloned().collect::<Vec<_>>();
        prop_assert_eq!(index.blockers_up_to(&wanted, 2), two);
        // The order depends on the contents, not on how they came about.
        let mut again = ClaimIndex::new();
        for (id, (token, set)) in plain.iter().rev() {
            again.insert(*id, Token(*token), set);
        }
        prop_assert_eq!(again.blockers(&wanted), found);
        for id in plain.keys() {
            index.remove(id);
        }
        prop_assert!(index.is_empty());
        prop_assert!(index.exclusive.is_empty() && index.shared.is_empty(), "nothing is left");
    }
}

/// The comparison above must be able to fail: with a wrong notion of conflict it does.
#[test]
fn brute_force_with_a_wrong_conflict_is_told_apart() {
    type Conflicts = fn(&Entry, &Entry) -> bool;
    let wrong: [(&str, Conflicts); 3] = [
        ("equal entries only", |held, wanted| held == wanted),
        ("readers conflict too", Entry::overlaps),
        ("only same paths and patterns over them", |held, wanted| {
            held.conflicts(wanted) && held.segments().len() == wanted.segments().len()
        }),
    ];
    for (name, conflicts) in wrong {
        let mut runner = TestRunner::new_with_rng(
            Config { cases: 512, failure_persistence: None, ..Config::default() },
            proptest::test_runner::TestRng::deterministic_rng(
                proptest::test_runner::RngAlgorithm::ChaCha,
            ),
        );
        let outcome = runner.run(&(steps(), set()), |(steps, wanted)| {
            let (index, plain) = apply(&steps);
            let expected = brute_force(&plain, &wanted, conflicts);
            prop_assert_eq!(sorted(index.blockers(&wanted)), expected);
            Ok(())
        });
        assert!(outcome.is_err(), "not told apart: {name}");
    }
}

fn one(entry: &str) -> ResourceSet {
    ResourceSet::from_canonical(&[entry]).unwrap()
}

/// An index of `count` loops in `count / 10` repositories, which also share readers and have
/// patterns beside each other.
fn filled(count: usize) -> ClaimIndex<usize> {
    let mut index = ClaimIndex::new();
    for n in 0..count {
        let repository = n / 10;
        let set = ResourceSet::from_canonical(&[
            format!("git:example.org/r{repository}/dir{}/**", n % 10),
            format!("git:example.org/r{repository}/file{}-*.rs", n % 10),
            "read git:example.org/shared/**".to_owned(),
            format!("gpu:node{n}/0"),
        ])
        .unwrap();
        index.insert(n, Token(1), &set);
    }
    index
}

#[test]
fn a_search_does_not_grow_with_all_claims() {
    let wanted = [
        one("git:example.org/r3/dir4/src/main.rs"),
        one("git:example.org/r3/file4-x.rs"),
        one("git:example.org/r3/*"),
        one("git:example.org/r3/**"),
        one("git:example.org/new/**"),
        one("read git:example.org/shared/**"),
        one("gpu:node7/0"),
    ];
    let (small, large) = (filled(100), filled(10_000));
    for set in &wanted {
        let (few, cost_small) = small.search(set, usize::MAX);
        let (many, cost_large) = large.search(set, usize::MAX);
        assert_eq!(few, many, "{set:?}");
        assert_eq!(cost_small, cost_large, "{set:?}");
        assert!(cost_large <= 40, "{cost_large} for {set:?}");
    }
    let (blockers, cost) = large.search(&one("git:**"), 3);
    assert_eq!(blockers.len(), 3);
    assert!(cost <= 40, "a bounded search stops early: {cost}");
}

#[test]
fn blockers_name_both_entries_and_the_token() {
    let mut index: ClaimIndex = ClaimIndex::new();
    let held = one("git:example.org/r/src/**");
    index.insert(LoopUid::from("u1"), Token(7), &held);
    index.insert(LoopUid::from("u2"), Token(7), &one("git:example.org/r/docs/**"));
    let found = index.blockers(&one("git:example.org/*/src/a"));
    let [blocker] = found.as_slice() else { panic!("not one blocker: {found:?}") };
    assert_eq!(blocker.uid, LoopUid::from("u1"));
    assert_eq!(blocker.token, Token(7));
    assert_eq!(blocker.held.to_string(), "git:example.org/r/src/**");
    assert_eq!(blocker.wanted.to_string(), "git:example.org/*/src/a");
    assert_eq!(index.get(&LoopUid::from("u1")), Some((Token(7), &held)));
    index.insert(LoopUid::from("u1"), Token(9), &one("gpu:n/0"));
    assert!(index.is_free(&one("git:example.org/r/src/a")), "replaced, not added to");
}

#[test]
fn every_branch_that_is_looked_at_is_counted() {
    let set = |entry: &str| ResourceSet::from_canonical(&[entry]).unwrap();
    let mut index = ClaimIndex::new();
    for (id, entry) in [(1, "x:a/b/c"), (2, "x:a/b/d"), (3, "x:e")] {
        index.insert(id, Token(1), &set(entry));
    }
    // The root, a, b and c.
    assert_eq!(index.search(&set("x:a/b/c"), 9).1, 4);
    // The root, and everything below it: a, b, c, d and e.
    assert_eq!(index.search(&set("x:**"), 9).1, 6);
}
