//! F38: a second worker says that it is a node that is alive.

use std::time::Duration;

use crate::fleet::{Fleet, Shape};
use crate::hands::Victim;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F38",
    title: "two workers with one identity",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { items: 12, ..Shape::default() });
    let victim = fleet.busy_victim();
    fleet.fault("start a second worker of the same name");
    let mut double = fleet.start_worker_as(&victim.node, "double");
    let ttl = fleet.shape.ttl();
    fleet.last(ttl * 2 + Duration::from_millis(500));
    let life = fleet.record.see(|view| view.sessions.get(&victim.node).cloned());
    assert_eq!(life.as_deref(), Some(victim.life.as_str()), "the second one got the name");
    let said = fleet.log("double");
    assert!(said.contains("the name is taken"), "it was not told why: {said}");
    is_named(&fleet, &victim);
    fleet.bite("the second one was refused");
    // The first one dies; the name is free once its lease is over.
    fleet.kill_worker(&victim.node);
    fleet.lost_everything(&victim);
    double.kill();
    fleet.start_worker(&victim.node);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}

/// The doctor names it, also one that asks a stand-by first, which knows of no refusal itself.
fn is_named(fleet: &Fleet, victim: &Victim) {
    let leader = fleet.leader();
    let others = fleet.addresses.iter().filter(|(name, _)| **name != leader);
    let doctor = ["doctor", "--no-measure", "-o", "json"];
    for (_, standby) in others {
        let others = ["--addr", standby, "--scheduler", &fleet.addresses[&leader]];
        for args in [&doctor[..], &[&doctor[..], &others].concat()] {
            let told = fleet.cli(args);
            assert!(told.contains("\"NameTaken\"") && told.contains("its own --node"), "{told}");
            assert!(told.contains(&victim.life), "it does not say who has the name: {told}");
        }
    }
}
