//! F26: the wall clocks of workers and schedulers jump a day forwards, then two back.

use flyball_tests::faketime::WallClock;

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F26",
    title: "wall clocks jump by a day",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let clock = match WallClock::prepare(&attempt.dir) {
        Ok(clock) => clock,
        Err(why) => return Outcome::Skipped(why),
    };
    let before = clock.date();
    let env = clock.env();
    let mut fleet = Fleet::start(attempt, Shape { env, items: 6, ..Shape::default() });
    let victim = fleet.busy_victim();
    fleet.fault("let the wall clocks jump");
    clock.set("+1d");
    let jumped = clock.date() - before;
    assert!(jumped > 80_000, "the clock did not jump: {jumped} s");
    fleet.bite(&format!("the wall clock is {jumped} s ahead"));
    let ttl = fleet.shape.ttl();
    fleet.last(ttl);
    clock.set("-1d");
    fleet.last(ttl);
    // Nobody noticed: the node is as it was.
    let life = fleet.record.see(|view| view.sessions.get(&victim.node).cloned());
    assert_eq!(life.as_deref(), Some(victim.life.as_str()), "the node lost its lease");
    fleet.keeps(&victim);
    // Nor does a takeover rest on it.
    fleet.kill_worker(&victim.node);
    fleet.comes_back(&victim);
    clock.set("+0");
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
