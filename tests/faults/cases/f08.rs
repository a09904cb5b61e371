//! F8: answers to a worker come later than its deadline.

use std::time::Duration;

use crate::fleet::{Fleet, Shape};
use crate::proxy::{Mode, Way};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F8",
    title: "answers delayed beyond the deadline",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.busy_victim();
    let late = fleet.shape.ttl() + Duration::from_millis(fleet.dice.range(100, 1000));
    fleet.fault(&format!("delay all answers to the worker by {late:?}"));
    fleet.net.set_way(&victim.node, "*", Way::Back, Mode::Delay(late));
    fleet.dead_by_deadline(&victim.node);
    fleet.lost_everything(&victim);
    // The late answers to the old life arrive now.
    fleet.last(late);
    fleet.net.heal();
    fleet.reborn(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
