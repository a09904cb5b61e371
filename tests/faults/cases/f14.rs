//! F14: writing to disk fails on one etcd member.

use flyball_tests::poll::until;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::host;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F14",
    title: "disk error on an etcd member",
    usual: false,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let strace = match host::strace() {
        Ok(strace) => strace,
        Err(why) => return Outcome::Skipped(why),
    };
    let mut fleet = Fleet::start(attempt, Shape { spare: 1, ..Shape::default() });
    let victim = fleet.victim();
    let member = *fleet.dice.pick(&[1, 2, 3]);
    let error = *fleet.dice.pick(&["EIO", "ENOSPC"]);
    fleet.fault(&format!("{error} on member {member}, and a killed worker"));
    let what = format!("error={error}");
    let injected = strace.inject(fleet.members.pid(member), &what, &fleet.dir().join("strace"));
    fleet.kill_worker(&victim.node);
    // The others serve.
    fleet.submit(4);
    until("the member gives up", NOTICE_MAX, || fleet.members.has_ended(member).then_some(()));
    injected.end();
    fleet.comes_back(&victim);
    fleet.bite("the member has ended by itself");
    fleet.members.kill(member);
    fleet.members.start_member(member);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
