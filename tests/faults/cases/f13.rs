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
    owners: Owners::Stay("a slow disk delays renewals, and may or may not end a lease"),
    run,
};

/// How long each write to disk takes.
const DELAY: Duration = Duration::from_secs(2);
/// How long the disk is slow.
const SLOW: Duration = Duration::from_secs(10);
/// Most bytes that the schedulers may send to etcd meanwhile: about ten times what they send in
/// such a time without a fault. More would be a storm of retries.
const SENT_MAX: u64 = 3_000_000;

fn run(attempt: &Attempt) -> Outcome {
    let strace = match host::strace() {
        Ok(strace) => strace,
        Err(why) => return Outcome::Skipped(why),
    };
    let mut fleet = Fleet::start(attempt, Shape::default());
    fleet.victim();
    let leader = fleet.etcd_leader();
    let sent = |fleet: &Fleet| fleet.net.edges("*", "*").map(Proxy::sent).sum::<u64>();
    let before = sent(&fleet);
    fleet.fault("slow disk of the leading member");
    // A leader that is stuck may end leases that were renewed in time.
    fleet.leases_end_unfairly();
    let delay = format!("delay_enter={}", DELAY.as_micros());
    let injected = strace.inject(fleet.members.pid(leader), &delay, &fleet.dir().join("strace"));
    fleet.last(SLOW);
    let hits = injected.end();
    assert!(hits > 0, "no write to disk was slow");
    fleet.bite(&format!("{hits} writes were slow"));
    fleet.over();
    let sent = sent(&fleet) - before;
    assert!(sent < SENT_MAX, "{sent} bytes were sent while the disk was slow");
    fleet.finish();
    Outcome::Passed
}
