//! F4: a worker is frozen with everything below it for three leases, then thawed.

use crate::fleet::{Fleet, Shape};
use crate::hands::KILLED_WITHIN;
use crate::host::Cgroup;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F4",
    title: "whole worker frozen for three leases",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let cgroup = match Cgroup::create() {
        Ok(cgroup) => cgroup,
        Err(why) => return Outcome::Skipped(format!("no cgroup v2 of our own: {why}")),
    };
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.victim();
    cgroup.take_in(fleet.workers[&victim.node].pid());
    fleet.fault("freeze the worker and all its processes");
    // What is frozen cannot die in time; that it does nothing before it dies is asked below.
    let lease = fleet.lease_of(&victim);
    fleet.ends_unfairly(lease);
    cgroup.freeze(true);
    fleet.lost_everything(&victim);
    let ttl = fleet.shape.ttl();
    fleet.last(ttl * 2);
    // Its deadline is long past: it may do nothing more but die.
    fleet.dead_by(&victim.node, KILLED_WITHIN);
    cgroup.freeze(false);
    fleet.reborn(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
