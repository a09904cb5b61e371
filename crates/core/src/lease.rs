//! Lease arithmetic: until when a renewed lease may be relied on, counted from the time its renewal
//! was sent. Facts of etcd behind it: a renewal is answered with the granted TTL in whole seconds;
//! the server's clock starts somewhere between our send and our receive, so only the send time is
//! safe to count from.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time of this boot of this machine, in milliseconds of `CLOCK_BOOTTIME`. It goes on
/// during suspend and is never set back, which a wall clock is. Only comparable on one machine.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BootInstant(pub u64);

impl BootInstant {
    /// Milliseconds from `self` until `later`; zero if that is not later.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// Saturating; the part below a millisecond is dropped.
impl Add<Duration> for BootInstant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }
}

/// Saturating at the boot; a started millisecond counts whole, so that a subtracted margin never
/// comes out too small.
impl Sub<Duration> for BootInstant {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis_up(span)))
    }
}

impl fmt::Display for BootInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot+{}ms", self.0)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn millis_up(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// When everything that relies on a lease must be dead: `sent + ttl - drift - kill_budget`.
///
/// `drift_ppm` is the millionths of the TTL by which the server's clock may run faster than ours;
/// `kill_budget` the time from the decision to kill until nothing is left. Margins round up and the
/// TTL rounds down. Never before `sent`: with margins larger than the TTL it is `sent` itself, which
/// is over at once.
pub fn deadline(
    sent: BootInstant,
    ttl: Duration,
    drift_ppm: u32,
    kill_budget: Duration,
) -> BootInstant {
    let ttl_ms = millis(ttl);
    let drift_ms = (u128::from(ttl_ms) * u128::from(drift_ppm)).div_ceil(1_000_000);
    let drift_ms = u64::try_from(drift_ms).unwrap_or(u64::MAX);
    let usable_ms = ttl_ms.saturating_sub(drift_ms).saturating_sub(millis_up(kill_budget));
    BootInstant(sent.0.saturating_add(usable_ms))
}
