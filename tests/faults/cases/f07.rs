//! F7: what a worker says arrives, the answers are lost.

use crate::fleet::{Fleet, Shape};
use crate::proxy::{Mode, Proxy, Way};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F7",
    title: "answers to a worker are lost",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.busy_victim();
    fleet.fault("lose all answers to the worker");
    fleet.net.set_way(&victim.node, "*", Way::Back, Mode::Drop);
    // Answers that were sent before may still be under way.
    fleet.dead_by_deadline(&victim.node);
    fleet.lost_everything(&victim);
    let lost: u64 = fleet.net.edges(&victim.node, "*").map(Proxy::lost).sum();
    assert!(lost > 0, "no answer was lost");
    fleet.net.heal();
    fleet.reborn(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
