//! Findings about the store: version, size, alarms, members, and how long it takes.

use std::time::Duration;

use flyball_core::diagnosis::{Area, Finding};
use flyball_store::{Measured, Member, StoreError, StoreStatus};

use super::versions::{self, RECOMMENDED};
use crate::renewals::millis;

/// A median of small writes above this is slow: every assignment and every kept iteration waits for
/// one. etcd's own advice is a 99th percentile of 10 ms for a write to its log.
const WRITE_SLOW: Duration = Duration::from_millis(50);

/// etcd's bound on its database where it is not told, and the share of it that is a warning.
const QUOTA_DEFAULT: i64 = 2 * 1024 * 1024 * 1024;
const QUOTA_WARN_PERCENT: i64 = 80;

const AREA: Area = Area::Store;

/// The version and its known faults.
pub(super) fn version(version: &str) -> Vec<Finding> {
    if versions::is_embedded(version) {
        return vec![Finding::ok(AREA, "Version", format!("embedded, {version}"))];
    }
    let about = format!("etcd {version}");
    if versions::may_lose_data(version) {
        let message = format!(
            "{about} can lose or fork acknowledged data after a crash (issue 13766); fencing does \
             not help against that"
        );
        let next = format!("upgrade etcd to {RECOMMENDED} now");
        return vec![Finding::error(AREA, "EtcdInconsistent", message, &next)];
    }
    let bugs = versions::known_bugs(version);
    let next = format!("upgrade etcd to {RECOMMENDED}");
    if bugs.is_empty() {
        return match versions::is_end_of_life(version) {
            true => {
                let message = format!("{about} has no known faults, but gets no fixes any more");
                vec![Finding::warning(AREA, "EtcdEndOfLife", message, &next)]
            }
            false => vec![Finding::ok(AREA, "Version", format!("{about}, no known faults"))],
        };
    }
    let one = |bug: &versions::KnownBug| {
        let message = format!("{about}: {} ({}); safety holds by fencing", bug.effect, bug.name);
        Finding::warning(AREA, "EtcdKnownBugs", message, &next)
    };
    bugs.iter().map(one).collect()
}

/// Size of the database against its quota, and alarms.
pub(super) fn space(status: &StoreStatus) -> Vec<Finding> {
    let mut found: Vec<Finding> = status.errors.iter().map(|text| alarm(text)).collect();
    let embedded = versions::is_embedded(&status.version);
    let (quota, told) = match status.quota_bytes {
        ..=0 => (QUOTA_DEFAULT, false),
        told => (told, true),
    };
    let size = mib(status.db_bytes);
    let percent = i128::from(status.db_bytes) * 100 / i128::from(quota);
    let finding = if embedded {
        Finding::ok(AREA, "Size", format!("database of {size}"))
    } else if percent >= i128::from(QUOTA_WARN_PERCENT) {
        let message = match told {
            true => format!("database of {size}, {percent} % of its quota"),
            false => format!("database of {size}; etcd's quota is 2 GiB unless it is set"),
        };
        let next = "compact and defragment (etcdctl compact, etcdctl defrag), or raise \
                    --quota-backend-bytes";
        Finding::warning(AREA, "Size", message, next)
    } else {
        let message = match told {
            true => format!("database of {size}, {percent} % of its quota"),
            false => format!("database of {size}; this etcd does not tell its quota"),
        };
        Finding::ok(AREA, "Size", message)
    };
    found.push(finding.figure("dbBytes", status.db_bytes).figure("quotaBytes", status.quota_bytes));
    found
}

fn alarm(text: &str) -> Finding {
    if text.contains("NOSPACE") {
        return Finding::error(
            AREA,
            "EtcdNoSpace",
            "etcd is out of space: nothing new is accepted, runs go on",
            "compact, defragment, then etcdctl alarm disarm; see docs/operations.md",
        );
    }
    if text.contains("CORRUPT") {
        let next = "take the named member out and let it copy the data anew";
        return Finding::error(AREA, "EtcdCorrupt", format!("etcd reports: {text}"), next);
    }
    Finding::error(AREA, "EtcdAlarm", format!("etcd reports: {text}"), "look at etcd's log")
}

/// The members and whether a quorum of them is well. `answering` is the member that the store's own
/// connection reached; `serves` says that a quorum has just taken writes, whatever addresses say.
pub(super) fn members(members: &[Member], answering: u64, serves: bool) -> Vec<Finding> {
    // An embedded store names no address and needs no quorum.
    let asked: Vec<_> = members.iter().filter(|member| member.status.is_some()).collect();
    if asked.is_empty() {
        return Vec::new();
    }
    let bad = |member: &&Member| matches!(member.status, Some(Err(_))) && member.id != answering;
    let (total, away) = (members.len(), members.iter().filter(bad).count());
    let (well, quorum) = (total - away, total / 2 + 1);
    let mut found = Vec::new();
    for member in members.iter().filter(bad) {
        let Some(Err(error)) = &member.status else { continue };
        let message = format!("does not answer at {}: {error}", member.urls.join(", "));
        let next = "look at this member, and that its --advertise-client-urls can be reached from \
                    the scheduler";
        found.push(Finding::warning(AREA, "MemberAway", message, next).about(&member.name));
    }
    let leaders = asked.iter().filter_map(|member| member.status.as_ref()?.as_ref().ok());
    let no_leader = leaders.clone().any(|status| status.leader == 0);
    let text = format!("{well} of {total} members answer, {quorum} are needed");
    found.push(if well < quorum && serves {
        let next = "let members advertise addresses that schedulers reach";
        Finding::warning(AREA, "Quorum", format!("{text}, yet the store takes writes"), next)
    } else if well < quorum {
        Finding::error(AREA, "Quorum", text, "bring members back: nothing is accepted without")
    } else if no_leader {
        let next = "look at the network between the members and at their disks";
        Finding::warning(AREA, "Quorum", format!("{text}; some member has no leader"), next)
    } else if total.is_multiple_of(2) {
        let next = "run an odd number: an even one bears no more losses than one member less";
        Finding::warning(AREA, "Quorum", text, next)
    } else {
        Finding::ok(AREA, "Quorum", text)
    });
    found
}

/// How long the store takes now.
pub(super) fn measured(measured: &Result<Measured, StoreError>, limit: Duration) -> Vec<Finding> {
    let measured = match measured {
        Ok(measured) => measured,
        Err(error) => {
            let message = format!("a short lease and some writes failed: {error}");
            let next = "look at etcd's health and log; nothing new is accepted meanwhile";
            return vec![Finding::error(AREA, "Measure", message, next)];
        }
    };
    let p50 = measured.writes.get(measured.writes.len() / 2).copied().unwrap_or_default();
    let max = measured.writes.last().copied().unwrap_or_default();
    let text = format!(
        "{} small writes: p50 {} ms, max {} ms; quorum read {} ms",
        measured.writes.len(),
        millis(p50),
        millis(max),
        millis(measured.read)
    );
    let writes = if p50 > WRITE_SLOW {
        let next = "give etcd a disk of its own with a quick fsync (an SSD)";
        Finding::warning(AREA, "WritesSlow", text, next)
    } else {
        Finding::ok(AREA, "Writes", text)
    };
    let writes = writes
        .figure("p50Micros", p50.as_micros())
        .figure("maxMicros", max.as_micros())
        .figure("readMicros", measured.read.as_micros());
    vec![writes, lease_round_trip(measured, limit)]
}

fn lease_round_trip(measured: &Measured, limit: Duration) -> Finding {
    let text = format!(
        "a lease now: granted in {} ms, renewed in {} ms, revoked in {} ms",
        millis(measured.grant),
        millis(measured.keep_alive),
        millis(measured.revoke)
    );
    let finding = if measured.keep_alive > limit {
        let next = "look at etcd's disk and network, or raise --session-ttl";
        Finding::warning(Area::Lease, "RoundTripSlow", text, next)
    } else {
        Finding::ok(Area::Lease, "RoundTrip", text)
    };
    finding
        .figure("grantMicros", measured.grant.as_micros())
        .figure("renewMicros", measured.keep_alive.as_micros())
        .figure("revokeMicros", measured.revoke.as_micros())
}

fn mib(bytes: i64) -> String {
    let kib = bytes.max(0) / 1024;
    match kib {
        0..1024 => format!("{kib} KiB"),
        _ => format!("{} MiB", kib / 1024),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
