//! F1: a worker is killed while its agents work.

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F1",
    title: "worker killed while its agent works",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.busy_victim();
    fleet.fault("kill the worker");
    fleet.kill_worker(&victim.node);
    fleet.comes_back(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
