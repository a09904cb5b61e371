//! F30: busy loops take the processors from everybody.

use std::time::Duration;

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};
use crate::work::{Busy, now_us};

pub(crate) const CASE: Case = Case {
    id: "F30",
    title: "heartbeats starved of processor time",
    usual: true,
    owners: Owners::Change,
    run,
};

/// Busy loops, on a machine with a few processors.
const LOOPS: usize = 64;
/// How long: a lease and a half.
const STARVED: Duration = Duration::from_secs(3);

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.busy_victim();
    let token = fleet.token("default/l1");
    let begun_us = now_us();
    fleet.fault("take the processors away");
    let busy = Busy::start(LOOPS, STARVED);
    fleet.last(STARVED);
    let used = busy.used();
    drop(busy);
    assert!(used > STARVED / 2, "the busy loops had only {used:?} of processor time");
    fleet.bite(&format!("{LOOPS} busy loops had {used:?} of processor time"));
    let life = fleet.record.see(|view| view.sessions.get(&victim.node).cloned());
    // Either is right. At the end of a lease nothing of it may be alive, which the recorder demands.
    if life.as_deref() == Some(victim.life.as_str()) {
        fleet.keeps(&victim);
        fleet.alive_after(token, begun_us);
        fleet.kill_worker(&victim.node);
        fleet.comes_back(&victim);
    } else {
        fleet.lost_everything(&victim);
        fleet.reborn(&victim);
    }
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
