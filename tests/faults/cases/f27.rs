//! F27: a node whose clock of deadlines is days apart from its monotonic clock sleeps for three leases.

use crate::fleet::{Fleet, Shape};
use crate::host::Cgroup;
use crate::host_limits::can_offset_clocks;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F27",
    title: "node suspended, its clocks apart",
    usual: true,
    owners: Owners::Change,
    run,
};

/// What a woken run may still live before its own deadline, long past, kills it; this is for a
/// machine that is busy.
const KILLED_WITHIN: std::time::Duration = std::time::Duration::from_millis(500);

fn run(attempt: &Attempt) -> Outcome {
    if let Err(why) = can_offset_clocks() {
        return Outcome::Skipped(why);
    }
    let cgroup = match Cgroup::create() {
        Ok(cgroup) => cgroup,
        Err(why) => return Outcome::Skipped(format!("no cgroup v2 of our own: {why}")),
    };
    // Whoever mixes up the two clocks is ten days off: what a machine is after much suspending.
    let wrap = ["unshare", "--time", "--boottime", "864000", "--fork", "--kill-child"];
    let wrap = wrap.map(str::to_owned).to_vec();
    let mut fleet = Fleet::start(attempt, Shape { wrap, ..Shape::default() });
    let victim = fleet.victim();
    cgroup.take_in(fleet.workers[&victim.node].pid());
    fleet.fault("suspend the node");
    // What is frozen cannot die in time; that it does nothing before it dies is asked below.
    let lease = fleet.lease_of(&victim);
    fleet.ends_unfairly(lease);
    cgroup.freeze(true);
    fleet.lost_everything(&victim);
    let ttl = fleet.shape.ttl();
    fleet.last(ttl * 2);
    fleet.dead_by(&victim.node, KILLED_WITHIN);
    cgroup.freeze(false);
    fleet.reborn(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
