//! F16: etcd's quota is used up and its alarm raised; an operator makes room.

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case =
    Case { id: "F16", title: "etcd out of quota", usual: true, owners: Owners::Change, run };

fn run(attempt: &Attempt) -> Outcome {
    let quota = vec!["--quota-backend-bytes=16777216"];
    let mut fleet = Fleet::start(attempt, Shape { etcd: quota, spare: 1, ..Shape::default() });
    let victim = fleet.victim();
    fleet.fault("use up the quota of etcd, and kill a worker");
    let refused = fleet.fill_store(1_000_000, 40);
    assert!(refused.contains("space exceeded"), "{refused}");
    fleet.bite(&refused);
    fleet.until_all_refuse();
    let before = fleet.given();
    let dies = if victim.node == "n1" { "n2" } else { "n1" };
    fleet.kill_worker(dies);
    let ttl = fleet.shape.ttl();
    fleet.last(ttl * 3);
    // Renewals need no space: the owners are the same, or ended by themselves.
    let lives = fleet.record.see(|view| view.sessions.get(&victim.node).cloned());
    assert_eq!(lives.as_deref(), Some(victim.life.as_str()), "the node lost its lease");
    // Claims are put by nested transactions, whose size etcd 3.4.23 does not count: it takes them. Whoever
    // is given one is judged as anywhere.
    let given = fleet.given() - before;
    fleet.bite(&format!("{given} claims were given under the alarm"));
    fleet.keeps(&victim);
    fleet.make_room();
    fleet.start_worker(dies);
    fleet.over();
    fleet.submit(4);
    fleet.finish();
    Outcome::Passed
}
