//! F19: etcd's log is compacted past watchers that are stopped; they have to list again.

use etcd_client::CompactionOptions;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F19",
    title: "log compacted past lagging watchers",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.victim();
    fleet.fault("stop all schedulers and compact the log");
    let pids: Vec<i32> = fleet.schedulers.values().map(|process| process.pid()).collect();
    fleet.stop(&pids);
    fleet.dead_by_deadline("n1");
    fleet.dead_by_deadline("n2");
    // The ends of all leases are in the log, and no scheduler has read them.
    fleet.until("etcd has ended all leases", NOTICE_MAX, |view| {
        (view.claims.is_empty() && view.sessions.is_empty()).then_some(())
    });
    let revision = fleet.record.see(|view| view.revision);
    fleet.runtime.block_on(async {
        let options = CompactionOptions::new().with_physical();
        let compacted = fleet.raw().await.compact(revision, Some(options)).await;
        compacted.expect("the log can be compacted");
    });
    fleet.bite(&format!("the log is gone up to revision {revision}"));
    fleet.continue_all();
    fleet.lost_everything(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
