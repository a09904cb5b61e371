//! F6: a worker is cut off from all schedulers.

use crate::fleet::{Fleet, Shape};
use crate::proxy::Mode;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F6",
    title: "worker cut off from all schedulers",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.busy_victim();
    let mode = *fleet.dice.pick(&[Mode::Drop, Mode::Close, Mode::Hold]);
    fleet.fault(&format!("cut the worker off: {mode:?}"));
    fleet.net.set(&victim.node, "*", mode);
    fleet.dead_by_deadline(&victim.node);
    fleet.lost_everything(&victim);
    fleet.net.heal();
    fleet.reborn(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
