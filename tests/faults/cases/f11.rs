//! F11: the leader of the etcd cluster is killed.

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F11",
    title: "etcd leader killed",
    usual: true,
    owners: Owners::Stay("an election may or may not outlast a lease of two seconds"),
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { spare: 1, ..Shape::default() });
    fleet.victim();
    let leader = fleet.etcd_leader();
    fleet.fault("kill the leading member");
    fleet.members.kill(leader);
    fleet.submit(4);
    fleet.other_leads(leader);
    let before = fleet.record.see(|view| view.revision);
    fleet.until("something changes without it", NOTICE_MAX, |view| {
        (view.revision > before).then_some(())
    });
    fleet.members.start_member(leader);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
