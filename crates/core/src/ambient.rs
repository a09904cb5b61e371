//! What shells take from their surroundings beside network, processes and disk: the time for people,
//! and chance. A simulation brings its own, so that a seed repeats everything. Nothing of this
//! package uses it: decisions get times and ids as arguments.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

/// Where the time for people and random numbers come from. Cheap to clone.
#[derive(Clone)]
pub struct Ambient {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    random: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Ambient {
    /// `now` is the wall clock, never to be used for a safety decision; `random` draws 64 bits.
    pub fn new(
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        random: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self { now: Arc::new(now), random: Arc::new(random) }
    }

    /// The wall clock's time.
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// 64 random bits.
    pub fn random(&self) -> u64 {
        (self.random)()
    }

    /// A random share, 0 to 1 without 1.
    pub fn share(&self) -> f64 {
        // The 53 bits that a float keeps.
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let bits = (self.random() >> 11) as f64;
        bits / (1_u64 << 53) as f64
    }

    /// 16 random bytes, as ids want them.
    pub fn bytes(&self) -> [u8; 16] {
        let wide = u128::from(self.random()) << 64 | u128::from(self.random());
        wide.to_be_bytes()
    }
}

impl fmt::Debug for Ambient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ambient")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_below_one() {
        let of = |bits| Ambient::new(|| Timestamp::UNIX_EPOCH, move || bits).share();
        assert_eq!(of(0), 0.0);
        assert!((0.999..1.0).contains(&of(u64::MAX)));
    }
}
