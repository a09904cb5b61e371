//! Durations in a bounded histogram: some hundred bytes however many are recorded, quantiles within
//! a quarter of the truth.

use std::time::Duration;

/// Buckets; each is a quarter wider than the one before, so they reach from 100 µs to two minutes,
/// beyond the longest bound on a request.
const BUCKETS: usize = 64;

/// Upper end of the first bucket, microseconds: below it differences do not matter to anybody.
const FIRST_MICROS: u64 = 100;

/// Upper ends of the buckets, microseconds.
const ENDS: [u64; BUCKETS] = ends();

const fn ends() -> [u64; BUCKETS] {
    let mut ends = [0; BUCKETS];
    let (mut index, mut end) = (0, FIRST_MICROS);
    while index < BUCKETS {
        ends[index] = end;
        end += end / 4;
        index += 1;
    }
    ends
}

/// A bounded histogram of durations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    count: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], count: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = ENDS.partition_point(|end| *end < micros).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(took);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// A duration that this share of all (in percent, 0 to 100) did not exceed: the end of its
    /// bucket, at most the longest one. Zero if nothing was counted.
    pub fn percentile(&self, percent: u32) -> Duration {
        let rank = (self.count * u64::from(percent.min(100))).div_ceil(100).max(1);
        let mut seen = 0;
        for (count, end) in self.counts.iter().zip(ENDS) {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(end).min(self.max);
            }
        }
        self.max
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn percentiles_are_within_a_quarter() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(99), Duration::ZERO);
        (1..=1000).for_each(|ms| histogram.record(MS(ms)));
        for (percent, truth) in [(1, MS(10)), (50, MS(500)), (99, MS(990))] {
            let found = histogram.percentile(percent);
            assert!(found >= truth && found <= truth * 5 / 4, "{percent}: {found:?}");
        }
        assert_eq!((histogram.percentile(100), histogram.max()), (MS(1000), MS(1000)));
    }

    #[test]
    fn nothing_is_too_long_to_be_counted() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX);
        histogram.record(Duration::ZERO);
        assert_eq!((histogram.count(), histogram.max()), (2, Duration::MAX));
        assert_eq!(histogram.percentile(50), Duration::from_micros(FIRST_MICROS));
    }

    #[test]
    fn merged_is_as_counted_together() {
        let (mut one, mut two, mut both) =
            (Histogram::default(), Histogram::default(), Histogram::default());
        one.record(MS(3));
        two.record(MS(40));
        both.record(MS(3));
        both.record(MS(40));
        one.merge(&two);
        assert_eq!(one, both);
    }
}
