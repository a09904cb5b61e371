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
    let accepted = u32::try_from(fleet.dice.range(1, 3)).unwrap();
    let node = fleet.half_way("default/l1", accepted);
    let owned = fleet.owned_by(&node);
    fleet.fault("kill the worker");
    fleet.dead_by(&node, KILLED_WITHIN);
    fleet.kill_worker(&node);
    for (key, token) in &owned {
        let (other, _) = fleet.taken_over(key, *token);
        assert_ne!(other, node, "a dead node got {key}");
    }
    fleet.bite("its loops were taken over");
    fleet.start_worker(&node);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
