//! How deployments fare: who is left alone for a while, and when it is tried again. Pure: times are arguments.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use flyball_core::model::{OnError, Resting};

/// Most deployments whose failures are remembered; beyond it all begin anew. Routes name a few dozen.
const DEPLOYMENTS_MAX: usize = 4096;

/// How long others wait while one call tries a deployment that failed before.
const TRIAL: Duration = Duration::from_secs(1);

/// A provider and its model's name there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) provider: String,
    pub(crate) model: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.provider, self.model)
    }
}

/// How one deployment fares.
#[derive(Debug, Clone, Default)]
struct State {
    /// Failures in a row.
    failures: u32,
    /// Left alone until then.
    until: Option<Instant>,
    /// When somebody began to try it again, after it was left alone.
    trial: Option<Instant>,
    /// What the last failure was.
    last: String,
    /// Whether it is left alone because the account is at its limit.
    limited: bool,
}

/// A failure of a deployment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blow<'a> {
    /// What it was.
    pub(crate) why: &'a str,
    /// When the provider wants to be asked again, if it said so.
    pub(crate) retry_after: Option<Duration>,
    /// Whether it said that its account is at its limit.
    pub(crate) limited: bool,
}

/// How all of them fare, for all runs of the worker.
#[derive(Debug, Default)]
pub(crate) struct Health(HashMap<Place, State>);

impl Health {
    /// For how long a deployment is still left alone, and why; `None`: it may be asked.
    pub(crate) fn resting(&self, place: &Place, now: Instant) -> Option<Resting> {
        let left = self.rest(place, now)?;
        let State { failures, last, limited, .. } = self.0.get(place)?;
        let row = if *failures > 1 {
            format!("{failures} failures in a row, the last: ")
        } else {
            String::new()
        };
        Some(Resting { left, why: format!("{row}{last}"), limited: *limited })
    }

    /// For how long a deployment is still left alone.
    pub(crate) fn rest(&self, place: &Place, now: Instant) -> Option<Duration> {
        let state = self.0.get(place)?;
        let until = state.until?;
        let left = until.saturating_duration_since(now);
        if !left.is_zero() {
            return Some(left);
        }
        // It may be asked again: by one call first, which says whether it has recovered.
        let trial = state.trial?;
        let left = (trial + TRIAL).saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// A call goes there.
    pub(crate) fn begins(&mut self, place: &Place, now: Instant) {
        if let Some(state) = self.0.get_mut(place)
            && state.until.is_some()
        {
            state.trial = Some(now);
        }
    }

    /// It answered a call.
    pub(crate) fn served(&mut self, place: &Place) {
        self.0.remove(place);
    }

    /// It failed. A rate limit that says when it ends is believed at once, other failures count until there are
    /// enough in a row. True if it is left alone from now on, and was not before.
    pub(crate) fn failed(
        &mut self,
        place: &Place,
        now: Instant,
        on_error: &OnError,
        failure: &Blow<'_>,
    ) -> bool {
        if self.0.len() >= DEPLOYMENTS_MAX && !self.0.contains_key(place) {
            self.0.clear();
        }
        let state = self.0.entry(place.clone()).or_default();
        let rested = state.until.is_some_and(|until| until > now);
        state.failures = state.failures.saturating_add(1);
        state.trial = None;
        failure.why.clone_into(&mut state.last);
        let cool = (state.failures >= on_error.failures).then_some(on_error.cool_down.0);
        let rest = cool.into_iter().chain(failure.retry_after).max();
        if let Some(until) = rest.and_then(|rest| now.checked_add(rest)) {
            if !rested || state.until <= Some(until) {
                state.limited = failure.limited;
            }
            state.until = state.until.max(Some(until));
        }
        !rested && state.until.is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(provider: &str) -> Place {
        Place { provider: provider.to_owned(), model: "m".to_owned() }
    }

    fn blow(retry_after: Option<Duration>) -> Blow<'static> {
        Blow { why: "529", retry_after, limited: false }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_deployment_is_left_alone_after_failures_in_a_row() {
        let (mut health, now, on_error) = (Health::default(), Instant::now(), OnError::default());
        let here = place("here");
        for _ in 0..on_error.failures - 1 {
            health.failed(&here, now, &on_error, &blow(None));
            assert_eq!(health.rest(&here, now), None);
        }
        health.served(&here);
        health.failed(&here, now, &on_error, &blow(None));
        assert_eq!(health.rest(&here, now), None, "a success begins the count anew");
        let begins: Vec<bool> =
            (0..3).map(|_| health.failed(&here, now, &on_error, &blow(None))).collect();
        assert_eq!((on_error.failures, begins), (3, vec![false, true, false]), "told once");
        assert_eq!(health.rest(&here, now), Some(on_error.cool_down.0));
        assert_eq!(health.rest(&place("there"), now), None);
    }

    #[test]
    fn why_it_rests_is_what_makes_it_rest() {
        let (mut health, now, on_error) = (Health::default(), Instant::now(), OnError::default());
        let here = place("here");
        let limit = Blow { limited: true, ..blow(Some(300 * SECOND)) };
        health.failed(&here, now, &on_error, &limit);
        health.failed(&here, now, &on_error, &blow(None));
        assert!(health.resting(&here, now).unwrap().limited, "the shorter one changes nothing");
        health.failed(&here, now, &on_error, &blow(Some(301 * SECOND)));
        assert!(!health.resting(&here, now).unwrap().limited);
    }

    #[test]
    fn one_call_tries_it_again_before_the_others() {
        let (mut health, now, on_error) = (Health::default(), Instant::now(), OnError::default());
        let here = place("here");
        for _ in 0..on_error.failures {
            health.failed(&here, now, &on_error, &blow(None));
        }
        let later = now + on_error.cool_down.0;
        assert_eq!(health.rest(&here, later), None);
        health.begins(&here, later);
        assert_eq!(health.rest(&here, later), Some(TRIAL));
        health.failed(&here, later, &on_error, &blow(None));
        assert_eq!(health.rest(&here, later), Some(on_error.cool_down.0));
        health.begins(&here, later);
        health.served(&here);
        assert_eq!(health.rest(&here, later), None);
    }

    #[test]
    fn a_retry_after_is_believed_at_once_and_the_longer_wins() {
        let (mut health, now, on_error) = (Health::default(), Instant::now(), OnError::default());
        let here = place("here");
        health.failed(&here, now, &on_error, &blow(Some(7 * SECOND)));
        assert_eq!(health.rest(&here, now), Some(7 * SECOND));
        health.failed(&here, now, &on_error, &blow(Some(SECOND)));
        assert_eq!(health.rest(&here, now), Some(7 * SECOND));
        health.failed(&here, now, &on_error, &blow(Some(300 * SECOND)));
        assert_eq!(health.rest(&here, now), Some(300 * SECOND));
    }
}
