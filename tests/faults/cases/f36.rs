//! F36: an installation of an earlier version is upgraded process by process, while loops run: a new worker
//! under old schedulers, then an old worker under new schedulers, in the end all is new.

use flyball_core::status::LoopStatus;
use flyball_proto::v1::NodeMark;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::recorder::View;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case =
    Case { id: "F36", title: "mixed versions", usual: true, owners: Owners::Change, run };

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
    upgrade_schedulers(&mut fleet);
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
    let last = fleet.victim_of(&key);
    fleet.fault("upgrade the last worker");
    fleet.kill_worker(&last.node);
    fleet.upgraded.insert(last.node.clone());
    fleet.comes_back(&last);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}

/// The one that follows first, then the leader. Runs that are under way know nothing of it: what the earlier version
/// wrote of them, the new one reads as it was meant.
fn upgrade_schedulers(fleet: &mut Fleet) {
    let runs: Vec<(String, i64, LoopStatus)> = fleet.record.see(|view| {
        let status = |key: &String| view.statuses.get(key).cloned();
        let claims = view.claims.iter();
        claims.filter_map(|(key, claim)| Some((key.clone(), claim.token, status(key)?))).collect()
    });
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
    let accepted =
        |view: &View, key: &String| view.statuses.get(key).map(|it| it.progress.accepted);
    let so_far: Vec<_> =
        fleet.record.see(|view| runs.iter().map(|(key, ..)| accepted(view, key)).collect());
    fleet.until("the runs of before go on under the new leader", NOTICE_MAX, |view| {
        let goes_on = |((key, token, before), so_far): (&(String, i64, LoopStatus), &_)| {
            let now = view.statuses.get(key)?;
            let owned = view.claims.get(key).is_some_and(|claim| claim.token == *token);
            let moved = owned && accepted(view, key) > *so_far;
            let ended = now.phase.is_terminal() && now.runs == before.runs;
            (moved || ended).then_some(())
        };
        runs.iter().zip(&so_far).map(goes_on).collect::<Option<()>>()
    });
}
