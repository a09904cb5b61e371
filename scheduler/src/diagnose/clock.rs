//! Clocks of this machine, read for display: whether the wall clock was set and whether the machine
//! slept. No decision rests on either.

use std::time::{Duration, Instant};

use flyball_core::diagnosis::{Area, Finding};
use jiff::Timestamp;

/// Difference that is no noise of two reads one after the other, nor the slewing of a time daemon
/// over some hours.
const NOISE: Duration = Duration::from_secs(2);

/// The clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Time since the boot that goes on during suspend.
    boot: Option<Duration>,
    /// Time that stops during suspend.
    running: Instant,
    wall_ms: i64,
}

impl Reading {
    /// The clocks now, with what the wall clock shows.
    pub(crate) fn at(wall: Timestamp) -> Self {
        Self { boot: boot_clock(), running: Instant::now(), wall_ms: wall.as_millisecond() }
    }
}

/// The boot clock as the kernel shows it, in hundredths of a second.
fn boot_clock() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// What happened to the clocks between the start of this process and now.
pub(super) fn findings(start: Reading, now: Reading) -> Vec<Finding> {
    let area = Area::Clock;
    let (Some(boot_then), Some(boot_now)) = (start.boot, now.boot) else {
        let next = "mount /proc for the scheduler";
        return vec![Finding::warning(area, "BootClock", "/proc/uptime cannot be read", next)];
    };
    let passed = boot_now.saturating_sub(boot_then);
    let mut found = Vec::new();
    let passed_ms = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
    let moved = now.wall_ms.saturating_sub(start.wall_ms).saturating_sub(passed_ms);
    if u128::from(moved.unsigned_abs()) > NOISE.as_millis() {
        found.push(
            Finding::warning(
                area,
                "WallClockSet",
                format!(
                    "the wall clock was moved by {moved} ms since the start {} s ago",
                    passed.as_secs()
                ),
                "let a time daemon keep it; ages and times shown are wrong, no lease is concerned",
            )
            .figure("movedMillis", moved),
        );
    }
    let slept = passed.saturating_sub(now.running.duration_since(start.running));
    if slept > NOISE {
        found.push(
            Finding::warning(
                area,
                "Suspended",
                format!("this machine was suspended for {} s since the start", slept.as_secs()),
                "keep machines with schedulers awake; leases end while they sleep",
            )
            .figure("sleptMillis", slept.as_millis()),
        );
    }
    if found.is_empty() {
        let message =
            format!("boot clock and wall clock agree since the start {} s ago", passed.as_secs());
        found.push(Finding::ok(area, "Clocks", message).figure("movedMillis", moved));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Reading, boot: u64, running: u64, wall: u64) -> Vec<String> {
        let s = Duration::from_secs;
        let now = Reading {
            boot: start.boot.map(|at| at + s(boot)),
            running: start.running + s(running),
            wall_ms: start.wall_ms + i64::try_from(wall * 1000).unwrap(),
        };
        findings(start, now).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_clock_that_was_set_and_a_sleep_are_found() {
        let start = Reading::at(Timestamp::UNIX_EPOCH);
        assert!(start.boot.is_some(), "/proc/uptime");
        assert_eq!(after(start, 100, 100, 101), ["Clocks"]);
        assert_eq!(after(start, 100, 100, 3700), ["WallClockSet"]);
        assert_eq!(after(start, 100, 40, 100), ["Suspended"]);
        assert_eq!(after(start, 100, 40, 10), ["WallClockSet", "Suspended"]);
    }
}
