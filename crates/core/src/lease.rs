//! Lease arithmetic: until when a renewed lease may be relied on, counted from the time its renewal
//! was sent. Facts of etcd behind it: a renewal is answered with the granted TTL in whole seconds;
//! the server's clock starts somewhere between our send and our receive, so only the send time is
//! safe to count from.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::planted::{self, Bug};

/// Shortest time to live of a node's lease, seconds: the least that etcd grants with its default
/// election timeout of one second (one and a half of it, rounded up).
pub const TTL_SECONDS_MIN: i64 = 2;

/// Longest time to live of a node's lease, seconds: above it etcd counts remaining times in
/// checkpoints, which changes when a lease ends after a change of its leader.
pub const TTL_SECONDS_MAX: i64 = 300;

/// Time to live of a node's lease where nobody asks for another one, seconds. With heartbeats at a
/// third of it, two in a row may be lost; it is longer than an election of etcd (one to two seconds)
/// or of a scheduler takes, and a lost node's loops go on elsewhere within seven seconds.
pub const TTL_SECONDS_DEFAULT: i64 = 6;

/// A point in time of this boot of this machine, in milliseconds of `CLOCK_BOOTTIME`. It goes on
/// during suspend and is never set back, which a wall clock is. Only comparable on one machine.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BootInstant(pub u64);

impl BootInstant {
    /// Milliseconds from `self` until `later`; zero if that is not later.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// Saturating; the part below a millisecond is dropped.
impl Add<Duration> for BootInstant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }
}

/// Saturating at the boot; a started millisecond counts whole, so that a subtracted margin never
/// comes out too small.
impl Sub<Duration> for BootInstant {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis_up(span)))
    }
}

impl fmt::Display for BootInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot+{}ms", self.0)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn millis_up(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// When everything that relies on a lease must be dead: `sent + ttl - drift - kill_budget`.
///
/// `drift_ppm` is the millionths of the TTL by which the server's clock may run faster than ours;
/// `kill_budget` the time from the decision to kill until nothing is left. Margins round up and the
/// TTL rounds down. Never before `sent`: with margins larger than the TTL it is `sent` itself, which
/// is over at once.
pub fn deadline(
    sent: BootInstant,
    ttl: Duration,
    drift_ppm: u32,
    kill_budget: Duration,
) -> BootInstant {
    let kept_back_ms = kept_back_ms(ttl, drift_ppm, kill_budget);
    BootInstant(sent.0.saturating_add(millis(ttl).saturating_sub(kept_back_ms)))
}

fn kept_back_ms(ttl: Duration, drift_ppm: u32, kill_budget: Duration) -> u64 {
    let drift_ms = (u128::from(millis(ttl)) * u128::from(drift_ppm)).div_ceil(1_000_000);
    u64::try_from(drift_ms).unwrap_or(u64::MAX).saturating_add(millis_up(kill_budget))
}

/// How long an owner may still act at most, for display: what the store says its lease has `left`, in whole seconds
/// cut off, without the margins of a lease `granted` for so long. Not the deadline itself, which counts from when the
/// renewal was sent: the store counts from when it arrived, and only the owner knows what it has heard. Zero when
/// nothing is left. It is a bound as far as the clocks of store and owner run at one speed.
pub fn deadline_left_max(left: Duration, granted: Duration, margins: Margins) -> Duration {
    let left_max = (left + Duration::from_secs(1)).min(granted);
    let kept_back_ms = kept_back_ms(granted, margins.drift_ppm, margins.kill_budget);
    left_max.saturating_sub(Duration::from_millis(kept_back_ms))
}

/// Renewals under way that are remembered. At three tries per TTL, each given up before the lease
/// ends, a handful is normal; the answer of a forgotten one counts as none, which is safe.
pub const TRIES_MAX: usize = 16;

/// The margins between what was granted and what is relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Margins {
    /// See [`deadline`].
    pub drift_ppm: u32,
    /// See [`deadline`].
    pub kill_budget: Duration,
}

impl Default for Margins {
    /// 2 % of the TTL, far beyond any working quartz (some 100 ppm) and any slewing by NTP
    /// (500 ppm), and half a second to kill.
    fn default() -> Self {
        Self { drift_ppm: 20_000, kill_budget: Duration::from_millis(500) }
    }
}

/// What became of one try to renew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The store renewed the lease after it was asked to. Zero or less means that there is no such
    /// lease: etcd answers so, without an error.
    Renewed {
        /// What it granted, seconds.
        ttl_seconds: i64,
    },
    /// The lease is gone for certain.
    Lost,
    /// An error, a closed connection, a timeout: it may have been renewed or not.
    Unknown,
}

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The deadline is later now: tell whoever enforces it.
    Extended(BootInstant),
    /// Nothing changed; the old deadline keeps running.
    Kept(BootInstant),
    /// Ownership has ended, for ever.
    Ended(Ended),
}

/// How ownership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The store said that the lease is gone.
    Lost,
    /// The deadline passed before a renewal was heard of.
    Expired,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "the store ended the lease",
            Self::Expired => "no renewal was heard of before the deadline",
        })
    }
}

/// Follows one lease from its grant to its end and says until when it may be relied on.
///
/// Once ended it stays so: a late answer never revives ownership, as others may own by then. A new
/// incarnation starts with a new lease and a new clock. Times come from the caller, who reads
/// `CLOCK_BOOTTIME` *before* it sends and *after* it received.
#[derive(Debug, Clone)]
pub struct LeaseClock {
    margins: Margins,
    deadline: BootInstant,
    ended: Option<Ended>,
    /// Send times of the tries without an answer yet, by id.
    tries: BTreeMap<u64, BootInstant>,
}

impl LeaseClock {
    /// A clock for a lease granted in answer to a request sent at `sent` and received at `now`.
    pub fn granted(
        margins: Margins,
        sent: BootInstant,
        ttl_seconds: i64,
        now: BootInstant,
    ) -> Self {
        let mut clock = Self { margins, deadline: sent, ended: None, tries: BTreeMap::new() };
        match clock.granted_until(sent, now, ttl_seconds) {
            Some(deadline) => clock.deadline = deadline,
            None => clock.end(Ended::Lost),
        }
        clock.on_time(now);
        clock
    }

    /// A renewal is about to be sent. Ids are the caller's, never used twice.
    pub fn on_sent(&mut self, id: u64, sent: BootInstant) {
        if self.ended.is_some() {
            return;
        }
        self.tries.insert(id, sent);
        while self.tries.len() > TRIES_MAX {
            self.tries.pop_first();
        }
    }

    /// The try `id` was answered, or given up, at `now`. An answer to an id that is not under way
    /// can still say that the lease is lost, and nothing else.
    pub fn on_answer(&mut self, id: u64, answer: Answer, now: BootInstant) -> Renewal {
        let sent = self.tries.remove(&id);
        if !planted::is(Bug::LateAnswerRevives) {
            self.on_time(now);
        }
        if let Some(ended) = self.ended {
            return Renewal::Ended(ended);
        }
        let granted = match answer {
            Answer::Unknown => return Renewal::Kept(self.deadline),
            Answer::Lost => None,
            Answer::Renewed { ttl_seconds } => {
                // Without a send time there is nothing safe to count from.
                self.granted_until(sent.unwrap_or_default(), now, ttl_seconds)
            }
        };
        match granted {
            None => {
                self.end(Ended::Lost);
                Renewal::Ended(Ended::Lost)
            }
            // The answer to an older try never moves the deadline back.
            Some(deadline) if sent.is_some() && deadline > self.deadline => {
                self.deadline = deadline;
                Renewal::Extended(deadline)
            }
            Some(_) => Renewal::Kept(self.deadline),
        }
    }

    /// Time passed. Answers how ownership ended, if it has.
    pub fn on_time(&mut self, now: BootInstant) -> Option<Ended> {
        if self.ended.is_none() && now >= self.deadline {
            self.end(Ended::Expired);
        }
        self.ended
    }

    /// Everything that relies on the lease must be dead at this instant.
    pub fn deadline(&self) -> BootInstant {
        self.deadline
    }

    /// How ownership ended, as far as this clock was told the time.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// When to send the next renewal after one sent at `sent`: a third of the TTL later, so that
    /// two may fail.
    pub fn next_try(sent: BootInstant, ttl: Duration) -> BootInstant {
        sent + ttl / 3
    }

    fn granted_until(
        &self,
        sent: BootInstant,
        received: BootInstant,
        ttl_seconds: i64,
    ) -> Option<BootInstant> {
        let from = if planted::is(Bug::DeadlineFromReceipt) { received } else { sent };
        let seconds = u64::try_from(ttl_seconds).ok().filter(|seconds| *seconds > 0)?;
        let ttl = Duration::from_secs(seconds);
        Some(deadline(from, ttl, self.margins.drift_ppm, self.margins.kill_budget))
    }

    fn end(&mut self, how: Ended) {
        self.ended = Some(how);
        self.tries.clear();
    }
}
