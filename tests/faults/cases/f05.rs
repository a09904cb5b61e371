//! F5: all schedulers are cut off from etcd, in every way in which a connection can fail, and go on talking to
//! the workers.

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::proxy::Mode;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F5",
    title: "schedulers cut off from etcd",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.busy_victim();
    let [all, odd, even] = fleet.dice.shuffled([Mode::Drop, Mode::Close, Mode::Hold]);
    let leader = fleet.leader();
    let other = if leader == "s1" { "s2" } else { "s1" };
    fleet.fault(&format!("cut {leader} off from etcd: {all:?}; {other}: {odd:?} and {even:?}"));
    fleet.net.set(&leader, "*", all);
    for (member, mode) in [("m1", odd), ("m2", even), ("m3", odd)] {
        fleet.net.set(other, member, mode);
    }
    // Nobody may vouch for a lease that cannot be renewed.
    fleet.dead_by_deadline("n1");
    fleet.dead_by_deadline("n2");
    fleet.until("etcd has ended all leases", NOTICE_MAX, |view| {
        (view.claims.is_empty() && view.sessions.is_empty()).then_some(())
    });
    fleet.net.heal();
    fleet.lost_everything(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
