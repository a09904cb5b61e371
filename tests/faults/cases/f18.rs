//! F18: etcd changes its leader all the time, which arms every lease anew; a dead worker's loops must still go on.

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F18",
    title: "etcd leader changes all the time",
    usual: false,
    owners: Owners::Change,
    run,
};

/// Leaders stopped one after the other.
const CHANGES: u32 = 8;

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.victim();
    fleet.fault("stop every leading member in turn, and kill a worker");
    for change in 0..CHANGES {
        let leader = fleet.etcd_leader();
        let pid = fleet.members.pid(leader);
        fleet.stop(&[pid]);
        fleet.other_leads(leader);
        fleet.continue_all();
        if change == 1 {
            fleet.kill_worker(&victim.node);
        }
    }
    fleet.comes_back(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
