//! The clock of all deadlines: `CLOCK_BOOTTIME`, which goes on during suspend and is never set back.

use flyball_core::lease::BootInstant;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// A deadline that never comes (about 35 000 years of uptime), for tools and tests that hold no
/// lease. It still fits a kernel timer.
pub const FAR_AWAY: BootInstant = BootInstant(1 << 50);

/// Now, on the clock of all deadlines; milliseconds since the boot, rounded down.
pub fn boottime() -> BootInstant {
    // The call can only fail for a clock that the kernel does not know; every Linux since 2.6.39
    // knows this one. Far in the future is the safe answer: everything counts as over.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(BootInstant(u64::MAX), |now| {
        let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
        let millis = u64::try_from(now.tv_nsec() / 1_000_000).unwrap_or(0);
        BootInstant(seconds.saturating_mul(1000).saturating_add(millis))
    })
}

/// The instant as the kernel's timers want it. Instants past [`FAR_AWAY`] are that.
pub(crate) fn timespec(at: BootInstant) -> TimeSpec {
    let ms = at.0.min(FAR_AWAY.0);
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let nanos = i64::try_from((ms % 1000) * 1_000_000).unwrap_or(0);
    TimeSpec::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back() {
        let first = boottime();
        assert!(boottime() >= first);
        assert!(first.0 > 0);
    }

    #[test]
    fn an_instant_keeps_its_milliseconds() {
        let spec = timespec(BootInstant(12_345));
        assert_eq!((spec.tv_sec(), spec.tv_nsec()), (12, 345_000_000));
        assert_eq!(timespec(BootInstant(u64::MAX)), timespec(FAR_AWAY));
    }
}
