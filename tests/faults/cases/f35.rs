//! F35: agents leave processes behind that change their session, ignore signals and let go of their parents.

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F35",
    title: "agents that try to outlive their run",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { agent: "escape", ..Shape::default() });
    let victim = fleet.victim();
    fleet.fault("kill the worker of agents that run away");
    fleet.kill_worker(&victim.node);
    fleet.lost_everything(&victim);
    fleet.start_worker(&victim.node);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
