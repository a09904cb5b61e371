//! F17: two of three etcd members are stopped for ten leases.

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};
use crate::work::now_us;

pub(crate) const CASE: Case = Case {
    id: "F17",
    title: "etcd without quorum for ten leases",
    usual: false,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { spare: 1, ..Shape::default() });
    let victim = fleet.busy_victim();
    let token = fleet.token("default/l1");
    let first = fleet.etcd_leader();
    let second = first % 3 + 1;
    let kill = fleet.dice.range(0, 1) == 0;
    fleet.fault(if kill { "kill two members" } else { "stop two members" });
    for member in [first, second] {
        match kill {
            true => fleet.members.kill(member),
            false => {
                let pid = fleet.members.pid(member);
                fleet.stop(&[pid]);
            }
        }
    }
    let begun_us = now_us();
    fleet.dead_by_deadline("n1");
    fleet.dead_by_deadline("n2");
    let ttl = fleet.shape.ttl();
    fleet.alive_after(token, begun_us);
    fleet.last(ttl * 10);
    let fenced = fleet.fenced_after(&victim, begun_us);
    fleet.bite(&fenced);
    fleet.continue_all();
    if kill {
        fleet.members.start_member(first);
        fleet.members.start_member(second);
    }
    fleet.etcd_leader();
    fleet.lost_everything(&victim);
    fleet.over();
    fleet.submit(4);
    fleet.finish();
    Outcome::Passed
}
