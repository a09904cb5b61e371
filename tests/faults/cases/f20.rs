//! F20: what etcd says to the leader is held back: its watch is silent, and its connections look alive.

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::proxy::{Mode, Way};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F20",
    title: "leader's watch stalls silently",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.victim();
    let leader = fleet.leader();
    fleet.fault("hold back what etcd says to the leader");
    fleet.net.set_way(&leader, "*", Way::Back, Mode::Hold);
    // What happens now the leader does not see.
    fleet.kill_worker(&victim.node);
    fleet.until("somebody else leads", NOTICE_MAX, |view| {
        (!view.leader.is_empty() && view.leader != leader).then_some(())
    });
    fleet.bite("the deaf leader lost its leadership");
    fleet.lost_everything(&victim);
    // All that was held back arrives at once, long out of date.
    fleet.net.heal();
    fleet.start_worker(&victim.node);
    let ttl = fleet.shape.ttl();
    fleet.last(ttl);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
