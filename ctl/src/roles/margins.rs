//! What a worker keeps back of its lease: the time to kill everything, and a bound of how differently clocks run.

use std::time::Duration;

use clap::Args;
use flyball_core::lease::TTL_SECONDS_DEFAULT;
use flyball_worker as worker;

/// The margins of `flyball worker`.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct MarginArgs {
    /// Milliseconds kept back before the lease can end to kill every run, 10 to 60000
    /// [default: a fifth of --ttl, at most 500]
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(10..=60_000))]
    kill_budget: Option<u64>,
    /// By how many millionths another machine's clock may run faster than this one's, 0 to 200000
    #[arg(long, value_name = "PPM", default_value_t = worker::DRIFT_PPM_DEFAULT, value_parser = clap::value_parser!(u32).range(0..=200_000))]
    clock_drift: u32,
}

impl MarginArgs {
    pub(super) fn drift_ppm(self) -> u32 {
        self.clock_drift
    }

    /// The time to kill, for the time to live that is asked for.
    ///
    /// # Errors
    /// The margins leave less than half of it, in which no renewal could be missed.
    pub(super) fn kill_budget(self, ttl_seconds: Option<i64>) -> anyhow::Result<Duration> {
        let ttl = ttl_seconds.unwrap_or(TTL_SECONDS_DEFAULT).unsigned_abs();
        let ttl = Duration::from_secs(ttl);
        let Some(budget) = self.kill_budget else {
            return Ok(worker::KILL_BUDGET_DEFAULT.min(ttl / 5));
        };
        let budget = Duration::from_millis(budget);
        let drift = ttl.as_secs_f64() * f64::from(self.clock_drift) / 1e6;
        if budget.as_secs_f64() + drift > ttl.as_secs_f64() / 2.0 {
            anyhow::bail!(
                "--kill-budget {} and --clock-drift {} leave less than half of a lease of {} s: lower them, or raise --ttl",
                budget.as_millis(),
                self.clock_drift,
                ttl.as_secs()
            );
        }
        Ok(budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(kill_budget: Option<u64>, ttl: Option<i64>) -> Result<u128, String> {
        let args = MarginArgs { kill_budget, clock_drift: worker::DRIFT_PPM_DEFAULT };
        let found = args.kill_budget(ttl).map_err(|error| error.to_string())?;
        Ok(found.as_millis())
    }

    #[test]
    fn the_default_is_a_fifth_of_short_leases() {
        assert_eq!(budget(None, Some(2)), Ok(400));
        assert_eq!(budget(None, None), Ok(500));
        assert_eq!(budget(None, Some(300)), Ok(500));
    }

    #[test]
    fn what_is_asked_for_must_leave_half_of_the_lease() {
        assert_eq!(budget(Some(960), Some(2)), Ok(960));
        let error = budget(Some(961), Some(2)).unwrap_err();
        assert!(error.starts_with("--kill-budget 961 and --clock-drift 20000 leave"), "{error}");
    }
}
