//! Events: short-lived records for people. They hang on leases that are shared by all events of
//! some minutes, so that their end costs nothing per event, and they are bounded in rate: work
//! never waits for them, and they are dropped first.

use std::time::Duration;

use etcd_client::{GetOptions, PutOptions, Txn, TxnOp};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::commit::plan::{Cost, plan};
use crate::error::StoreError;
use crate::keys::{self, EventKey, Key};
use crate::store::Store;
use crate::values::EventRecord;

/// How long an event is kept at least, seconds.
pub const EVENT_TTL_SECONDS: u64 = 3600;

/// A lease serves the events of this long, and lives for that much more than an event.
const LEASE_SHARED_FOR: Duration = Duration::from_secs(600);

/// Bound on events in the long run. With the time to live it bounds what they take of the store:
/// 20/s of at most 1.3 KiB each for 70 minutes are about 110 MB, of etcd's default of 2 GiB.
const EVENTS_PER_SECOND: f64 = 20.0;

/// Events that may come at once, after a quiet time.
const EVENTS_BURST: f64 = 2000.0;

/// Bound on one listing, newest kept; a page for people.
const EVENTS_LISTED_MAX: i64 = 10_000;

/// The lease of the newest events, and what may still be written.
#[derive(Debug)]
pub(crate) struct EventLease {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Lease and when it was granted.
    lease: Option<(i64, Instant)>,
    tokens: f64,
    refilled_at: Instant,
}

impl Default for EventLease {
    fn default() -> Self {
        let state = State { lease: None, tokens: EVENTS_BURST, refilled_at: Instant::now() };
        Self { state: Mutex::new(state) }
    }
}

/// What became of a batch of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventsPut {
    /// Written.
    pub written: usize,
    /// Dropped: above the bound on their rate.
    pub dropped: usize,
}

/// Which events to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventScope {
    /// All.
    All,
    /// Those of all loops of a namespace.
    Namespace(String),
    /// Those of one loop.
    Loop(flyball_core::ids::LoopKey),
}

impl State {
    /// How many of `wanted` events may be written at `now`.
    fn take(&mut self, wanted: usize, now: Instant) -> usize {
        let passed = now.saturating_duration_since(self.refilled_at).as_secs_f64();
        self.refilled_at = now;
        self.tokens = (self.tokens + passed * EVENTS_PER_SECOND).min(EVENTS_BURST);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and EVENTS_BURST"
        )]
        let allowed = (self.tokens as usize).min(wanted);
        #[expect(clippy::cast_precision_loss, reason = "at most EVENTS_BURST")]
        let taken = allowed as f64;
        self.tokens -= taken;
        allowed
    }
}

impl Store {
    /// Writes events, in as few requests as possible; those above the bound on their rate are
    /// dropped, newest first. Not fenced by leadership: events decide nothing.
    ///
    /// # Errors
    /// Those of the transport. Do not repeat: events are worth no trouble.
    pub async fn put_events(&self, mut events: Vec<EventRecord>) -> Result<EventsPut, StoreError> {
        let wanted = events.len();
        let lease = {
            let mut state = self.events.state.lock().await;
            events.truncate(state.take(wanted, Instant::now()));
            if events.is_empty() {
                return Ok(EventsPut { written: 0, dropped: wanted });
            }
            self.event_lease(&mut state).await?
        };
        let (written, dropped) = (events.len(), wanted - events.len());
        let bound = PutOptions::new().with_lease(lease);
        let (mut costs, mut puts) = (Vec::new(), Vec::new());
        for event in events {
            let key = keys::event(&EventKey {
                namespace: event.namespace.clone(),
                name: event.name.clone(),
                unix_ms: u64::try_from(event.at.as_millisecond()).unwrap_or(0),
                nonce: u32::try_from(self.ambient.random() >> 32).unwrap_or(0),
            });
            let value = event.encode();
            let mut cost = Cost::new(1);
            cost.write(&key, value.len());
            costs.push(cost);
            puts.push(TxnOp::put(key, value, Some(bound.clone())));
        }
        let mut rest = puts.into_iter();
        for size in plan(costs.iter()) {
            let puts: Vec<TxnOp> = rest.by_ref().take(size).collect();
            if let Err(error) = self.etcd.txn(Txn::new().and_then(puts)).await {
                if matches!(error, StoreError::LeaseLost { .. }) {
                    self.events.state.lock().await.lease = None;
                }
                return Err(error);
            }
        }
        Ok(EventsPut { written, dropped })
    }

    async fn event_lease(&self, state: &mut State) -> Result<i64, StoreError> {
        if let Some((lease, granted_at)) = state.lease
            && granted_at.elapsed() < LEASE_SHARED_FOR
        {
            return Ok(lease);
        }
        let granted_at = Instant::now();
        let ttl = Duration::from_secs(EVENT_TTL_SECONDS) + LEASE_SHARED_FOR;
        let (lease, _) = self.etcd.grant(ttl).await?;
        state.lease = Some((lease, granted_at));
        Ok(lease)
    }

    /// Lists events, oldest first; at most the newest 10 000. Unreadable ones are left out.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn list_events(&self, scope: &EventScope) -> Result<Vec<EventRecord>, StoreError> {
        let prefix = match scope {
            EventScope::All => keys::EVENTS.as_bytes().to_vec(),
            EventScope::Namespace(namespace) => keys::events_of(namespace, None),
            EventScope::Loop(key) => keys::events_of(&key.namespace, Some(&key.name)),
        };
        let newest_first = GetOptions::new()
            .with_prefix()
            .with_limit(EVENTS_LISTED_MAX)
            .with_sort(etcd_client::SortTarget::Create, etcd_client::SortOrder::Descend);
        let found = self.etcd.range(prefix, newest_first).await?.kvs;
        let mut events: Vec<EventRecord> = found
            .into_iter()
            .filter_map(|kv| match Key::decode(&kv.key) {
                Key::Event(key) => EventRecord::decode(key, &kv.value).ok(),
                _ => None,
            })
            .collect();
        events.sort_by_key(|event| event.at);
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_events_is_bounded_and_recovers() {
        let begin = Instant::now();
        let mut state = State { lease: None, tokens: EVENTS_BURST, refilled_at: begin };
        assert_eq!(state.take(1500, begin), 1500);
        assert_eq!(state.take(1500, begin), 500);
        assert_eq!(state.take(1, begin), 0);
        assert_eq!(state.take(100, begin + Duration::from_secs(2)), 40);
        assert_eq!(state.take(9000, begin + Duration::from_secs(3600)), 2000);
    }
}
