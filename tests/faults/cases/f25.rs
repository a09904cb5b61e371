//! F25: the leader is stopped for longer than its leadership lasts, while one of its writes is on its way; it wakes
//! up, still thinks that it leads, and its write arrives.

use flyball_tests::poll::until;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::proxy::{Proxy, Way};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F25",
    title: "leader stopped beyond its leadership",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.victim();
    let (leader, since) = fleet.leader_after(0);
    let from = fleet.log(&leader).len();
    fleet.fault("stop the leader while it writes");
    let fired = |fleet: &Fleet| fleet.net.edges(&leader, "*").map(Proxy::fired).sum::<u64>();
    let before = fired(&fleet);
    fleet
        .net
        .edges(&leader, "*")
        .for_each(|edge| edge.hold_from(b"/flyball/v1/leader", Way::There));
    until("the leader writes", NOTICE_MAX, || (fired(&fleet) > before).then_some(()));
    let pid = fleet.schedulers[&leader].pid();
    fleet.stop(&[pid]);
    // There is something for its successor to write about.
    fleet.kill_worker(&victim.node);
    let (other, _) = fleet.leader_after(since);
    assert_ne!(other, leader, "it leads again without having been awake");
    // Only now its write goes on to etcd, and the refusal comes back to it.
    fleet.net.heal();
    fleet.continue_all();
    let said =
        fleet.logs(&leader, from, &["a commit did not go through", "not the leader any more"]);
    fleet.bite(&said);
    fleet.lost_everything(&victim);
    fleet.start_worker(&victim.node);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
