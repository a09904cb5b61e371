//! F21: somebody revokes the lease of a worker that is alive and well.

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F21",
    title: "lease of a live worker revoked",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.victim();
    let lease = fleet.record.see(|view| view.claims["default/l1"].lease);
    fleet.fault("revoke the worker's lease");
    fleet.ends_unfairly(lease);
    // The worker does not know; its next heartbeat tells it, or its deadline comes.
    fleet.dead_by_deadline(&victim.node);
    fleet.runtime.block_on(async {
        fleet.raw().await.lease_revoke(lease).await.expect("a lease can be revoked");
    });
    fleet.lost_everything(&victim);
    fleet.reborn(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
