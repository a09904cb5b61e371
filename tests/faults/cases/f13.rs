//! F13: the disk of the leading etcd member is slow.

use std::time::Duration;

use crate::fleet::{Fleet, Shape};
use crate::host;
use crate::proxy::Proxy;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F13",
    title: "slow disk of the etcd leader",
    usual: false,
    owners: Owners::Change,
    run,
};

/// How long each write to disk takes.
const DELAY: Duration = Duration::from_secs(2);
/// How long the disk is slow.
const SLOW: Duration = Duration::from_secs(10);
/// How long requests are counted before.
const NORMAL: Duration = Duration::from_secs(4);
/// Most requests of the schedulers to etcd meanwhile, as a multiple of those in such a time before.
/// More would be a storm of retries.
const TIMES_MAX: u64 = 3;

fn run(attempt: &Attempt) -> Outcome {
    let strace = match host::strace() {
        Ok(strace) => strace,
        Err(why) => return Outcome::Skipped(why),
    };
    let mut fleet = Fleet::start(attempt, Shape::default());
    // Agents that go on working: the same is to be done before and meanwhile.
    let victim = fleet.busy_victim();
    let leader = fleet.etcd_leader();
    let normal = asked_during(&mut fleet, NORMAL);
    fleet.fault("slow disk of the leading member, and a killed worker");
    // A leader that is stuck may end leases that were renewed in time.
    fleet.leases_end_unfairly();
    let delay = format!("delay_enter={}", DELAY.as_micros());
    let injected = strace.inject(fleet.members.pid(leader), &delay, &fleet.dir().join("strace"));
    fleet.kill_worker(&victim.node);
    let asked = asked_during(&mut fleet, SLOW);
    let hits = injected.end();
    assert!(hits > 0, "no write to disk was slow");
    fleet.bite(&format!("{hits} writes were slow"));
    let normal = normal * SLOW.as_secs() / NORMAL.as_secs();
    assert!(asked <= normal * TIMES_MAX, "{asked} requests, {normal} without the fault");
    fleet.bite(&format!("etcd was asked {asked} times, {normal} without the fault"));
    fleet.comes_back(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}

/// How many requests the schedulers sent to etcd while this passed.
fn asked_during(fleet: &mut Fleet, how_long: Duration) -> u64 {
    let asked = |fleet: &Fleet| {
        let mut sum = 0;
        for number in 1..=fleet.shape.members {
            sum += fleet.net.edges("*", &format!("m{number}")).map(Proxy::asked).sum::<u64>();
        }
        sum
    };
    let before = asked(fleet);
    fleet.last(how_long);
    asked(fleet) - before
}
