//! F18: etcd changes its leader all the time, which arms every lease anew; the loops of a frozen machine must still
//! go on. Nobody is left there to tell of its end, and its lease does not end: the leading scheduler has to find out.

use std::time::Duration;

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

/// Most leaders that are stopped one after the other: three times what it took when it was tried.
const CHANGES_MAX: u32 = 40;
/// How long each one leads: well below a lease, so that none ends by itself, and long enough for
/// etcd to answer in between: where it never does, nothing can be written, and nobody can take anything over.
const REIGN: Duration = Duration::from_millis(1500);

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { ttl: 6, ..Shape::default() });
    let victim = fleet.busy_victim();
    fleet.fault("stop every leading member in turn, and freeze a machine");
    // Old leaders of etcd wake up and end leases that were renewed elsewhere.
    fleet.leases_end_unfairly();
    let machine = [fleet.workers[&victim.node].pid(), fleet.guard(&victim.node)];
    fleet.stop(&machine);
    fleet.dead_by_deadline(&victim.node);
    let mut changes = 0;
    while !is_taken(&fleet, &victim) {
        assert!(changes < CHANGES_MAX, "nobody took over within {changes} changes of leader");
        let leader = fleet.etcd_leader();
        let member = [fleet.members.pid(leader)];
        fleet.stop(&member);
        fleet.other_leads(leader);
        fleet.go_on(&member);
        fleet.last(REIGN);
        changes += 1;
    }
    fleet.bite(&format!("its loops were taken over by change {changes} of etcd's leader"));
    fleet.lost_everything(&victim);
    fleet.continue_all();
    fleet.reborn(&victim);
    fleet.over();
    let said = |name: &String| fleet.log(name).contains("no scheduler hears from it");
    let ended = fleet.schedulers.keys().any(said);
    fleet.finish();
    if !ended {
        let why = "an old leader of etcd woke up and ended the lease too early, which shows nothing; try another seed";
        return Outcome::Skipped(why.to_owned());
    }
    Outcome::Passed
}

fn is_taken(fleet: &Fleet, victim: &Victim) -> bool {
    let newer = |(key, token): &(String, i64)| {
        fleet.record.see(|view| view.tokens.get(key).is_some_and(|newest| newest > token))
    };
    victim.owned.iter().any(newer)
}
