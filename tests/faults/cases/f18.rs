//! F18: etcd changes its leader all the time, which arms every lease anew; the loops of a frozen machine must still
//! go on. Nobody is left there to tell of its end, so only its lease can: it ends once the changes do.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Shape};
use crate::hands::Victim;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F18",
    title: "etcd leader changes all the time",
    usual: false,
    owners: Owners::Change,
    run,
};

/// Leaders stopped one after the other.
const CHANGES: u32 = 8;
/// What a new leader of etcd adds to every lease: its election timeout.
const ELECTION: Duration = Duration::from_secs(1);
/// Between two looks of etcd for leases that have ended.
const TICK: Duration = Duration::from_millis(500);
/// How much longer all of it may take on a machine that is busy.
const BUSY: u32 = 4;

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.busy_victim();
    fleet.fault("stop every leading member in turn, and freeze a machine");
    // Old leaders of etcd wake up and end leases that were renewed elsewhere.
    fleet.leases_end_unfairly();
    let machine = [fleet.workers[&victim.node].pid(), fleet.guard(&victim.node)];
    fleet.stop(&machine);
    fleet.dead_by_deadline(&victim.node);
    let mut recovered_at = None;
    for change in 1..=CHANGES {
        let leader = fleet.etcd_leader();
        let member = [fleet.members.pid(leader)];
        fleet.stop(&member);
        fleet.other_leads(leader);
        fleet.go_on(&member);
        if recovered_at.is_none() && is_taken(&fleet, &victim) {
            recovered_at = Some(change);
        }
    }
    let calm = Instant::now();
    let bound = (fleet.shape.ttl() + ELECTION + TICK) * BUSY;
    fleet.lost_everything(&victim);
    let took = calm.elapsed();
    assert!(took < bound, "it took {took:?} after the last change of etcd's leader");
    fleet.bite(&match recovered_at {
        Some(change) => format!("its loops were taken over by change {change} of {CHANGES}"),
        None => format!("every change armed its lease anew; taken over {took:?} after the last"),
    });
    fleet.continue_all();
    fleet.reborn(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}

fn is_taken(fleet: &Fleet, victim: &Victim) -> bool {
    let newer = |(key, token): &(String, i64)| {
        fleet.record.see(|view| view.tokens.get(key).is_some_and(|newest| newest > token))
    };
    victim.owned.iter().any(newer)
}
