//! F11: the leader of the etcd cluster is killed.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case =
    Case { id: "F11", title: "etcd leader killed", usual: true, owners: Owners::Change, run };

/// An etcd election: a timeout of a second, up to twice as long by chance.
const ELECTION: Duration = Duration::from_secs(2);
/// How much longer all of it may take on a machine that is busy.
const BUSY: u32 = 4;

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { spare: 2, ..Shape::default() });
    let victim = fleet.victim();
    let leader = fleet.etcd_leader();
    fleet.fault("kill the leading member, and a worker");
    fleet.members.kill(leader);
    let begun = Instant::now();
    fleet.kill_worker(&victim.node);
    // A loop that waits for no other.
    let key = fleet.submit(5);
    fleet.other_leads(leader);
    // The leading scheduler, too, may have lost its leadership meanwhile.
    let bound = (ELECTION + fleet.shape.ttl()) * BUSY;
    fleet.until("new work begins without it", bound.saturating_sub(begun.elapsed()), |view| {
        (view.statuses.get(&key)?.progress.accepted > 0).then_some(())
    });
    fleet.bite(&format!("{key} got on {:?} after the end of etcd's leader", begun.elapsed()));
    // By two members of three.
    fleet.comes_back(&victim);
    fleet.members.start_member(leader);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
