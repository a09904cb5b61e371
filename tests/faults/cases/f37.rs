//! F37: thousands of leases end at the same time, among them those of many nodes that own a loop each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flyball_proto::v1::NodeMark;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F37",
    title: "thousands of leases end at once",
    usual: false,
    owners: Owners::Change,
    run,
};

/// Leases, in every run and with `--all`; another number with FLYBALL_FAULT_LEASES.
const LEASES: usize = 1500;
const LEASES_ALL: usize = 10_000;
/// Their time to live.
const LEASE_SECONDS: i64 = 5;
/// What etcd ends of them in a second, at most.
const ENDED_PER_SECOND: usize = 1000;
/// Nodes that own a loop each and are never heard of again.
const GHOSTS: usize = 24;
/// Leases of all nodes, seconds: the workers start this many runs at once, and are to keep theirs meanwhile.
const TTL: u64 = 6;
/// What it may take to write down one loop's loss and its next owner, on a busy machine.
const PLACED: Duration = Duration::from_millis(250);
/// What one loop may take of the whole machine.
const WORK: Duration = Duration::from_secs(3);
/// Loops that are there from the start.
const FIRST: usize = 2;

fn run(attempt: &Attempt) -> Outcome {
    let usual = if attempt.all { LEASES_ALL } else { LEASES };
    let asked = std::env::var("FLYBALL_FAULT_LEASES").ok();
    let count: usize = asked.and_then(|count| count.parse().ok()).unwrap_or(usual);
    let slots = u32::try_from(GHOSTS / 2 + FIRST).expect("a small number");
    let shape =
        Shape { ttl: TTL, items: 1, loops: FIRST, spare: 2 * GHOSTS, slots, ..Shape::default() };
    let mut fleet = Fleet::start(attempt, shape);
    let workers = ["n1", "n2"];
    workers.iter().for_each(|node| fleet.mark(node, NodeMark::Cordoned));
    let ghosts = fleet.ghosts(GHOSTS);
    let owned = own_one_each(&mut fleet, &ghosts.names);
    fleet.fault("let leases end at once");
    workers.iter().for_each(|node| fleet.mark(node, NodeMark::Schedulable));
    fleet.short_leases(count, LEASE_SECONDS);
    let (names, begun) = (ghosts.names.clone(), Instant::now());
    drop(ghosts);
    let many = u32::try_from(GHOSTS).expect("a small number");
    // A lease, and as long again for etcd to see its end.
    let bound = fleet.shape.ttl() * 2 + PLACED * many;
    fleet.until("all their loops have another owner", bound, |view| {
        let later =
            |(key, token): (&String, &i64)| view.tokens.get(key).is_some_and(|new| new > token);
        owned.iter().all(later).then_some(())
    });
    let took = begun.elapsed();
    fleet.bite(&format!("{GHOSTS} loops of as many nodes were given to others within {took:?}"));
    fleet.until("all these nodes are gone", bound, |view| {
        (!names.iter().any(|node| view.sessions.contains_key(node))).then_some(())
    });
    let seconds = LEASE_SECONDS.unsigned_abs() + (count / ENDED_PER_SECOND) as u64;
    let bound = Duration::from_secs(seconds) + NOTICE_MAX;
    while fleet.leased_keys() > 0 {
        assert!(begun.elapsed() < bound, "leases do not end");
        std::thread::sleep(Duration::from_millis(100));
    }
    fleet.bite(&format!("{count} leases ended within {:?}", begun.elapsed()));
    let loops = fleet.loops.clone();
    fleet.until("the loops have ended", WORK * many, |view| {
        let ended = |key: &String| view.statuses.get(key).is_some_and(|it| it.phase.is_terminal());
        loops.iter().all(ended).then_some(())
    });
    fleet.over();
    fleet.finish();
    Outcome::Passed
}

/// Has every one of these nodes own a loop; gives the loops with their tokens.
fn own_one_each(fleet: &mut Fleet, nodes: &[String]) -> BTreeMap<String, i64> {
    fleet.until("all these nodes have sessions", NOTICE_MAX, |view| {
        nodes.iter().all(|node| view.sessions.contains_key(node)).then_some(())
    });
    // Every second number, so that no loop waits for another.
    let numbers = (0..nodes.len()).map(|ghost| FIRST + 1 + 2 * ghost);
    for number in numbers {
        fleet.submit(number);
    }
    // On a busy machine one of them may own a loop of the workers', which then lost it.
    fleet.until("each of them owns a loop", NOTICE_MAX, |view| {
        let theirs = view.claims.iter().filter(|(_, claim)| nodes.contains(&claim.node));
        let owned: BTreeMap<_, _> = theirs.map(|(key, claim)| (key.clone(), claim.token)).collect();
        (owned.len() == nodes.len()).then_some(owned)
    })
}
