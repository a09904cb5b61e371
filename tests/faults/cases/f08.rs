//! F8: the answer to a renewal comes later than the deadline. The guard stands still meanwhile, so that nobody but the
//! lease's clock decides what the answer is worth.

use flyball_tests::poll::until;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::proxy::{Proxy, Way};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F8",
    title: "answer to a renewal later than the deadline",
    usual: true,
    owners: Owners::Change,
    run,
};

/// Tries per lease with one scheduler: each waits for a third, and so the one that waits when the
/// deadline passes began before it, and waits on until 0.72 leases after the first unanswered one. The
/// deadline is 0.52 leases after that one.
const RELEASED_PERCENT: u32 = 62;

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { ttl: 3, schedulers: 1, ..Shape::default() });
    let victim = fleet.busy_victim();
    let node = victim.node.clone();
    let from = fleet.log(&node).len();
    let guard = [fleet.guard(&node)];
    fleet.fault("hold the answers to renewals until the deadline has passed");
    let renewal = renewal_of(&node, &victim.life);
    fleet.net.edges(&node, "*").for_each(|edge| edge.hold_from(&renewal, Way::Back));
    let fired = |fleet: &Fleet| fleet.net.edges(&node, "*").map(Proxy::fired).sum::<u64>();
    until("a renewal is not answered", NOTICE_MAX, || (fired(&fleet) > 0).then_some(()));
    fleet.stop(&guard);
    fleet.dead_by_deadline(&node);
    let ttl = fleet.shape.ttl();
    fleet.last(ttl * RELEASED_PERCENT / 100);
    fleet.net.heal();
    let said = fleet.logs(&node, from, &["a renewal was answered after the deadline"]);
    fleet.bite(&said);
    fleet.continue_all();
    fleet.lost_everything(&victim);
    fleet.reborn(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}

/// How a heartbeat begins, as sent: node, incarnation, and the key of the lease.
fn renewal_of(node: &str, life: &str) -> Vec<u8> {
    let field = |tag: u8, text: &str| {
        let length = u8::try_from(text.len()).expect("a short name");
        [&[tag, length], text.as_bytes()].concat()
    };
    [field(0x0a, node), field(0x12, life), vec![0x18]].concat()
}
