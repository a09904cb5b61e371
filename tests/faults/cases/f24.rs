//! F24: the leader is killed again and again, each time when one of its writes was sent and not answered.

use flyball_tests::poll::until;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::proxy::Proxy;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F24",
    title: "leaders killed at their writes",
    usual: true,
    owners: Owners::Change,
    run,
};

/// Loops that are there from the start.
const FIRST: usize = 2;

/// What the writes of a new loop name, in the order in which they come: its claim, what it owns, its
/// status, its events.
fn writes(number: usize) -> [String; 4] {
    [
        format!("/claims/default/l{number}"),
        format!("/l{number}.txt"),
        format!("/loops/default/l{number}/status"),
        format!("/events/default/l{number}/"),
    ]
}

fn run(attempt: &Attempt) -> Outcome {
    let rounds = writes(0).len();
    // Every second number, so that no loop waits for another.
    let shape = Shape { loops: FIRST, spare: 2 * rounds, ..Shape::default() };
    let mut fleet = Fleet::start(attempt, shape);
    let victim = fleet.busy_victim();
    fleet.fault("kill leaders at their writes, and once a worker at the same time");
    let with_worker = fleet.dice.range(0, rounds as u64 - 1) as usize;
    let first = fleet.dice.range(0, 3) as usize;
    let mut since = 0;
    for round in 0..rounds {
        let number = FIRST + 1 + 2 * round;
        let write = &writes(number)[(first + round) % rounds];
        let (leader, leads_since) = fleet.leader_after(since);
        since = leads_since;
        let fired = |fleet: &Fleet| fleet.net.edges(&leader, "*").map(Proxy::fired).sum::<u64>();
        let before = fired(&fleet);
        fleet.net.edges(&leader, "*").for_each(|edge| edge.cut_behind(write));
        fleet.submit(number);
        until(&format!("{leader} writes {write}"), NOTICE_MAX, || {
            (fired(&fleet) > before).then_some(())
        });
        fleet.kill_scheduler(&leader);
        if round == with_worker {
            // Whoever comes to lead learns from the store alone that its node is gone.
            fleet.kill_worker(&victim.node);
        }
        fleet.net.heal();
        fleet.bite(&format!(
            "{leader}, which led since {since}, was killed at its write of {write}"
        ));
        fleet.start_scheduler(&leader);
        if round == with_worker {
            fleet.comes_back(&victim);
        }
    }
    // The last of them is followed by somebody, too.
    fleet.leader_after(since);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
