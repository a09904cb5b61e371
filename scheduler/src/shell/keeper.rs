//! The keeper: looks after the store's own state now and then, and names what is wrong with it.

use std::time::Duration;

use flyball_core::lease::TTL_SECONDS_MAX;
use flyball_store::{Leadership, Store};
use tokio::sync::watch;
use tokio::time::Instant;

use super::core::Handle;
use super::known::Sessions;
use crate::findings::{
    Findings, STORE_ALARM, STORE_BEHIND, STORE_FULL, STORE_UNAVAILABLE, Severity,
};
use crate::reactor::Event;

/// Pause between two looks: two cheap reads, and an operator who waits for an alarm to go sees it go.
const PAUSE: Duration = Duration::from_secs(3);

/// How long a node that was there at the start is waited for, though its lease goes on: one whose heartbeats arrive and
/// whose session does not must not keep everybody waiting for ever. No lease lasts longer, so one that has not ended by then was
/// renewed since. It counts anew from when the store was found to be behind, as nodes are then asked again.
const HEARD_AFTER: Duration = Duration::from_secs(TTL_SECONDS_MAX.unsigned_abs() + 10);

pub(crate) const FULL: &str =
    "etcd has raised its NOSPACE alarm: it takes deletes and renewals only";
pub(crate) const FULL_STEP: &str = "etcdctl compact, defrag --cluster and alarm disarm; then raise \
                                    --quota-backend-bytes or switch on --auto-compaction-retention";
const ALARM_STEP: &str = "see etcdctl alarm list and etcd's documentation on data corruption";
const UNAVAILABLE_STEP: &str = "look at etcd and the network to it; workers stop at their deadlines \
                                and everything goes on by itself when it is back";

/// Looks after the store.
pub(crate) struct Keeper {
    pub(crate) store: Store,
    pub(crate) findings: Findings,
    pub(crate) sessions: Sessions,
    pub(crate) leadership: watch::Receiver<Option<Leadership>>,
    pub(crate) core: Handle,
}

impl Keeper {
    /// Looks for as long as the process lives.
    pub(crate) async fn run(self) {
        let mut began = Instant::now();
        let mut heard = false;
        loop {
            if self.findings.holds(STORE_BEHIND) {
                (began, heard) = (Instant::now(), false);
            }
            if !heard && began.elapsed() >= HEARD_AFTER {
                heard = true;
                if self.core.tell(Event::Heard).await.is_err() {
                    return;
                }
            }
            look(&self.store, &self.findings).await;
            let full = Event::StoreFull(self.findings.holds(STORE_FULL));
            if self.core.tell(full).await.is_err() {
                return;
            }
            self.end_detached_sessions().await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A session key without a lease outlives its incarnation, and with it what depends on that end.
    async fn end_detached_sessions(&self) {
        let Some(leadership) = self.leadership.borrow().clone() else { return };
        for node in self.sessions.detached() {
            let removed = self.store.remove_detached_session(&leadership, &node).await;
            if let Err(error) = removed {
                tracing::warn!(%node, %error, "a session key without a lease cannot be removed");
            }
        }
    }
}

async fn look(store: &Store, findings: &Findings) {
    // Needs a quorum, which the status of one member does not.
    let status = match store.revision().await {
        Ok(_) => store.status().await,
        Err(error) => Err(error),
    };
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            let message = error.to_string();
            let at = (STORE_UNAVAILABLE, "");
            findings.raise(Severity::Error, at, message, UNAVAILABLE_STEP);
            return;
        }
    };
    findings.clear(STORE_UNAVAILABLE, "");
    // `memberID:… alarm:NOSPACE `, one per member and alarm, among other complaints.
    let alarms = status.errors.iter().filter_map(|error| error.rsplit_once("alarm:"));
    let alarms: Vec<&str> = alarms.map(|(_, alarm)| alarm.trim()).collect();
    if alarms.contains(&"NOSPACE") {
        findings.raise(Severity::Error, (STORE_FULL, ""), FULL.to_owned(), FULL_STEP);
    } else {
        findings.clear(STORE_FULL, "");
    }
    let others = || alarms.iter().copied().filter(|alarm| *alarm != "NOSPACE");
    for alarm in others() {
        let message = format!("etcd has raised the alarm {alarm}");
        findings.raise(Severity::Error, (STORE_ALARM, alarm), message, ALARM_STEP);
    }
    findings.retain(STORE_ALARM, |subject| others().any(|alarm| alarm == subject));
}
