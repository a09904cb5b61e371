//! F5: all schedulers are cut off from etcd, and go on talking to the workers.

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
    let mode = *fleet.dice.pick(&[Mode::Drop, Mode::Close, Mode::Hold]);
    fleet.fault(&format!("cut the schedulers off from etcd: {mode:?}"));
    for scheduler in ["s1", "s2"] {
        fleet.net.set(scheduler, "*", mode);
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
