//! F6: a worker is cut off from all schedulers, in every way in which a connection can fail.

use crate::fleet::{Fleet, Shape};
use crate::proxy::Mode;
use crate::runner::{Attempt, Case, Outcome, Owners};
use crate::work::now_us;

pub(crate) const CASE: Case = Case {
    id: "F6",
    title: "worker cut off from all schedulers",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { items: 12, ..Shape::default() });
    for mode in fleet.dice.shuffled([Mode::Drop, Mode::Close, Mode::Hold]) {
        let victim = fleet.busy_victim();
        fleet.fault(&format!("cut the worker off: {mode:?}"));
        let cut_us = now_us();
        fleet.net.set(&victim.node, "*", mode);
        fleet.dead_by_deadline(&victim.node);
        fleet.lost_everything(&victim);
        fleet.not_lost_early(&victim, cut_us);
        fleet.net.heal();
        fleet.reborn(&victim);
        fleet.over();
    }
    fleet.finish();
    Outcome::Passed
}
