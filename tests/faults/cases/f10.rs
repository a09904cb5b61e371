//! F10: etcd commits a loop's end, and its answer is lost; everybody asks again.

use flyball_tests::poll::until;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::proxy::Proxy;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case =
    Case { id: "F10", title: "answer to a result lost", usual: true, owners: Owners::Change, run };

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { items: 8, spare: 2, ..Shape::default() });
    fleet.victim();
    let leader = fleet.leader();
    fleet.fault("lose the answer to a result");
    fleet.net.edges(&leader, "*").for_each(|edge| edge.cut_behind("\"Converged\""));
    let fired = |fleet: &Fleet| fleet.net.edges(&leader, "*").map(Proxy::fired).sum::<u64>();
    until("the answer is lost", NOTICE_MAX, || (fired(&fleet) > 0).then_some(()));
    fleet.net.heal();
    let ended = fleet.until("a result is in the store", NOTICE_MAX, |view| {
        let mut ended = view.statuses.iter().filter(|(_, status)| status.phase.is_terminal());
        ended.next().map(|(key, _)| key.clone())
    });
    fleet.bite(&format!("the result of {ended} was committed unanswered"));
    // A client that does not know whether it was heard says it again.
    let number = ended.trim_start_matches("default/l").parse().unwrap();
    fleet.submit(number);
    let claims = fleet.record.see(|view| view.owners[&ended]);
    assert_eq!(claims, 1, "{ended} ran again after its end");
    // One that cannot have come to its end meanwhile, and waits for no other.
    let other = fleet.submit(5);
    let victim = fleet.busy_victim_of(&other);
    fleet.kill_worker(&victim.node);
    fleet.comes_back(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
