//! F16: etcd's quota is used up and its alarm raised; an operator makes room.

use std::time::Duration;

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case =
    Case { id: "F16", title: "etcd out of quota", usual: true, owners: Owners::Change, run };

/// A loop that waits for what the victim owns, and so for as long as the case wants.
const WAITS: &str = "l2";
/// How long claims that were under way when the leader came to know may take to be seen.
const UNDER_WAY: Duration = Duration::from_secs(1);

fn run(attempt: &Attempt) -> Outcome {
    let quota = vec!["--quota-backend-bytes=16777216"];
    let mut fleet = Fleet::start(attempt, Shape { etcd: quota, spare: 1, ..Shape::default() });
    let (victim, dies) = fleet.keeper_and_victim();
    fleet.fault("use up the quota of etcd, and kill a worker");
    let refused = fleet.fill_store(1_000_000, 40);
    assert!(refused.contains("space exceeded"), "{refused}");
    fleet.bite(&refused);
    fleet.until_all_refuse();
    // etcd 3.4.23 takes claims all the same, as it does not count the puts of nested transactions: that
    // nobody is given one is the scheduler's own doing, once it has seen the alarm.
    let leader = fleet.leader();
    fleet.logs(&leader, 0, &["StoreFull"]);
    fleet.explains(WAITS, "the store is full");
    fleet.bite("the leader knows that etcd is full");
    fleet.last(UNDER_WAY);
    let before = fleet.given();
    fleet.kill_worker(&dies.node);
    let ttl = fleet.shape.ttl();
    fleet.last(ttl * 3);
    fleet.is_free(&dies);
    fleet.none_given_since(before);
    // Renewals need no space: the owners are the same.
    let lives = fleet.record.see(|view| view.sessions.get(&victim.node).cloned());
    assert_eq!(lives.as_deref(), Some(victim.life.as_str()), "the node lost its lease");
    fleet.keeps(&victim);
    let doctor = fleet.cli(&["doctor", "-o", "json"]);
    assert!(doctor.contains("\"EtcdNoSpace\""), "doctor does not name the alarm: {doctor}");
    fleet.bite("nobody was given anything, and doctor says why");
    fleet.make_room();
    fleet.comes_back(&dies);
    fleet.over();
    fleet.submit(4);
    fleet.finish();
    Outcome::Passed
}
