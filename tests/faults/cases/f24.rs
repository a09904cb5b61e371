//! F24: the leader is killed again and again, each time when one of its writes was sent and not answered.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Shape};
use crate::proxy::Proxy;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F24",
    title: "leaders killed at their writes",
    usual: true,
    owners: Owners::Stay("only schedulers die, and runs go on without them"),
    run,
};

/// How many leaders are killed.
const ROUNDS: usize = 4;
/// Longest wait for a write of the wanted kind: by then it may have been made before.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the writes name.
const WRITES: [&str; 4] = ["/claims/default/", "/owners/x/", "/status", "/events/"];

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { spare: ROUNDS, ..Shape::default() });
    fleet.victim();
    fleet.fault("kill leaders at their writes");
    let mut hit = 0;
    for round in 1..=ROUNDS {
        let leader = fleet.leader();
        let write = *fleet.dice.pick(&WRITES);
        fleet.net.edges(&leader, "*").for_each(|edge| edge.cut_behind(write));
        // A new loop makes writes of every kind.
        fleet.submit(3 + round);
        let fired = |fleet: &Fleet| fleet.net.edges(&leader, "*").map(Proxy::fired).sum::<u64>();
        let (before, begun) = (fired(&fleet), Instant::now());
        while fired(&fleet) == before && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        hit += u32::from(fired(&fleet) > before);
        fleet.kill_scheduler(&leader);
        fleet.net.heal();
        fleet.start_scheduler(&leader);
    }
    fleet.bite(&format!("{ROUNDS} leaders were killed, {hit} of them just after a write"));
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
