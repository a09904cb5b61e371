//! F2: a worker is stopped for longer than its lease, then continued.

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F2",
    title: "worker stopped beyond its lease, then continued",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.busy_victim();
    let pid = fleet.workers[&victim.node].pid();
    fleet.fault("stop the worker");
    fleet.stop(&[pid]);
    fleet.dead_by_deadline(&victim.node);
    fleet.lost_everything(&victim);
    fleet.continue_all();
    // It wakes up as somebody else.
    fleet.reborn(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
