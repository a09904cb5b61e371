//! Which scheduler to open the session at: the configured ones in turn, and whoever they name as the
//! leader. A stream that ended is replaced at once; only a whole round in vain is followed by a pause.

use std::time::Duration;

use flyball_proto::transport::Address;

/// First pause after a round in vain; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause. Schedulers that do not lead hold a registration until they know who does, so this
/// matters only while none can be reached.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tried<'a> {
    /// A session was up and has ended.
    Lost,
    /// There was none.
    Failed,
    /// There was none; this scheduler is said to lead.
    Redirected(&'a Address),
}

/// The way to the leader.
#[derive(Debug)]
pub(crate) struct Route {
    schedulers: Vec<Address>,
    at: usize,
    named: Option<Address>,
    /// Tries left before the next pause.
    eager: usize,
    pause: Duration,
    unusable: Option<Address>,
}

impl Route {
    pub(crate) fn new(schedulers: &[Address]) -> Self {
        let mut route = Self {
            schedulers: schedulers.to_vec(),
            at: 0,
            named: None,
            eager: 0,
            pause: PAUSE_MIN,
            unusable: None,
        };
        route.hurry();
        route
    }

    /// One round over all schedulers, and to whom they name.
    fn hurry(&mut self) {
        self.eager = self.schedulers.len() + 1;
        self.pause = PAUSE_MIN;
    }

    /// Where to try now.
    pub(crate) fn next(&mut self) -> Address {
        if let Some(named) = self.named.take() {
            return named;
        }
        let address = self.schedulers.get(self.at % self.schedulers.len().max(1)).cloned();
        self.at = self.at.wrapping_add(1);
        // At least one address is required by the configuration.
        address.unwrap_or_else(|| Address::Http(String::new()))
    }

    /// The address that could not be used last: a scheduler that still takes it for the leader's is
    /// asked to wait for the next leader instead of naming it.
    pub(crate) fn unusable(&self) -> String {
        self.unusable.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// Takes the end of a try; gives how long to wait before the next.
    pub(crate) fn on_end(&mut self, address: &Address, tried: Tried<'_>) -> Duration {
        if tried == Tried::Lost {
            self.hurry();
        }
        match tried {
            Tried::Redirected(leader) if leader != address => {
                self.named = Some(leader.clone());
            }
            Tried::Redirected(_) => {}
            Tried::Lost | Tried::Failed => self.unusable = Some(address.clone()),
        }
        if self.eager > 0 {
            self.eager -= 1;
            return Duration::ZERO;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        // The round after the pause is one without pauses too.
        self.eager = self.schedulers.len();
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> Address {
        Address::Http(format!("http://{name}:1"))
    }

    #[test]
    fn a_lost_session_is_replaced_without_a_pause() {
        let (a, b) = (address("a"), address("b"));
        let mut route = Route::new(&[a.clone(), b.clone()]);
        assert_eq!(route.next(), a);
        assert_eq!(route.on_end(&a, Tried::Lost), Duration::ZERO);
        assert_eq!(route.unusable(), a.to_string());
        assert_eq!(route.next(), b);
        assert_eq!(route.on_end(&b, Tried::Redirected(&address("c"))), Duration::ZERO);
        assert_eq!(route.next(), address("c"));
    }

    #[test]
    fn rounds_in_vain_are_ever_rarer_and_never_end() {
        let (a, b) = (address("a"), address("b"));
        let mut route = Route::new(&[a, b]);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let address = route.next();
            pauses.push(route.on_end(&address, Tried::Failed));
        }
        let waits: Vec<u128> =
            pauses.iter().filter(|pause| !pause.is_zero()).map(Duration::as_millis).collect();
        assert_eq!(waits[..6], [50, 100, 200, 400, 800, 1000]);
        assert_eq!(waits.last(), Some(&1000));
    }

    #[test]
    fn schedulers_that_name_each_other_do_not_make_it_spin() {
        let (a, b) = (address("a"), address("b"));
        let mut route = Route::new(&[a.clone(), b.clone()]);
        let mut waited = Duration::ZERO;
        for _ in 0..30 {
            let from = route.next();
            let other = if from == a { &b } else { &a };
            waited += route.on_end(&from, Tried::Redirected(other));
        }
        assert!(waited > Duration::from_secs(1), "{waited:?}");
    }
}
