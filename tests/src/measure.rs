//! Measuring for the benches: samples with medians and spread, ratios, clocks, processor time.

use std::fmt;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// Numbers of one kind, of which the median is reported with its spread.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// None yet.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// Adds one.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without any sample.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value below which `share` (0 to 1) of the samples are; NaN without samples.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        // Counts of samples are far below 2^52, and the product is within the list.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let index = (share * (sorted.len().saturating_sub(1)) as f64).round() as usize;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    /// The middle value.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Sample by sample, this one as a multiple of the other: both sides of one round.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }
}

impl Extend<f64> for Samples {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        self.0.extend(values);
    }
}

impl IntoIterator for Samples {
    type Item = f64;
    type IntoIter = std::vec::IntoIter<f64>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Median, then least and greatest.
impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = if self.median() >= 100.0 { 0 } else { 2 };
        let (low, middle, high) = (self.quantile(0.0), self.median(), self.quantile(1.0));
        write!(f, "{middle:.precision$} [{low:.precision$} .. {high:.precision$}]")
    }
}

/// `met` or `missed`, for a median that should be at least `goal`.
pub fn at_least(samples: &Samples, goal: f64) -> String {
    verdict(samples.median() >= goal, "at least", goal)
}

/// `met` or `missed`, for a median that should be at most `goal`.
pub fn at_most(samples: &Samples, goal: f64) -> String {
    verdict(samples.median() <= goal, "at most", goal)
}

fn verdict(met: bool, bound: &str, goal: f64) -> String {
    format!("goal {bound} {goal}: {}", if met { "met" } else { "MISSED" })
}

/// How often something happened per second, given how long `count` of it took.
pub fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the same in every process of this machine.
///
/// # Panics
/// When the system has no such clock.
pub fn monotonic_ns() -> i128 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a monotonic clock");
    i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec())
}

/// Processor seconds a process has used so far, its ended and awaited children included.
pub fn cpu_seconds(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may contain blanks; what follows does not.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    // utime, stime, cutime, cstime: fields 14 to 17 of proc(5), in ticks of 10 ms on Linux.
    let ticks = fields.split_whitespace().skip(11).take(4);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Starts `/bin/true` and waits for it, `count` times in all, on two threads: the floor of starting
/// a process. Returns how long it took.
///
/// # Panics
/// When it cannot be started.
pub fn fork_and_exec(count: usize) -> Duration {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..count / 2 {
                    let status = std::process::Command::new("/bin/true").status();
                    assert!(status.expect("/bin/true can be started").success());
                }
            });
        }
    });
    begun.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Samples = [3.0, 1.0, 2.0].into_iter().collect();
        assert_eq!(
            (samples.quantile(0.0), samples.median(), samples.quantile(1.0)),
            (1.0, 2.0, 3.0)
        );
        assert!(Samples::default().median().is_nan());
        assert_eq!(samples.to_string(), "2.00 [1.00 .. 3.00]");
    }

    #[test]
    fn a_process_has_used_some_processor_time() {
        let own = i32::try_from(std::process::id()).expect("process ids fit");
        let begun = Instant::now();
        while cpu_seconds(own) == 0.0 && begun.elapsed() < Duration::from_secs(20) {
            std::hint::black_box(fork_and_exec(2));
        }
        assert!(cpu_seconds(own) > 0.0);
    }
}
