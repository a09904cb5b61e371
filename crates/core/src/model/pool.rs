//! The quota pool of a provider's account: what the account allows in a minute, handed to nodes in slices. A slice is
//! its node's until the node says that it has ended, or its lease has; then it cools for one full window of the
//! provider, as what was used of it still counts there. So whatever is lost, no more than the account allows is
//! used in any window.
//!
//! Nothing here reads a clock. How long something has been so is what a scheduler has seen itself ([`Ages`]), which
//! is never longer than it is true; one that has just begun frees nothing for a window.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ports::QuotaAmount;
use super::provider::ProviderQuota;
use crate::ids::{Incarnation, NodeName};

#[cfg(test)]
mod tests;

/// The window of providers, a minute, and two seconds for requests that were longer on their way than others.
pub const QUOTA_WINDOW: Duration = Duration::from_secs(62);

/// A slice is used within this time, or given back.
pub const QUOTA_VALID: Duration = Duration::from_secs(10);

/// Most slices and most waiting runs of one pool; whoever comes later waits without a place.
pub const SLICES_OF_POOL_MAX: usize = 512;

/// A waiting run that has not asked for so long has gone; a live one asks every few seconds.
const WAITER_GONE: Duration = Duration::from_secs(30);
/// A waiting run says again that it waits after this.
const WAITER_REPEATS: Duration = Duration::from_secs(20);
/// Longest and shortest pause between two questions of a waiting run.
const WAIT_MAX: Duration = Duration::from_secs(5);
const WAIT_MIN: Duration = Duration::from_millis(250);

/// A whole pool, in thousandths.
const WHOLE: u32 = 1000;
/// The smallest part of a pool that refusals of the provider leave.
const SHARE_MIN: u32 = 125;
/// So much more of it is handed out after each [`RAMP_STEP`] without a refusal.
const RAMP: u32 = 125;
const RAMP_STEP: Duration = Duration::from_secs(5);
/// Refusals within this time are one: many calls were under way.
const SAME_REFUSAL: Duration = Duration::from_secs(1);
/// Longest pause that a provider's `retry-after` makes; a spent monthly limit is not waited for here.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How long a scheduler has seen each fact of a pool, by the names of [`Pool::facts`].
pub type Ages = BTreeMap<String, Duration>;

/// A slice of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolSlice {
    /// Named by the worker; unique in its life.
    pub id: String,
    /// The node.
    pub node: NodeName,
    /// Its life.
    pub incarnation: Incarnation,
    /// What was granted; once it has ended, what was used.
    pub amount: QuotaAmount,
    /// Nothing is used of it any more.
    #[serde(default)]
    pub ended: bool,
}

/// A run that waits for room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The node.
    pub node: NodeName,
    /// Its life.
    pub incarnation: Incarnation,
    /// Which loop, as `namespace/name`.
    pub of: String,
    /// What it needs.
    pub needs: QuotaAmount,
    /// It has called before, or its loop has an iteration behind it: it goes before new ones.
    pub begun: bool,
    /// Counts how often it said so again.
    #[serde(default)]
    pub said: u32,
}

/// A provider's pool as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pool {
    /// Slices that are out or cool.
    pub slices: Vec<PoolSlice>,
    /// Who waits, in the order in which they came.
    pub waiting: Vec<Waiting>,
    /// Refusals of the provider so far.
    pub limited: u64,
    /// How long it wanted to be left alone, from the last refusal on, in milliseconds.
    pub retry_after_ms: u64,
    /// Thousandths of the pool that were handed out after the last refusal.
    pub share: u32,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// A slice that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedSlice {
    /// Which.
    pub id: String,
    /// What was used of it.
    pub used: QuotaAmount,
}

/// What a node asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeQuota {
    /// The node.
    pub node: NodeName,
    /// Its life.
    pub incarnation: Incarnation,
    /// For which loop, as `namespace/name`.
    pub of: String,
    /// Name of the slice: a number in decimals, higher than those of all requests before.
    pub id: String,
    /// Less is of no use. Nothing: only tells what is held and what has ended.
    pub needs: QuotaAmount,
    /// What would last for a while.
    pub want: QuotaAmount,
    /// The run has called before, or its loop has an iteration behind it.
    pub begun: bool,
    /// Slices that the node has; its others of lower numbers have ended, wholly used.
    pub held: Vec<String>,
    /// Slices that have ended, and what was used of each.
    pub ended: Vec<EndedSlice>,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenQuota {
    /// A slice, debited once the pool is written.
    Granted(QuotaAmount),
    /// Nothing is bounded.
    Unbounded,
    /// Ask again after this time.
    Wait(Duration),
}

impl PoolSlice {
    fn is_of(&self, ask: &TakeQuota) -> bool {
        self.node == ask.node && self.incarnation == ask.incarnation
    }

    fn name(&self) -> String {
        format!("{}/{}", self.incarnation, self.id)
    }
}

impl Waiting {
    fn is_of(&self, ask: &TakeQuota) -> bool {
        self.incarnation == ask.incarnation && self.of == ask.of
    }

    fn name(&self) -> String {
        format!("waits {}/{}/{}", self.incarnation, self.of, self.said)
    }
}

/// Requests may overtake each other, and one knows nothing of slices that were asked for after it.
fn is_before(one: &str, other: &str) -> bool {
    (one.len(), one) < (other.len(), other)
}

fn gone(incarnation: &Incarnation) -> String {
    format!("gone {incarnation}")
}

impl Pool {
    /// The facts whose ages matter, by name: what a scheduler has to remember since when it sees them.
    /// `alive` says of a node's life whether its lease is there.
    pub fn facts(&self, alive: impl Fn(&NodeName, &Incarnation) -> bool) -> Vec<String> {
        let ended = self.slices.iter().filter(|one| one.ended).map(PoolSlice::name);
        let lost = self.slices.iter().filter(|one| !alive(&one.node, &one.incarnation));
        let lost = lost.map(|one| gone(&one.incarnation));
        let waits = self.waiting.iter().map(Waiting::name);
        ended.chain(lost).chain(waits).chain([self.refusal()]).collect()
    }

    fn refusal(&self) -> String {
        format!("refusal {}", self.limited)
    }

    /// Drops what has cooled, and who has gone.
    fn refresh(&mut self, ages: &Ages, window: Duration) {
        let cooled = |name: &str| ages.get(name).is_some_and(|age| *age >= window);
        self.slices.retain(|one| {
            let ended = one.ended && cooled(&one.name());
            !ended && !cooled(&gone(&one.incarnation))
        });
        self.waiting.retain(|one| ages.get(&one.name()).is_none_or(|age| *age < WAITER_GONE));
    }

    /// What is handed out of the pool now, in thousandths; `Err` with the rest of a pause.
    fn share_now(&self, ages: &Ages) -> Result<u32, Duration> {
        if self.limited == 0 {
            return Ok(WHOLE);
        }
        let age = ages.get(&self.refusal()).copied().unwrap_or_default();
        let pause = Duration::from_millis(self.retry_after_ms);
        let Some(since) = age.checked_sub(pause) else { return Err(pause.saturating_sub(age)) };
        let steps = u32::try_from(since.as_millis() / RAMP_STEP.as_millis()).unwrap_or(u32::MAX);
        Ok(self.share.saturating_add(steps.saturating_mul(RAMP)).min(WHOLE))
    }

    /// What the pool holds now; [`u64::MAX`] where nothing bounds it. Never nothing, or nobody would find out.
    fn capacity(limits: &ProviderQuota, share: u32) -> QuotaAmount {
        let part = |most: Option<u64>| {
            let exact = |most: u64| u128::from(most) * u128::from(share) / u128::from(WHOLE);
            most.map_or(u64::MAX, |most| u64::try_from(exact(most)).unwrap_or(u64::MAX).max(1))
        };
        QuotaAmount {
            requests: part(limits.requests_per_minute),
            tokens: part(limits.tokens_per_minute),
        }
    }

    fn out(&self) -> QuotaAmount {
        self.slices.iter().fold(QuotaAmount::default(), |sum, one| sum.plus(one.amount))
    }

    /// Takes what a node says of its slices, and grants one if there is room and its turn. The same slice again
    /// gets the same answer. The pool has to be written, if it changed, before the answer goes out.
    #[must_use]
    pub fn take(
        &mut self,
        limits: &ProviderQuota,
        ages: &Ages,
        window: Duration,
        ask: &TakeQuota,
    ) -> TakenQuota {
        self.refresh(ages, window);
        self.note_ended(ask);
        if ask.needs.is_zero() {
            self.waiting.retain(|one| !one.is_of(ask));
            return TakenQuota::Wait(WAIT_MAX);
        }
        let known = self.slices.iter().find(|one| one.is_of(ask) && one.id == ask.id);
        if let Some(known) = known.filter(|one| !one.ended) {
            return TakenQuota::Granted(known.amount);
        }
        let share = match self.share_now(ages) {
            Ok(share) => share,
            Err(pause) => return self.wait(ask, ages, pause),
        };
        if limits.is_none() {
            self.waiting.retain(|one| !one.is_of(ask));
            return TakenQuota::Unbounded;
        }
        let capacity = Self::capacity(limits, share);
        let free = capacity.minus(self.out());
        // What is larger than the whole pool gets the whole pool.
        let needs = ask.needs.at_most(capacity);
        let ahead = self.ahead_of(ask, capacity);
        let room = self.slices.len() < SLICES_OF_POOL_MAX && known.is_none();
        if !room || !needs.plus(ahead).within(free) {
            let pause = self.until_cooled(ages, window);
            return self.wait(ask, ages, pause);
        }
        // More than it needs only while half of the pool is left besides.
        let spare = free
            .minus(ahead)
            .minus(QuotaAmount { requests: capacity.requests / 2, tokens: capacity.tokens / 2 });
        let want = ask.want.at_most(spare);
        let amount = want.minus(needs).plus(needs);
        self.waiting.retain(|one| !one.is_of(ask));
        self.slices.push(PoolSlice {
            id: ask.id.clone(),
            node: ask.node.clone(),
            incarnation: ask.incarnation.clone(),
            amount,
            ended: false,
        });
        TakenQuota::Granted(amount)
    }

    /// The provider has refused a call for its rate: everybody gets less, and for a while nothing. Several
    /// refusals at once are one. False if nothing changed.
    #[must_use]
    pub fn refused(&mut self, ages: &Ages, retry_after: Option<Duration>) -> bool {
        let pause = retry_after.unwrap_or(SAME_REFUSAL).min(RETRY_AFTER_MAX).max(SAME_REFUSAL);
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let age = ages.get(&self.refusal()).copied().unwrap_or_default();
        let before = Duration::from_millis(self.retry_after_ms);
        if self.limited > 0 && age < before.max(SAME_REFUSAL) {
            // Counted from the first one on.
            let longer = pause_ms.saturating_add(u64::try_from(age.as_millis()).unwrap_or(0));
            let changed = pause > before && longer > self.retry_after_ms;
            self.retry_after_ms = if changed { longer } else { self.retry_after_ms };
            return changed;
        }
        let share = self.share_now(ages).unwrap_or(self.share);
        self.share = (share / 2).max(SHARE_MIN);
        self.limited += 1;
        self.retry_after_ms = pause_ms;
        true
    }

    fn note_ended(&mut self, ask: &TakeQuota) {
        let mine = |one: &&mut PoolSlice| one.is_of(ask) && !one.ended;
        for slice in self.slices.iter_mut().filter(mine) {
            if let Some(told) = ask.ended.iter().find(|told| told.id == slice.id) {
                slice.ended = true;
                slice.amount = told.used;
            } else if is_before(&slice.id, &ask.id) && !ask.held.contains(&slice.id) {
                slice.ended = true;
            }
        }
        // What was not used at all need not cool.
        self.slices.retain(|one| !(one.ended && one.amount.is_zero()));
    }

    /// What those want who go before this one.
    fn ahead_of(&self, ask: &TakeQuota, capacity: QuotaAmount) -> QuotaAmount {
        let mine = self.waiting.iter().position(|one| one.is_of(ask)).unwrap_or(usize::MAX);
        let before = self.waiting.iter().enumerate().filter(|(at, one)| {
            let earlier = one.begun == ask.begun && *at < mine;
            !one.is_of(ask) && (earlier || (one.begun && !ask.begun))
        });
        before.fold(QuotaAmount::default(), |sum, (_, one)| sum.plus(one.needs.at_most(capacity)))
    }

    fn wait(&mut self, ask: &TakeQuota, ages: &Ages, pause: Duration) -> TakenQuota {
        let waiting = self.waiting.len();
        match self.waiting.iter_mut().find(|one| one.is_of(ask)) {
            Some(mine) => {
                if ages.get(&mine.name()).is_some_and(|age| *age > WAITER_REPEATS) {
                    mine.said = mine.said.wrapping_add(1);
                }
                mine.begun |= ask.begun;
            }
            None if waiting < SLICES_OF_POOL_MAX => self.waiting.push(Waiting {
                node: ask.node.clone(),
                incarnation: ask.incarnation.clone(),
                of: ask.of.clone(),
                needs: ask.needs,
                begun: ask.begun,
                said: 0,
            }),
            None => {}
        }
        TakenQuota::Wait(pause.clamp(WAIT_MIN, WAIT_MAX))
    }

    /// When the next slice will have cooled.
    fn until_cooled(&self, ages: &Ages, window: Duration) -> Duration {
        let ended = self.slices.iter().filter(|one| one.ended);
        let left = ended
            .map(|one| window.saturating_sub(ages.get(&one.name()).copied().unwrap_or_default()));
        left.min().unwrap_or(Duration::from_secs(1))
    }

    /// What is shown of the pool: handed out of how much, and how long the provider is left alone yet. What has
    /// cooled is not shown, though it stands in the pool until somebody asks for more of it.
    pub fn shown(&self, limits: &ProviderQuota, ages: &Ages, window: Duration) -> PoolShown {
        let mut now = self.clone();
        now.refresh(ages, window);
        let (share, pause) = match now.share_now(ages) {
            Ok(share) => (share, Duration::ZERO),
            Err(pause) => (now.share, pause),
        };
        let (capacity, out) = (Self::capacity(limits, share), now.out());
        PoolShown { capacity, out, pause, slices: now.slices, waiting: now.waiting }
    }
}

/// A pool as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolShown {
    /// Handed out in a window at most, now.
    pub capacity: QuotaAmount,
    /// Out in slices, or cooling.
    pub out: QuotaAmount,
    /// Nothing is handed out for so long yet.
    pub pause: Duration,
    /// The slices that are out or cool.
    pub slices: Vec<PoolSlice>,
    /// Who waits, in the order in which they came.
    pub waiting: Vec<Waiting>,
}
