//! F25: the leader is stopped for longer than its leadership lasts, wakes up, and still thinks that it leads.

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F25",
    title: "leader stopped beyond its leadership",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.victim();
    let leader = fleet.leader();
    fleet.fault("stop the leader");
    let pid = fleet.schedulers[&leader].pid();
    fleet.stop(&[pid]);
    // There is something to write about when it wakes up.
    fleet.kill_worker(&victim.node);
    fleet.until("somebody else leads", NOTICE_MAX, |view| {
        (!view.leader.is_empty() && view.leader != leader).then_some(())
    });
    fleet.bite("somebody else leads");
    fleet.continue_all();
    fleet.lost_everything(&victim);
    fleet.start_worker(&victim.node);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
