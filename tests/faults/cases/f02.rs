//! F2: a worker is stopped for longer than its lease, then continued.

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome};

pub(crate) const CASE: Case =
    Case { id: "F2", title: "worker stopped beyond its lease, then continued", usual: true, run };

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let accepted = u32::try_from(fleet.dice.range(1, 3)).unwrap();
    let node = fleet.half_way("default/l1", accepted);
    let owned = fleet.owned_by(&node);
    let incarnation = fleet.record.see(|view| view.sessions[&node].clone());
    fleet.fault("stop the worker");
    let pid = fleet.workers[&node].pid();
    fleet.stop(&[pid]);
    fleet.dead_by_deadline(&node);
    for (key, token) in &owned {
        fleet.taken_over(key, *token);
    }
    fleet.bite("its loops were taken over");
    fleet.continue_all();
    // It wakes up as somebody else.
    fleet.until("the node has a session of a new life", crate::fleet::NOTICE_MAX, |view| {
        view.sessions.get(&node).filter(|now| **now != incarnation).map(drop)
    });
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
