//! F37: thousands of leases, and the sessions of many nodes, end at the same time.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F37",
    title: "thousands of leases end at once",
    usual: true,
    owners: Owners::Change,
    run,
};

/// Leases; more with FLYBALL_FAULT_LEASES. etcd ends at most 1000 per second.
const LEASES: usize = 1500;
/// Their time to live.
const LEASE_SECONDS: i64 = 5;
/// Nodes that register and are never heard of again.
const NODES: usize = 60;

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { items: 8, ..Shape::default() });
    let victim = fleet.busy_victim();
    fleet.fault("let leases end at once, and kill a worker");
    let count: usize = std::env::var("FLYBALL_FAULT_LEASES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(LEASES);
    let nodes = fleet.short_lived_nodes(NODES);
    fleet.short_leases(count, LEASE_SECONDS);
    let begun = Instant::now();
    // Its takeover comes while etcd has all the others to end.
    fleet.kill_worker(&victim.node);
    fleet.until("all these nodes are gone", NOTICE_MAX, |view| {
        (!nodes.iter().any(|node| view.sessions.contains_key(node))).then_some(())
    });
    let bound = Duration::from_secs(LEASE_SECONDS.unsigned_abs()) + NOTICE_MAX;
    while fleet.leased_keys() > 0 {
        assert!(begun.elapsed() < bound, "leases do not end");
        std::thread::sleep(Duration::from_millis(100));
    }
    let took = begun.elapsed();
    fleet.bite(&format!("{count} leases and {NODES} sessions ended within {took:?}"));
    fleet.comes_back(&victim);
    fleet.until("the workers have sessions", NOTICE_MAX, |view| {
        ["n1", "n2"].iter().all(|node| view.sessions.contains_key(*node)).then_some(())
    });
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
