//! F1: a worker is killed while its agents work.

use std::time::Duration;

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome};

pub(crate) const CASE: Case =
    Case { id: "F1", title: "worker killed while its agent works", usual: true, run };

/// What a killed worker's processes may still live: the guard sees the end at once; this is for a
/// machine that is busy.
const KILLED_WITHIN: Duration = Duration::from_millis(500);

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.victim();
    fleet.fault("kill the worker");
    fleet.dead_by(&victim.node, KILLED_WITHIN);
    fleet.kill_worker(&victim.node);
    fleet.lost_everything(&victim);
    fleet.start_worker(&victim.node);
    fleet.reborn(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
