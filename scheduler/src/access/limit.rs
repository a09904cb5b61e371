//! How often somebody may ask: buckets that fill over time, one for each asker and one for all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Askers that are told apart at a time, some 100 bytes each. When all of them are busy a new one waits.
const ASKERS_MAX: usize = 1024;

/// A bucket: so many at once, then one in a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) every: Duration,
}

/// What strangers may ask from one address: a machine joins with two calls, and again when it failed; many
/// machines may stand behind one address.
pub(crate) const STRANGER: Rate = Rate { burst: 40, every: Duration::from_millis(250) };
/// What all strangers may ask: each call costs a read of the store, which then has most of its time left.
pub(crate) const STRANGERS: Rate = Rate { burst: 200, every: Duration::from_millis(20) };
/// How often one identity may have its certificate renewed: each is a signature and an entry of the audit
/// trail. Somebody who tries things out stays below.
pub(crate) const RENEWAL: Rate = Rate { burst: 10, every: Duration::from_secs(5) };
/// The same of all: a fleet of ten thousand that starts at once is done within some minutes.
pub(crate) const RENEWALS: Rate = Rate { burst: 1000, every: Duration::from_millis(20) };

/// Counts by asker and in all.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    each: Rate,
    all: Rate,
    state: Mutex<State<K>>,
}

/// The time at which a bucket would be full again; none is kept of one that is.
#[derive(Debug)]
struct State<K> {
    askers: BTreeMap<K, Instant>,
    all: Option<Instant>,
}

impl Rate {
    /// The bucket after one more was taken, if there was one left.
    fn take(self, full_at: Option<Instant>, now: Instant) -> Option<Instant> {
        let full_at = full_at.unwrap_or(now).max(now) + self.every;
        (full_at.duration_since(now) <= self.every * self.burst).then_some(full_at)
    }
}

impl<K: Ord> Limiter<K> {
    pub(crate) fn new(each: Rate, all: Rate) -> Self {
        Self { each, all, state: Mutex::new(State { askers: BTreeMap::new(), all: None }) }
    }

    /// Whether `asker` may ask now. One that may not takes nothing from the others.
    pub(crate) fn admits(&self, asker: K, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.askers.len() >= ASKERS_MAX {
            state.askers.retain(|_, full_at| *full_at > now);
        }
        let known = state.askers.get(&asker).copied();
        if known.is_none() && state.askers.len() >= ASKERS_MAX {
            return false;
        }
        let Some(mine) = self.each.take(known, now) else { return false };
        let Some(all) = self.all.take(state.all, now) else { return false };
        state.all = Some(all);
        state.askers.insert(asker, mine);
        true
    }
}

/// What counts as one place: an address, or a network of IPv6 as one customer gets it.
pub(crate) fn place(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) => IpAddr::V4(four),
            None => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() >> 64 << 64)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_bucket_is_emptied_and_fills_again() {
        let rate = Rate { burst: 3, every: SECOND };
        let limiter = Limiter::new(rate, Rate { burst: 100, every: SECOND });
        let now = Instant::now();
        let taken = (0..9).filter(|_| limiter.admits("a", now)).count();
        assert_eq!(taken, 3);
        assert!(limiter.admits("b", now), "another one has a bucket of its own");
        assert!(!limiter.admits("a", now + SECOND / 2));
        assert!(limiter.admits("a", now + SECOND));
        assert!(!limiter.admits("a", now + SECOND));
        let later = (0..9).filter(|_| limiter.admits("a", now + SECOND * 60)).count();
        assert_eq!(later, 3, "it is never more than full");
    }

    #[tokio::test]
    async fn all_together_have_a_bucket_and_a_bound() {
        let one = Rate { burst: 1, every: SECOND };
        let limiter = Limiter::new(one, Rate { burst: 5, every: SECOND });
        let now = Instant::now();
        assert_eq!((0..9).filter(|asker| limiter.admits(*asker, now)).count(), 5);
        let many = Rate { burst: 1_000_000, every: Duration::from_nanos(1) };
        let limiter = Limiter::new(one, many);
        let taken = (0..2 * ASKERS_MAX).filter(|asker| limiter.admits(*asker, now)).count();
        assert_eq!(taken, ASKERS_MAX);
        assert!(limiter.admits(2 * ASKERS_MAX, now + SECOND), "those that are idle are forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one_place() {
        let place = |text: &str| super::place(text.parse().unwrap());
        assert_eq!(place("2001:db8:1:2::1"), place("2001:db8:1:2:ffff::9"));
        assert_ne!(place("2001:db8:1:2::1"), place("2001:db8:1:3::1"));
        assert_eq!(place("::ffff:10.0.0.1"), place("10.0.0.1"));
        assert_ne!(place("10.0.0.1"), place("10.0.0.2"));
    }
}
