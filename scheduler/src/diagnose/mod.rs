//! `flyball doctor`, the scheduler's part: looks at this scheduler, its store, its leases and the
//! nodes, and says what it finds. It decides nothing, and everything it waits for is bounded.

pub(crate) mod certificates;
mod clock;
mod nodes;
mod store;
pub(crate) mod versions;

use std::future::Future;
use std::time::Duration;

use flyball_core::diagnosis::{Area, Diagnosis, Finding};
use flyball_store::{Measured, Member, Store, StoreError, StoreStatus};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::namesakes::Namesakes;
use crate::reactor::NodeStatus;
use crate::renewals::{Renewals, millis};

/// Longest wait for each question to the store; they are asked at the same time.
const ANSWER_MAX: Duration = Duration::from_secs(4);

/// What a diagnosis needs beside the view.
#[derive(Debug)]
pub(crate) struct Doctor {
    /// How long renewals take.
    pub(crate) renewals: Renewals,
    /// Workers that were refused here, as their name is another one's.
    pub(crate) namesakes: Namesakes,
    session_ttl: Duration,
    /// It wins over what workers ask for.
    fixed_ttl: bool,
    election_ttl: Duration,
    started: clock::Reading,
    /// One measurement at a time, however many ask.
    measuring: Semaphore,
}

/// What the scheduler knows of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Itself {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) leads: bool,
    /// It decides: its view is current.
    pub(crate) acts: bool,
    /// Id and address of the leader; empty if there is none.
    pub(crate) leader: (String, String),
}

/// The store's answers.
struct Answers {
    status: Result<StoreStatus, StoreError>,
    members: Result<Vec<Member>, StoreError>,
    measured: Option<Result<Measured, StoreError>>,
}

impl Doctor {
    /// From the start of the process on.
    pub(crate) fn new(session_ttl: Duration, election_ttl: Duration, now: Timestamp) -> Self {
        Self {
            renewals: Renewals::new(session_ttl),
            namesakes: Namesakes::default(),
            session_ttl,
            fixed_ttl: false,
            election_ttl,
            started: clock::Reading::at(now),
            measuring: Semaphore::new(1),
        }
    }

    /// Whether its time to live wins over what workers ask for.
    #[must_use]
    pub(crate) fn with_fixed_ttl(self, fixed_ttl: bool) -> Self {
        Self { fixed_ttl, ..self }
    }

    /// Everything, in the order of the sections. `now` is the wall clock.
    pub(crate) async fn diagnose(
        &self,
        store: &Store,
        itself: &Itself,
        nodes: &[NodeStatus],
        measure: bool,
        now: Timestamp,
    ) -> Diagnosis {
        let measured = async {
            if !measure {
                return None;
            }
            // Never closed.
            let _turn = self.measuring.acquire().await;
            Some(bounded(store.measure()).await)
        };
        let (status, members, measured) =
            tokio::join!(bounded(store.status()), bounded(store.members()), measured);
        let answers = Answers { status, members, measured };
        let mut findings = of_itself(itself);
        findings.extend(clock::findings(self.started, clock::Reading::at(now)));
        findings.extend(self.of_store(&answers));
        findings.extend(self.of_leases());
        findings.extend(nodes::findings(nodes, &itself.version, now));
        let asked = Instant::now();
        let names = self.namesakes.list(asked);
        let held = names.iter().filter(|name| {
            // Another scheduler may have given the name away, or its holder has ended.
            let is = |node: &&NodeStatus| node.record.name == name.node;
            nodes.iter().find(is).is_some_and(|node| node.session.as_ref() == Some(&name.holder))
        });
        findings.extend(held.map(|name| nodes::taken(name, asked)));
        // Stable: within a section the order stays.
        findings.sort_by_key(|finding| finding.area);
        Diagnosis { findings }
    }

    fn of_store(&self, answers: &Answers) -> Vec<Finding> {
        let mut found = Vec::new();
        match &answers.status {
            Ok(status) => {
                found.extend(store::version(&status.version));
                found.extend(store::space(status));
            }
            Err(error) => {
                let message = format!("does not answer: {error}");
                let next = "look at etcd's health and log, and at --etcd of this scheduler";
                found.push(Finding::error(Area::Store, "StoreAway", message, next));
            }
        }
        if let Ok(members) = &answers.members {
            let answering = answers.status.as_ref().map_or(0, |status| status.member);
            let serves = matches!(answers.measured, Some(Ok(_)));
            found.extend(store::members(members, answering, serves));
        }
        if let Some(measured) = &answers.measured {
            found.extend(store::measured(measured, self.renewals.limit()));
        }
        found
    }

    fn of_leases(&self) -> Vec<Finding> {
        let ttl = self.session_ttl;
        let who = match self.fixed_ttl {
            true => "as set by --session-ttl",
            false => "unless a worker asks otherwise (--ttl)",
        };
        let message = format!(
            "nodes get {} s, {who}, and renew every {} ms; the leadership has {} s",
            ttl.as_secs(),
            ttl.as_millis() / 3,
            self.election_ttl.as_secs()
        );
        let ttl = Finding::ok(Area::Lease, "Ttl", message).figure("ttlSeconds", ttl.as_secs());
        vec![ttl, self.of_renewals()]
    }

    fn of_renewals(&self) -> Finding {
        let served = self.renewals.served();
        let (all, recent) = (&served.all, &served.recent);
        if all.count() == 0 {
            return Finding::ok(Area::Lease, "Renewals", "none served here yet");
        }
        let limit = self.renewals.limit();
        let text = format!(
            "{} renewals served here: p50 {} ms, p99 {} ms, max {} ms; p99 of the last minutes {} \
             ms of at most {} ms; {} without an answer",
            all.count(),
            millis(all.percentile(50)),
            millis(all.percentile(99)),
            millis(all.max()),
            millis(recent.percentile(99)),
            millis(limit),
            served.failed
        );
        let finding = if recent.percentile(99) > limit {
            let next = "look at etcd's disk and network, or raise --session-ttl";
            Finding::warning(Area::Lease, "RenewalsSlow", text, next)
        } else {
            Finding::ok(Area::Lease, "Renewals", text)
        };
        finding
            .figure("count", all.count())
            .figure("failed", served.failed)
            .figure("p50Micros", all.percentile(50).as_micros())
            .figure("p99Micros", all.percentile(99).as_micros())
            .figure("recentP99Micros", recent.percentile(99).as_micros())
            .figure("maxMicros", all.max().as_micros())
            .figure("limitMicros", limit.as_micros())
    }
}

async fn bounded<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::Unavailable { why: format!("no answer within {ANSWER_MAX:?}") };
    tokio::time::timeout(ANSWER_MAX, answer).await.unwrap_or_else(|_| Err(late()))
}

fn of_itself(itself: &Itself) -> Vec<Finding> {
    let area = Area::Scheduler;
    let who = format!("{} runs version {}", itself.id, itself.version);
    let (leader, address) = &itself.leader;
    vec![if itself.leads && itself.acts {
        Finding::ok(area, "Leader", format!("{who} and leads"))
    } else if itself.leads {
        let message = format!("{who} and leads, but reads its state anew");
        let next = "ask again; if it stays so, look at the store and at this scheduler's log";
        Finding::warning(area, "LeaderNotReady", message, next)
    } else if leader.is_empty() {
        let message = format!("{who}; nobody leads: nothing is placed");
        let next = "wait for one leadership's time to live; if it stays so, look at the store";
        Finding::error(area, "NoLeader", message, next)
    } else {
        Finding::ok(area, "Standby", format!("{who} and stands by; {leader} leads at {address}"))
    }]
}

/// Says at the start what is known of this version of etcd.
pub(crate) fn warn_of_version(version: &str) {
    for finding in store::version(version) {
        match finding.level {
            flyball_core::diagnosis::Level::Ok => {}
            flyball_core::diagnosis::Level::Warning => {
                let (code, next_step) = (&finding.code, &finding.next_step);
                tracing::warn!(name = %code, %next_step, "{}", finding.message);
            }
            flyball_core::diagnosis::Level::Error => {
                let (code, next_step) = (&finding.code, &finding.next_step);
                tracing::error!(name = %code, %next_step, "{}", finding.message);
            }
        }
    }
}
