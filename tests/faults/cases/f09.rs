//! F9: etcd commits an assignment, and its answer is lost.

use flyball_tests::poll::until;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::proxy::Proxy;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F9",
    title: "answer to an assignment lost",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { spare: 1, ..Shape::default() });
    fleet.victim();
    let leader = fleet.leader();
    fleet.fault("lose the answer to an assignment");
    // The first request that names the claim is the one that makes it.
    fleet.net.edges(&leader, "*").for_each(|edge| edge.cut_behind("/claims/default/l4"));
    let key = fleet.submit(4);
    let fired = |fleet: &Fleet| fleet.net.edges(&leader, "*").map(Proxy::fired).sum::<u64>();
    until("the answer is lost", NOTICE_MAX, || (fired(&fleet) > 0).then_some(()));
    fleet.net.heal();
    let token = fleet.token(&key);
    fleet.bite("an assignment was committed unanswered");
    // Found by its attempt's id: the same owner begins, nobody else is made one.
    fleet.half_way(&key, 1);
    let claims = fleet.record.see(|view| view.owners[&key]);
    assert_eq!(claims, 1, "{key} was claimed anew after {token}");
    // An owner that was found by reading back is as good as any: its death is noticed.
    let victim = fleet.victim_of(&key);
    fleet.kill_worker(&victim.node);
    fleet.comes_back(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
