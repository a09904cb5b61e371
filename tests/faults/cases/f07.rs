//! F7: what a worker says arrives; the answers are late, and then too late or lost.

use crate::fleet::{Fleet, Shape};
use crate::proxy::{Mode, Proxy, Way};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F7",
    title: "answers to a worker are late, too late or lost",
    usual: false,
    owners: Owners::Change,
    run,
};

/// How late every word is at first, of a lease: a renewal waits a third of one for its answer.
const SLOW: u32 = 16;

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.busy_victim();
    let ttl = fleet.shape.ttl();
    fleet.fault("make the worker's network slow");
    fleet.net.set(&victim.node, "*", Mode::Delay(ttl / SLOW));
    fleet.last(ttl * 2);
    fleet.keeps(&victim);
    fleet.bite(&format!("answers took {:?} for two leases, and it kept what it owns", ttl / SLOW));
    fleet.net.heal();
    fleet.over();
    let (lose, late) = (Mode::Drop, Mode::Delay(ttl));
    let mode = *fleet.dice.pick(&[lose, late]);
    fleet.fault(&format!("lose all answers to the worker, or have them come too late: {mode:?}"));
    fleet.net.set_way(&victim.node, "*", Way::Back, mode);
    // Answers that were sent before may still be under way.
    fleet.dead_by_deadline(&victim.node);
    fleet.lost_everything(&victim);
    let lost: u64 = fleet.net.edges(&victim.node, "*").map(Proxy::lost).sum();
    assert!(lost > 0 || mode != lose, "no answer was lost");
    fleet.net.heal();
    fleet.reborn(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
