//! One provider's slices on this node: which call took what from which, and what is to be told of those that ended.
//! Times come in as arguments.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_core::model::{QuotaAmount, QuotaAnswer};
use flyball_proto::v1::EndedQuota;
use tokio::time::Instant;

/// Most calls of ended slices that are remembered, to give back what they do not use.
const CALLS_MAX: usize = 1024;
/// Longest pause that one question is answered with.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Names what was taken where nothing is bounded; nobody has to be told what was used of it.
const NO_GRANT: u64 = 0;
/// Pause after a refusal that names none.
const PAUSE_DEFAULT: Duration = Duration::from_secs(1);

/// What a node has of a provider's pool.
#[derive(Debug, Default)]
pub(super) struct Local {
    numbers: u64,
    /// How many calls have taken something.
    grants: u64,
    slices: Vec<Slice>,
    /// Numbers of requests that are not answered.
    asked: Vec<String>,
    /// The last request whose answer nobody has seen: what it was granted ends with the next one that is answered.
    unseen: Option<u64>,
    /// Nothing is bounded until then.
    unbounded: Option<Instant>,
    /// The provider has refused a call.
    paused: Option<Instant>,
    telling: bool,
}

#[derive(Debug)]
struct Slice {
    number: String,
    left: QuotaAmount,
    used: QuotaAmount,
    until: Instant,
    ended: bool,
    /// What calls took that have not said what they used, by the names of their grants.
    calls: BTreeMap<u64, QuotaAmount>,
}

/// What a call gets without a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    Granted(QuotaAmount, Duration, u64),
    Wait(Duration),
}

impl Local {
    /// From what is here; `None` if somebody has to be asked.
    pub(super) fn take(&mut self, want: QuotaAmount, now: Instant) -> Option<Took> {
        self.expire(now);
        if let Some(until) = self.paused {
            return Some(Took::Wait((until - now).min(PAUSE_MAX)));
        }
        if let Some(until) = self.unbounded {
            let all = QuotaAmount { requests: u64::MAX, tokens: u64::MAX };
            return Some(Took::Granted(all, until - now, NO_GRANT));
        }
        let fits = |one: &&mut Slice| !one.ended && within(want, one.left);
        let slice = self.slices.iter_mut().find(fits)?;
        self.grants += 1;
        slice.take(self.grants, want);
        Some(Took::Granted(want, slice.until - now, self.grants))
    }

    /// A slice was granted: the call that asked for it takes its part.
    pub(super) fn granted(
        &mut self,
        number: &str,
        amount: QuotaAmount,
        want: QuotaAmount,
        until: Instant,
        now: Instant,
    ) -> QuotaAnswer {
        self.forget(number);
        let mut slice = Slice {
            number: number.to_owned(),
            left: amount,
            used: QuotaAmount::default(),
            until,
            ended: false,
            calls: BTreeMap::new(),
        };
        // The pool may be smaller than what was asked for: then it is all of it.
        let want = least(want, amount);
        let late = until <= now;
        if !late {
            self.grants += 1;
            slice.take(self.grants, want);
        }
        self.slices.push(slice);
        self.expire(now);
        if late {
            return QuotaAnswer::Wait(Duration::from_millis(250));
        }
        QuotaAnswer::Granted { amount: want, valid: until - now, grant: self.grants }
    }

    /// Nothing is bounded until then.
    pub(super) fn unbounded(&mut self, until: Instant, now: Instant) -> QuotaAnswer {
        self.unbounded = Some(until).filter(|until| *until > now);
        let amount = QuotaAmount { requests: u64::MAX, tokens: u64::MAX };
        let valid = until.saturating_duration_since(now);
        QuotaAnswer::Granted { amount, valid, grant: NO_GRANT }
    }

    /// A call has used less than it took. Of a slice that was told already nothing comes back.
    pub(super) fn used(&mut self, grant: u64, used: QuotaAmount, now: Instant) {
        let found = self.slices.iter_mut().find_map(|one| Some((one.calls.remove(&grant)?, one)));
        let Some((taken, slice)) = found else { return };
        let rest = minus(taken, used);
        slice.used = minus(slice.used, rest);
        if !slice.ended && slice.until > now {
            slice.left = plus(slice.left, rest);
        }
    }

    /// The provider has refused a call: nobody here calls it for a while, and what is here of it is worth nothing.
    pub(super) fn pause(&mut self, retry_after: Option<Duration>, now: Instant) {
        self.slices.iter_mut().for_each(|one| one.ended = true);
        let until = now + retry_after.unwrap_or(PAUSE_DEFAULT);
        self.paused = self.paused.max(Some(until));
    }

    /// A new request: its number, what is held, and what has ended.
    pub(super) fn begin(
        &mut self,
        now: Instant,
    ) -> (String, Vec<String>, Vec<(String, QuotaAmount)>) {
        self.expire(now);
        self.numbers += 1;
        let number = self.numbers.to_string();
        let held = self.slices.iter().filter(|one| !one.ended).map(|one| one.number.clone());
        let held = held.chain(self.asked.iter().cloned()).collect();
        let ended = self.slices.iter().filter(|one| one.ended);
        let ended = ended.map(|one| (one.number.clone(), one.used)).collect();
        self.asked.push(number.clone());
        (number, held, ended)
    }

    /// The scheduler knows of these, and of what had been granted before this request.
    pub(super) fn told(&mut self, number: &str, ended: &[EndedQuota]) {
        self.slices.retain(|one| !ended.iter().any(|told| told.slice == one.number));
        let number = number.parse().unwrap_or_default();
        self.unseen = self.unseen.filter(|unseen| *unseen > number);
    }

    /// Nobody has seen the answer to a request.
    pub(super) fn unseen(&mut self, number: &str) {
        self.forget(number);
        self.unseen = self.unseen.max(number.parse().ok());
    }

    /// A request was answered, or given up.
    pub(super) fn forget(&mut self, number: &str) {
        self.asked.retain(|one| one != number);
    }

    /// When the next slice ends.
    pub(super) fn next_end(&mut self, now: Instant) -> Option<Instant> {
        self.expire(now);
        self.slices.iter().filter(|one| !one.ended).map(|one| one.until).min()
    }

    /// False if somebody sees to it already.
    pub(super) fn begin_telling(&mut self) -> bool {
        !std::mem::replace(&mut self.telling, true)
    }

    /// Whether the scheduler believes in something that has ended.
    pub(super) fn has_to_tell(&self) -> bool {
        self.unseen.is_some() || self.slices.iter().any(|one| one.ended)
    }

    /// Ends it where nothing is left to be told, ever; else when to look again.
    pub(super) fn end_telling(&mut self, now: Instant) -> Option<Instant> {
        let next = self.next_end(now);
        self.telling = next.is_some() || self.has_to_tell();
        self.telling.then(|| next.unwrap_or(now))
    }

    fn expire(&mut self, now: Instant) {
        self.unbounded = self.unbounded.filter(|until| *until > now);
        self.paused = self.paused.filter(|until| *until > now);
        for slice in &mut self.slices {
            slice.ended |= slice.until <= now;
        }
        let calls: usize = self.slices.iter().map(|one| one.calls.len()).sum();
        if calls > CALLS_MAX {
            self.slices.iter_mut().filter(|one| one.ended).for_each(|one| one.calls.clear());
        }
    }
}

impl Slice {
    fn take(&mut self, grant: u64, amount: QuotaAmount) {
        self.left = minus(self.left, amount);
        self.used = plus(self.used, amount);
        self.calls.insert(grant, amount);
    }
}

fn within(one: QuotaAmount, other: QuotaAmount) -> bool {
    one.requests <= other.requests && one.tokens <= other.tokens
}

fn least(one: QuotaAmount, other: QuotaAmount) -> QuotaAmount {
    QuotaAmount { requests: one.requests.min(other.requests), tokens: one.tokens.min(other.tokens) }
}

fn plus(one: QuotaAmount, other: QuotaAmount) -> QuotaAmount {
    QuotaAmount {
        requests: one.requests.saturating_add(other.requests),
        tokens: one.tokens.saturating_add(other.tokens),
    }
}

fn minus(one: QuotaAmount, other: QuotaAmount) -> QuotaAmount {
    QuotaAmount {
        requests: one.requests.saturating_sub(other.requests),
        tokens: one.tokens.saturating_sub(other.tokens),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(requests: u64, tokens: u64) -> QuotaAmount {
        QuotaAmount { requests, tokens }
    }

    #[test]
    fn calls_share_a_slice_and_give_back_what_they_do_not_use() {
        let (now, valid) = (Instant::now(), Duration::from_secs(10));
        let mut local = Local::default();
        assert_eq!(local.take(room(1, 100), now), None);
        let (number, held, ended) = local.begin(now);
        assert_eq!((number.as_str(), held.len(), ended.len()), ("1", 0, 0));
        let granted = local.granted(&number, room(4, 400), room(1, 100), now + valid, now);
        assert_eq!(granted, QuotaAnswer::Granted { amount: room(1, 100), valid, grant: 1 });
        assert_eq!(local.take(room(1, 300), now), Some(Took::Granted(room(1, 300), valid, 2)));
        assert_eq!(local.take(room(1, 1), now), None);
        local.used(2, room(1, 20), now);
        assert_eq!(local.take(room(1, 280), now), Some(Took::Granted(room(1, 280), valid, 3)));
        // A request that is under way holds its slice, too.
        let (second, held, _) = local.begin(now);
        assert_eq!((second.as_str(), held), ("2", vec!["1".to_owned()]));
        let (_, held, _) = local.begin(now);
        assert_eq!(held, ["1", "2"]);
        // A call that was never sent gives all of it back, once.
        local.used(3, room(0, 0), now);
        local.used(3, room(0, 0), now);
        // It ends: what was used is told, once.
        let (number, held, ended) = local.begin(now + valid);
        assert_eq!((held.len(), ended), (2, vec![("1".to_owned(), room(2, 120))]));
        assert_eq!(number, "4");
        local.told("4", &[EndedQuota { slice: "1".to_owned(), used: None }]);
        assert_eq!(local.begin(now + valid).2, []);
    }

    /// Calls of one size are the rule; what one gives back late is not another's.
    #[test]
    fn what_a_told_slice_was_not_used_for_is_no_room_in_the_next() {
        let (now, valid) = (Instant::now(), Duration::from_secs(10));
        let mut local = Local::default();
        let (first, ..) = local.begin(now);
        local.granted(&first, room(1, 100), room(1, 100), now + valid, now);
        let later = now + valid;
        let (second, _, ended) = local.begin(later);
        assert_eq!(ended, [(first.clone(), room(1, 100))]);
        local.told(&second, &[EndedQuota { slice: first, used: None }]);
        local.granted(&second, room(1, 100), room(1, 100), later + valid, later);
        local.used(1, room(1, 1), later);
        assert_eq!(local.take(room(0, 1), later), None);
        assert_eq!(local.begin(later + valid).2, [(second, room(1, 100))]);
    }

    #[test]
    fn what_nobody_has_seen_is_told_of_until_somebody_knows() {
        let now = Instant::now();
        let mut local = Local::default();
        assert!(local.begin_telling() && !local.begin_telling());
        let (lost, ..) = local.begin(now);
        local.unseen(&lost);
        assert_eq!(local.end_telling(now), Some(now));
        let (next, held, _) = local.begin(now);
        assert_eq!(held, [""; 0], "the scheduler ends what is not held");
        local.told(&next, &[]);
        assert_eq!((local.end_telling(now), local.begin_telling()), (None, true));
    }

    #[test]
    fn a_late_answer_is_not_used_and_a_refusal_stops_everyone() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut local = Local::default();
        let (number, ..) = local.begin(now);
        let late = local.granted(&number, room(1, 1), room(1, 1), now, now + second);
        assert!(matches!(late, QuotaAnswer::Wait(_)));
        assert_eq!(local.begin(now + second).2, [("1".to_owned(), room(0, 0))]);
        local.granted("2", room(4, 4), room(1, 1), now + 9 * second, now);
        local.pause(Some(3 * second), now);
        local.pause(Some(second), now);
        assert_eq!(local.take(room(1, 1), now + second), Some(Took::Wait(2 * second)));
        assert_eq!(local.take(room(1, 1), now + 3 * second), None, "what was here is gone");
        local.unbounded(now + 5 * second, now);
        assert!(matches!(local.take(room(1, 1), now + 3 * second), Some(Took::Granted(..))));
    }
}
