//! F30: busy loops take the processors from everybody.

use std::time::Duration;

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};
use crate::work::Busy;

pub(crate) const CASE: Case = Case {
    id: "F30",
    title: "heartbeats starved of processor time",
    usual: true,
    owners: Owners::Stay("renewals in time and a clean end of the lease are both right"),
    run,
};

/// Busy loops, on a machine with a few processors.
const LOOPS: usize = 64;
/// How long: a lease and a half.
const STARVED: Duration = Duration::from_secs(3);

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.victim();
    let life = |fleet: &Fleet| fleet.record.see(|view| view.sessions.get(&victim.node).cloned());
    fleet.fault("take the processors away");
    let busy = Busy::start(LOOPS, STARVED);
    fleet.last(STARVED);
    drop(busy);
    let kept = life(&fleet).as_deref() == Some(victim.life.as_str());
    // Either is right: renewed in time, or lost and fenced.
    fleet.bite(&format!("{LOOPS} busy loops for {STARVED:?}; the lease was kept: {kept}"));
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
