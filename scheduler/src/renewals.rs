//! How long this scheduler's renewals of workers' leases take, in bounded memory, and the warning
//! when they take so long that leases are in danger.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flyball_core::histogram::Histogram;
use tokio::time::Instant;

/// The share of the TTL above which the 99th percentile is a warning: a ninth, that is a third of
/// the pause between two heartbeats (a third of the TTL). A worker gives a try up after a sixth of
/// the TTL where it knows several schedulers: at a ninth there is still half of that left for the
/// network and the machines, and a doubling breaks the first tries.
pub(crate) const WARN_SHARE: u32 = 9;

/// Renewals that must be in a window before it is judged: fewer say little about a percentile.
const SAMPLES_MIN: u64 = 16;

/// Shortest time between two warnings, and the length of a window: old trouble is forgotten.
const WINDOW: Duration = Duration::from_secs(60);

/// The renewals that this process has served. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Renewals {
    /// Of leases of which none was renewed yet.
    ttl: Duration,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug)]
struct Kept {
    since_start: Histogram,
    failed: u64,
    /// The present window and the one before it.
    now: Histogram,
    before: Histogram,
    /// The shortest lease that was renewed in each.
    shortest: [Option<Duration>; 2],
    window_began: Instant,
    warned_at: Option<Instant>,
}

/// What was served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// Since the start.
    pub(crate) all: Histogram,
    /// In the last one to two minutes.
    pub(crate) recent: Histogram,
    /// Without an answer of the store, since the start.
    pub(crate) failed: u64,
}

impl Renewals {
    /// For leases of this time to live.
    pub(crate) fn new(ttl: Duration) -> Self {
        let kept = Kept {
            since_start: Histogram::default(),
            failed: 0,
            now: Histogram::default(),
            before: Histogram::default(),
            shortest: [None; 2],
            window_began: Instant::now(),
            warned_at: None,
        };
        Self { ttl, kept: Arc::new(Mutex::new(kept)) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every change is one call, so a panic elsewhere leaves the counts whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Longest 99th percentile that is no warning: a share of the shortest lease that was renewed lately.
    pub(crate) fn limit(&self) -> Duration {
        self.lock().ttl(self.ttl) / WARN_SHARE
    }

    /// Counts a renewal, of a lease of `ttl` if it was answered, and warns if they have become slow, at most once per
    /// window.
    pub(crate) fn record(&self, took: Duration, ttl: Option<Duration>) {
        if let Some(recent) = self.count(took, ttl, Instant::now()) {
            tracing::warn!(
                name = "RenewalsSlow",
                p99_ms = millis(recent.percentile(99)),
                max_ms = millis(recent.max()),
                renewals = recent.count(),
                limit_ms = millis(self.limit()),
                ttl_s = self.lock().ttl(self.ttl).as_secs(),
                "renewing leases takes long: workers may lose them; look at etcd's disk and network \
                 (flyball doctor), or raise --session-ttl"
            );
        }
    }

    /// Answers the recent renewals if they are to be warned of.
    fn count(&self, took: Duration, ttl: Option<Duration>, now: Instant) -> Option<Histogram> {
        let mut kept = self.lock();
        kept.since_start.record(took);
        kept.failed += u64::from(ttl.is_none());
        kept.turn(now);
        kept.now.record(took);
        kept.shortest[0] = kept.shortest[0].into_iter().chain(ttl).min();
        let limit = kept.ttl(self.ttl) / WARN_SHARE;
        // Only a slow one can make the percentile worse.
        let may_warn = kept.warned_at.is_none_or(|at| now.duration_since(at) >= WINDOW);
        if took <= limit || !may_warn {
            return None;
        }
        let recent = kept.recent();
        if recent.count() < SAMPLES_MIN || recent.percentile(99) <= limit {
            return None;
        }
        kept.warned_at = Some(now);
        Some(recent)
    }

    /// What was served so far.
    pub(crate) fn served(&self) -> Served {
        let mut kept = self.lock();
        kept.turn(Instant::now());
        Served { all: kept.since_start.clone(), recent: kept.recent(), failed: kept.failed }
    }
}

impl Kept {
    fn turn(&mut self, now: Instant) {
        let passed = now.duration_since(self.window_began);
        if passed < WINDOW {
            return;
        }
        self.before = std::mem::take(&mut self.now);
        self.shortest = [None, self.shortest[0]];
        if passed >= WINDOW * 2 {
            self.before = Histogram::default();
            self.shortest = [None; 2];
        }
        self.window_began = now;
    }

    /// The shortest lease of the windows; `otherwise` if none was renewed in them.
    fn ttl(&self, otherwise: Duration) -> Duration {
        self.shortest.into_iter().flatten().min().unwrap_or(otherwise)
    }

    fn recent(&self) -> Histogram {
        let mut recent = self.before.clone();
        recent.merge(&self.now);
        recent
    }
}

/// Milliseconds with one decimal, as logs and people read them.
pub(crate) fn millis(span: Duration) -> String {
    let tenths = span.as_micros() / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_renewals_are_warned_of_once_a_minute_and_forgotten() {
        let renewals = Renewals::new(Duration::from_secs(6));
        let ttl = Some(Duration::from_secs(6));
        let (quick, slow) = (Duration::from_millis(3), Duration::from_millis(700));
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        for _ in 0..SAMPLES_MIN - 1 {
            assert_eq!(renewals.count(slow, ttl, at(1)), None, "too few to judge");
        }
        let warned = renewals.count(slow, ttl, at(1)).expect("a warning");
        assert_eq!(warned.percentile(99), slow);
        assert_eq!(renewals.count(slow, ttl, at(30)), None, "said already");
        assert!(renewals.count(slow, None, at(61)).is_some());
        for _ in 0..2000 {
            assert_eq!(renewals.count(quick, ttl, at(300)), None);
        }
        assert_eq!(renewals.count(slow, ttl, at(301)), None, "one slow one in 2000 is no trouble");
        let kept = renewals.lock();
        assert_eq!((kept.failed, kept.since_start.count()), (1, 2019));
    }

    #[test]
    fn the_limit_is_a_share_of_the_ttl() {
        let renewals = Renewals::new(Duration::from_secs(9));
        assert_eq!(renewals.limit(), Duration::from_secs(1));
        // What leases really have counts, the shortest of the last windows.
        let at = |seconds: u64| Instant::now() + Duration::from_secs(seconds);
        for ttl in [18, 27] {
            renewals.count(Duration::ZERO, Some(Duration::from_secs(ttl)), at(0));
        }
        assert_eq!(renewals.limit(), Duration::from_secs(2));
        renewals.count(Duration::ZERO, Some(Duration::from_secs(27)), at(300));
        assert_eq!(renewals.limit(), Duration::from_secs(3));
        assert_eq!(millis(Duration::from_micros(12_345)), "12.3");
    }
}
