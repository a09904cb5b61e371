//! F3: a worker and its guard are stopped together; only the init inside each run is left to act.

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F3",
    title: "worker and guard stopped beyond the lease",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.busy_victim();
    let both = [fleet.workers[&victim.node].pid(), fleet.guard(&victim.node)];
    fleet.fault("stop the worker and its guard");
    fleet.stop(&both);
    fleet.dead_by_deadline(&victim.node);
    fleet.lost_everything(&victim);
    fleet.continue_all();
    fleet.reborn(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
