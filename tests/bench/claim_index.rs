//! Time to find out who blocks a resource set, at 100, 10 000 and 100 000 claims. What is asked for
//! and what is found stays the same, so the time should too.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first fault")]

use std::hint::black_box;
use std::time::Instant;

use flyball_core::ids::Token;
use flyball_core::resource::{ClaimIndex, ResourceSet};
use flyball_tests::measure::{Samples, at_most};

const SIZES: [usize; 3] = [100, 10_000, 100_000];
/// Claims in one repository: what a query for the whole of it finds.
const PER_REPOSITORY: usize = 10;
const ROUNDS: usize = 31;
/// Different queries of one kind; each is asked once per round.
const QUERIES: usize = 100;

fn set(entries: &[String]) -> ResourceSet {
    ResourceSet::from_canonical(entries).unwrap()
}

/// Claim `n`: a subtree and a branch of a repository, and a device.
fn claim(n: usize) -> ResourceSet {
    let (repository, module) = (n / PER_REPOSITORY, n % PER_REPOSITORY);
    set(&[
        format!("git:example.org/org/r{repository}/src/m{module}/**"),
        format!("branch:example.org/org/r{repository}/work-{module}"),
        format!("gpu:rack{}/device{n}", n / 64),
    ])
}

fn index(size: usize) -> ClaimIndex<u64> {
    let mut index = ClaimIndex::new();
    for n in 0..size {
        index.insert(n as u64, Token(n as i64 + 1), &claim(n));
    }
    index
}

/// A kind of query: its name, how many blockers it has, and the wanted set near claim `n`.
type Query = (&'static str, usize, fn(usize) -> Vec<String>);

const KINDS: [Query; 3] = [
    ("one path", 1, |n| {
        let (repository, module) = (n / PER_REPOSITORY, n % PER_REPOSITORY);
        vec![format!("git:example.org/org/r{repository}/src/m{module}/deep/file.rs")]
    }),
    ("disjoint", 0, |n| {
        let repository = n / PER_REPOSITORY;
        vec![format!("git:example.org/org/r{repository}/docs/**"), format!("gpu:spare/device{n}")]
    }),
    ("whole repository", PER_REPOSITORY, |n| {
        vec![format!("git:example.org/org/r{}/**", n / PER_REPOSITORY)]
    }),
];

fn main() {
    let indexes = SIZES.map(index);
    println!("claim index: microseconds per query, median [least .. greatest] of {ROUNDS} rounds");
    for (name, blockers, wanted) in KINDS {
        let queries: Vec<Vec<ResourceSet>> = SIZES
            .iter()
            // Spread over the whole index, so that a large one pays for what it does to caches.
            .map(|size| (0..QUERIES).map(|n| set(&wanted(n * size / QUERIES))).collect())
            .collect();
        let mut times: Vec<Samples> = SIZES.iter().map(|_| Samples::default()).collect();
        for _ in 0..ROUNDS {
            for ((index, queries), times) in indexes.iter().zip(&queries).zip(&mut times) {
                let begun = Instant::now();
                for query in queries {
                    assert_eq!(black_box(index.blockers(black_box(query))).len(), blockers);
                }
                times.add(begun.elapsed().as_secs_f64() * 1e6 / QUERIES as f64);
            }
        }
        for (size, times) in SIZES.iter().zip(&times) {
            println!("  {name}, {blockers} blockers, {size} claims: {times}");
        }
        let ratio = times[SIZES.len() - 1].over(&times[0]);
        println!("  {name}: 100 000 / 100 = {ratio} ({})", at_most(&ratio, 2.0));
    }
}
