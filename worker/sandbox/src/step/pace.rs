//! How fast the output of a step is read: a bucket of bytes that fills by the clock it is told.

use std::time::{Duration, Instant};

/// What a pipe holds by default; larger reads would not find more.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// The share of a second whose bytes may come at once.
const BURST_SHARE: u64 = 10;

/// A bound on bytes in a second. In any time `t` no more is taken than `rate * t` and one burst.
pub(super) struct Pace {
    /// None: no bound.
    rate: Option<u64>,
    left: u64,
    at: Instant,
}

impl Pace {
    /// With a full bucket. A rate of 0 is one of 1, as nothing would ever end else.
    pub(super) fn new(rate: Option<u64>, now: Instant) -> Self {
        let rate = rate.map(|rate| rate.max(1));
        Self { rate, left: rate.map_or(0, Self::burst), at: now }
    }

    /// Bytes that may come at once: a tenth of a second's, or what a pipe holds.
    pub(super) fn burst(rate: u64) -> u64 {
        (rate / BURST_SHARE).max(CHUNK_BYTES as u64)
    }

    /// Bytes that may be taken now.
    pub(super) fn room(&mut self, now: Instant) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        let nanos = now.saturating_duration_since(self.at).as_nanos();
        let more = nanos.saturating_mul(u128::from(rate)) / 1_000_000_000;
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        // Otherwise the time counts on, so that looking often loses nothing.
        if more > 0 {
            self.left = self.left.saturating_add(more).min(Self::burst(rate));
            self.at = now;
        }
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    /// So many were taken.
    pub(super) fn took(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// Time until a good part of a pipe may be taken; none: now.
    pub(super) fn pause(&mut self, now: Instant) -> Option<Duration> {
        let wanted = (CHUNK_BYTES / 4) as u64;
        let have = self.room(now) as u64;
        let (rate, lacks) = (self.rate?, wanted.checked_sub(have).filter(|lacks| *lacks > 0)?);
        // Rounded up, so that it is there when the time has come.
        let nanos = (u128::from(lacks) * 1_000_000_000).div_ceil(u128::from(rate));
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_time_allows() {
        let begin = Instant::now();
        let rate = 1_000_000;
        for step in [1_u64, 7, 333] {
            let mut pace = Pace::new(Some(rate), begin);
            let mut taken = 0;
            for millis in (0..=5_000).step_by(usize::try_from(step).unwrap()) {
                let room = pace.room(begin + Duration::from_millis(millis)) as u64;
                pace.took(room);
                taken += room;
                assert!(taken <= rate * millis / 1000 + Pace::burst(rate), "{millis}: {taken}");
            }
            // All of it, where looks are so frequent that the bucket never is full.
            assert!(step == 333 || taken >= rate * 4_990 / 1000, "{taken}");
        }
    }

    #[test]
    fn a_pause_ends_when_there_is_something_to_take() {
        let begin = Instant::now();
        for rate in [1, 1000, 10_000_000] {
            let mut pace = Pace::new(Some(rate), begin);
            assert_eq!(pace.pause(begin), None);
            pace.took(u64::MAX);
            let pause = pace.pause(begin).unwrap();
            assert!(pace.pause(begin + pause / 2).is_some(), "{rate}");
            assert_eq!(pace.pause(begin + pause), None, "{rate}");
        }
        let mut none = Pace::new(None, begin);
        none.took(u64::MAX);
        assert_eq!((none.pause(begin), none.room(begin)), (None, usize::MAX));
        assert!(Pace::new(Some(0), begin).room(begin) > 0);
    }
}
