//! Leases: grants, renewals, the keys attached to them, and which have run out.
//!
//! Only the writer touches them. Times are on a monotonic clock of this process and are never
//! stored: after a restart every lease gets its full TTL again, as in etcd.

use crate::error::{LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE, Refusal};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longest TTL in seconds (etcd's own bound).
const TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// A moment on the server's monotonic clock.
pub(crate) type Moment = Duration;

#[derive(Debug)]
struct Lease {
    ttl_seconds: i64,
    expires: Moment,
    keys: BTreeSet<Vec<u8>>,
}

/// What must be written down about leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseChange {
    /// Granted with this TTL in seconds.
    Granted(i64),
    /// Revoked or expired.
    Gone,
}

/// What `LeaseTimeToLive` answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TimeToLive {
    pub(crate) granted_seconds: i64,
    pub(crate) left_seconds: i64,
    pub(crate) keys: Vec<Vec<u8>>,
}

/// All leases.
#[derive(Debug)]
pub(crate) struct Lessor {
    leases: BTreeMap<i64, Lease>,
    /// Leases by expiry, the next one first.
    queue: BTreeSet<(Moment, i64)>,
    ttl_seconds_min: i64,
    next_id: i64,
    unsaved: BTreeMap<i64, LeaseChange>,
}

impl Lessor {
    /// `ttl_seconds_min` is what shorter grants are raised to; `first_id` where the server's own
    /// choice of ids starts.
    pub(crate) fn new(ttl_seconds_min: i64, first_id: i64) -> Self {
        Self {
            leases: BTreeMap::new(),
            queue: BTreeSet::new(),
            ttl_seconds_min,
            next_id: first_id.max(1),
            unsaved: BTreeMap::new(),
        }
    }

    pub(crate) fn exists(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// Grants a lease and answers its id and its TTL in seconds. The id 0 lets the server choose.
    pub(crate) fn grant(
        &mut self,
        id: i64,
        ttl_seconds: i64,
        now: Moment,
    ) -> Result<(i64, i64), Refusal> {
        if ttl_seconds > TTL_SECONDS_MAX {
            return Err(LEASE_TTL_TOO_LARGE);
        }
        let id = if id == 0 { self.choose_id() } else { id };
        if self.exists(id) {
            return Err(LEASE_EXISTS);
        }
        let ttl_seconds = ttl_seconds.max(self.ttl_seconds_min);
        self.restore(id, ttl_seconds, now);
        self.unsaved.insert(id, LeaseChange::Granted(ttl_seconds));
        Ok((id, ttl_seconds))
    }

    /// Takes up a lease that was granted in an earlier life, with its full TTL from `now`.
    pub(crate) fn restore(&mut self, id: i64, ttl_seconds: i64, now: Moment) {
        let expires = now + seconds(ttl_seconds);
        self.queue.insert((expires, id));
        self.leases.insert(id, Lease { ttl_seconds, expires, keys: BTreeSet::new() });
    }

    fn choose_id(&mut self) -> i64 {
        while self.exists(self.next_id) {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        }
        let id = self.next_id;
        self.next_id = id.checked_add(1).unwrap_or(1);
        id
    }

    /// Ends a lease and answers the keys that go with it, in order.
    pub(crate) fn revoke(&mut self, id: i64) -> Result<BTreeSet<Vec<u8>>, Refusal> {
        let lease = self.leases.remove(&id).ok_or(LEASE_NOT_FOUND)?;
        self.queue.remove(&(lease.expires, id));
        // A lease that was granted and revoked between two commits leaves one removal behind,
        // which is harmless.
        self.unsaved.insert(id, LeaseChange::Gone);
        Ok(lease.keys)
    }

    /// Gives a lease its full TTL from `now`; the TTL in seconds, or `None` if there is no such
    /// lease. The caller has expired what had run out by `now`.
    pub(crate) fn renew(&mut self, id: i64, now: Moment) -> Option<i64> {
        let lease = self.leases.get_mut(&id)?;
        let expires = now + seconds(lease.ttl_seconds);
        self.queue.remove(&(lease.expires, id));
        self.queue.insert((expires, id));
        lease.expires = expires;
        Some(lease.ttl_seconds)
    }

    pub(crate) fn time_to_live(&self, id: i64, with_keys: bool, now: Moment) -> Option<TimeToLive> {
        let lease = self.leases.get(&id)?;
        let left = lease.expires.saturating_sub(now).as_secs();
        Some(TimeToLive {
            granted_seconds: lease.ttl_seconds,
            left_seconds: i64::try_from(left).unwrap_or(i64::MAX),
            keys: if with_keys { lease.keys.iter().cloned().collect() } else { Vec::new() },
        })
    }

    /// All ids, the one that ends first in front.
    pub(crate) fn ids(&self) -> Vec<i64> {
        self.queue.iter().map(|(_, id)| *id).collect()
    }

    pub(crate) fn attach(&mut self, id: i64, key: &[u8]) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key.to_vec());
        }
    }

    pub(crate) fn detach(&mut self, id: i64, key: &[u8]) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// A lease whose TTL has run out by `now`.
    pub(crate) fn expired(&self, now: Moment) -> Option<i64> {
        let (expires, id) = self.queue.first()?;
        (*expires <= now).then_some(*id)
    }

    /// When the next lease runs out.
    pub(crate) fn next_expiry(&self) -> Option<Moment> {
        self.queue.first().map(|(expires, _)| *expires)
    }

    /// Grants and ends since the last call.
    pub(crate) fn take_unsaved(&mut self) -> BTreeMap<i64, LeaseChange> {
        std::mem::take(&mut self.unsaved)
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn short_ttls_are_raised_and_long_ones_refused() {
        let mut lessor = Lessor::new(2, 100);
        assert_eq!(lessor.grant(7, 1, at(0)), Ok((7, 2)));
        assert_eq!(lessor.grant(7, 5, at(0)), Err(LEASE_EXISTS));
        assert_eq!(lessor.grant(8, TTL_SECONDS_MAX + 1, at(0)), Err(LEASE_TTL_TOO_LARGE));
        assert_eq!(lessor.grant(0, 9, at(0)), Ok((100, 9)));
    }

    #[test]
    fn a_renewal_moves_the_end_and_nothing_expires_early() {
        let mut lessor = Lessor::new(2, 1);
        lessor.grant(7, 3, at(0)).unwrap();
        assert_eq!(lessor.expired(Duration::from_millis(2_999)), None);
        assert_eq!(lessor.renew(7, at(2)), Some(3));
        assert_eq!(lessor.expired(at(4)), None);
        assert_eq!(lessor.expired(at(5)), Some(7));
        assert_eq!(lessor.renew(8, at(5)), None);
    }

    #[test]
    fn revoking_answers_the_attached_keys_in_order() {
        let mut lessor = Lessor::new(2, 1);
        lessor.grant(7, 3, at(0)).unwrap();
        for key in [b"b", b"a", b"c"] {
            lessor.attach(7, key);
        }
        lessor.detach(7, b"c");
        let keys = lessor.revoke(7).unwrap();
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), [b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(lessor.revoke(7), Err(LEASE_NOT_FOUND));
        assert_eq!(lessor.take_unsaved().get(&7), Some(&LeaseChange::Gone));
    }
}
