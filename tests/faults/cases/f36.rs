//! F36: an installation of an earlier version is upgraded process by process, while loops run: a new worker
//! under old schedulers, then an old worker under new schedulers, in the end all is new.

use flyball_proto::v1::NodeMark;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::runner::{Attempt, Case, Outcome};

pub(crate) const CASE: Case = Case { id: "F36", title: "mixed versions", usual: true, run };

fn run(attempt: &Attempt) -> Outcome {
    let Some(earlier) = attempt.earlier.clone() else {
        return Outcome::Skipped(
            "no program of an earlier version was given (--earlier PROGRAM); that unknown fields and \
             keys of a newer one survive is tested with the documents and the store"
                .to_owned(),
        );
    };
    let shape = Shape { items: 10, spare: 3, earlier: Some(earlier), ..Shape::default() };
    let mut fleet = Fleet::start(attempt, shape);
    let first = fleet.busy_victim();
    fleet.fault("upgrade a worker under earlier schedulers");
    fleet.kill_worker(&first.node);
    fleet.upgraded.insert(first.node.clone());
    fleet.comes_back(&first);
    fleet.over();
    let runs = upgrade_schedulers(&mut fleet);
    // Work that a new scheduler gives to the worker that is still an earlier one.
    fleet.mark(&first.node, NodeMark::Cordoned);
    let late: Vec<String> = (4..=6).map(|number| fleet.submit(number)).collect();
    let old = fleet.workers.keys().find(|node| **node != first.node).cloned().expect("another");
    let key =
        fleet.until("an earlier worker runs what a new scheduler gave it", NOTICE_MAX, |view| {
            let runs = |key: &&String| {
                let claim = view.claims.get(*key);
                let accepted = view.statuses.get(*key).map_or(0, |status| status.progress.accepted);
                claim.is_some_and(|claim| claim.node == old) && accepted > 0
            };
            late.iter().find(runs).cloned()
        });
    fleet.mark(&first.node, NodeMark::Schedulable);
    undisturbed(&fleet, &runs);
    let last = fleet.victim_of(&key);
    fleet.fault("upgrade the last worker");
    fleet.kill_worker(&last.node);
    fleet.upgraded.insert(last.node.clone());
    fleet.comes_back(&last);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}

/// The one that follows first, then the leader. The loops that are owned meanwhile, with their tokens: their runs know
/// nothing of it, as the new version reads what the earlier one wrote of them as it was meant.
fn upgrade_schedulers(fleet: &mut Fleet) -> Vec<(String, i64)> {
    let runs: Vec<(String, i64)> = fleet
        .record
        .see(|view| view.claims.iter().map(|(key, claim)| (key.clone(), claim.token)).collect());
    assert!(!runs.is_empty(), "nothing runs that could be disturbed");
    let leader = fleet.leader();
    let follower = fleet.schedulers.keys().find(|name| **name != leader).cloned().expect("another");
    fleet.fault("upgrade the schedulers");
    for name in [&follower, &leader] {
        fleet.kill_scheduler(name);
        fleet.upgraded.insert(name.clone());
        if *name == leader {
            fleet.until("the upgraded scheduler leads", NOTICE_MAX, |view| {
                (view.leader == follower).then_some(())
            });
        }
        fleet.start_scheduler(name);
    }
    fleet.bite("the leader is of another version");
    fleet.over();
    runs
}

/// Whoever owned a loop still does, or has brought it to its end.
fn undisturbed(fleet: &Fleet, runs: &[(String, i64)]) {
    fleet.record.see(|view| {
        for (key, token) in runs {
            let owned = view.claims.get(key).map(|claim| claim.token);
            let ended = view.statuses.get(key).is_some_and(|status| status.phase.is_terminal());
            assert!(
                owned == Some(*token) || (owned.is_none() && ended),
                "{key}: its run under token {token} was lost to the upgrade of the schedulers: {view:#?}"
            );
        }
    });
}
