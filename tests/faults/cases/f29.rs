//! F29: an agent forks until the host refuses.

use std::time::Duration;

use flyball_core::status::Reason;
use flyball_tests::poll::until;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::host_limits::PidLimit;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case =
    Case { id: "F29", title: "fork bomb in an agent", usual: false, owners: Owners::Change, run };

/// Most processes and threads of both workers and all they start.
const LIMIT: u32 = 400;

/// Longest wait for what the bomb left behind to be killed.
const GONE_MAX: Duration = Duration::from_secs(20);

fn run(attempt: &Attempt) -> Outcome {
    let limit = match PidLimit::create(LIMIT) {
        Ok(limit) => limit,
        Err(why) => return Outcome::Skipped(format!("no limit on processes: {why}")),
    };
    // The repository has processes of its own: one that cannot fork its hooks would refuse pushes, which
    // is for a person to look at.
    let shape = Shape { agent: "bomb", served: true, spare: 2, ..Shape::default() };
    let mut fleet = Fleet::start(attempt, shape);
    let pids: Vec<i32> = fleet.workers.values().map(|process| process.pid()).collect();
    limit.take_in(&pids);
    let lives = fleet.record.see(|view| view.sessions.clone());
    fleet.fault("let an agent fork without end");
    std::fs::write(fleet.dir().join("bomb"), "").unwrap();
    let bombed = fleet.dir().join("bombed");
    let said = until("the bomb went off", NOTICE_MAX, || {
        std::fs::read_to_string(&bombed).ok().filter(|said| !said.is_empty())
    });
    let alive = fleet.processes_of(&["sleep"]).len();
    assert!(alive > 0, "an agent had {said} children, and none is alive");
    fleet.bite(&format!("an agent has {said} children and got no more"));
    let ttl = fleet.shape.ttl();
    fleet.last(ttl * 2);
    // Guards and heartbeats are alive: nobody lost its lease.
    assert_eq!(fleet.record.see(|view| view.sessions.clone()), lives, "a node lost its lease");
    // The run kills its tree at its end; these would live for a minute.
    until("nothing is left of the bomb", GONE_MAX, || {
        fleet.processes_of(&["sleep"]).is_empty().then_some(())
    });
    // What survived works on: a node that is lost now is taken over.
    fleet.shape.agent = "agent";
    let key = fleet.submit(5);
    let victim = fleet.busy_victim_of(&key);
    fleet.kill_worker(&victim.node);
    fleet.comes_back(&victim);
    fleet.over();
    // A loop whose runs could not start git three times in a row is put aside. One whose push was cut
    // short for the same reason is not: it is tried again.
    fleet.finish_but_for(&[Reason::RunsLost]);
    Outcome::Passed
}
