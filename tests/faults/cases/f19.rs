//! F19: etcd's log is compacted past the schedulers' watches. They are cut off; what they list when they may ask
//! again is old by the time it arrives, and what came behind it is gone from the log: they have to list once more.

use std::time::{Duration, Instant};

use etcd_client::CompactionOptions;
use flyball_tests::poll::until;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::hands::Victim;
use crate::proxy::{Mode, Proxy, Way};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F19",
    title: "log compacted past lagging watchers",
    usual: true,
    owners: Owners::Change,
    run,
};

/// How often it is tried to get in between a listing and the watch behind it.
const TRIES: u32 = 5;
/// Longest wait for what a watch is told.
const WATCH_MAX: Duration = Duration::from_secs(3);
const NAMES: [&str; 2] = ["s1", "s2"];
/// Where the last range of a listing begins: behind the events.
const LAST_RANGE: &[u8] = b"/flyball/v1/events0";

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { items: 10, ..Shape::default() });
    let victim = fleet.busy_victim();
    let begun = NAMES.map(|name| fleet.log(name).len());
    fleet.fault("cut the schedulers off and compact the log past what they know");
    let is_lost = |fleet: &Fleet| {
        let told = |(name, from): (&str, usize)| {
            fleet.logged(name, from, &["the watch is lost; listing again", "Compacted"])
        };
        NAMES.iter().zip(begun).filter_map(|(name, from)| told((name, from))).collect::<Vec<_>>()
    };
    for _ in 0..TRIES {
        get_between(&mut fleet, &victim);
        let begun = Instant::now();
        while is_lost(&fleet).len() < NAMES.len() && begun.elapsed() < WATCH_MAX {
            std::thread::sleep(Duration::from_millis(20));
        }
        if is_lost(&fleet).len() == NAMES.len() {
            break;
        }
    }
    let said = is_lost(&fleet);
    assert_eq!(said.len(), NAMES.len(), "not every watch was lost to a compaction: {said:?}");
    said.iter().for_each(|line| fleet.bite(line));
    // Their next listing is good for everything: the view is built anew from it.
    fleet.lost_everything(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}

/// Lets the schedulers list, holds the last answer back, and compacts the log behind what it says.
fn get_between(fleet: &mut Fleet, victim: &Victim) {
    let begun = NAMES.map(|name| fleet.log(name).len());
    for name in NAMES {
        fleet.net.set(name, "*", Mode::Close);
    }
    for (name, from) in NAMES.iter().zip(begun) {
        fleet.logs(name, from, &["the watch is lost; listing again"]);
        fleet.net.edges(name, "*").for_each(|edge| edge.hold_from(LAST_RANGE, Way::Back));
    }
    let fired = |fleet: &Fleet, name: &str| fleet.net.edges(name, "*").map(Proxy::fired).sum();
    let before: [u64; 2] = NAMES.map(|name| fired(fleet, name));
    for name in NAMES {
        fleet.net.set(name, "*", Mode::Pass);
    }
    until("both schedulers list", NOTICE_MAX, || {
        let lists = |at: usize| fired(fleet, NAMES[at]) > before[at];
        (lists(0) && lists(1)).then_some(())
    });
    end_a_lease_and_compact(fleet, victim);
    fleet.net.heal();
}

/// The end of a lease is behind what was listed, and then gone from the log.
fn end_a_lease_and_compact(fleet: &Fleet, victim: &Victim) {
    let (key, _) = &victim.owned[0];
    let lease = fleet.record.see(|view| view.claims.get(key).map(|claim| claim.lease));
    if let Some(lease) = lease {
        fleet.ends_unfairly(lease);
    }
    let revision = fleet.runtime.block_on(async {
        let mut client = fleet.raw().await;
        if let Some(lease) = lease {
            // It may have ended by itself, as nobody renews it.
            let _ = client.lease_revoke(lease).await;
        }
        let put = client.put("/behind", "x", None).await.expect("a key can be put");
        put.header().map_or(0, etcd_client::ResponseHeader::revision)
    });
    // The history needs all of it.
    fleet.until("all up to here is in the history", NOTICE_MAX, |view| {
        (view.revision >= revision).then_some(())
    });
    fleet.runtime.block_on(async {
        let options = CompactionOptions::new().with_physical();
        let compacted = fleet.raw().await.compact(revision, Some(options)).await;
        compacted.expect("the log can be compacted");
    });
}
