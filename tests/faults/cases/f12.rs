//! F12: the leader of the etcd cluster is stopped for a while, and wakes up as if it still led.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F12",
    title: "etcd leader stopped for 5 s",
    usual: false,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.victim();
    let leader = fleet.etcd_leader();
    fleet.fault("stop the leading member, and kill a worker");
    // The old leader may wake up and end leases that were renewed with the new one.
    fleet.leases_end_unfairly();
    let pid = fleet.members.pid(leader);
    fleet.stop(&[pid]);
    let begun = Instant::now();
    fleet.other_leads(leader);
    fleet.kill_worker(&victim.node);
    fleet.last(STOPPED.saturating_sub(begun.elapsed()));
    fleet.continue_all();
    fleet.comes_back(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}

/// Longer than any lease here and than etcd's election.
const STOPPED: Duration = Duration::from_secs(5);
