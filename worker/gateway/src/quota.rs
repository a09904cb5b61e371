//! Room in providers' accounts, asked for call by call: whoever finds none keeps the others of its account in line
//! behind it instead of letting them ask too. What is leased to the node is kept by whoever implements [`Quotas`].

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flyball_core::model::{ProviderQuota, QuotaAmount, QuotaAnswer, Quotas};
use flyball_telemetry::QuotaWait;

use crate::gate::Gate;
use crate::run::Gone;

/// Pause before asking again when no scheduler answered.
const UNAVAILABLE_PAUSE: Duration = Duration::from_secs(1);

/// No wait is shorter, so that a pool that says "now" and has nothing is not asked in a circle.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// A call's wait for a provider's account. Dropped before it is over (its client went away, or was ended while it
/// waited), the run has heard no model since.
pub(crate) struct Waiting {
    gate: Arc<Gate>,
    provider: String,
    told: Option<QuotaWait>,
    over: bool,
}

impl Waiting {
    /// Begins one that the metrics are told of elsewhere.
    pub(crate) fn begin(gate: &Arc<Gate>, provider: &str) -> Self {
        gate.wait_begins();
        let (gate, provider) = (Arc::clone(gate), provider.to_owned());
        Self { gate, provider, told: None, over: false }
    }

    /// Begins one, and tells the metrics.
    pub(crate) fn begin_told(gate: &Arc<Gate>, provider: &str) -> Self {
        let mut begun = Self::begin(gate, provider);
        begun.told = Some(QuotaWait::begin(provider, Instant::now()));
        begun
    }

    /// There is room.
    pub(crate) fn found(mut self) {
        if let Some(told) = self.told.take() {
            told.found();
        }
        self.over = true;
    }

    /// It is over, and the metrics hear of it elsewhere, or that there was no room.
    pub(crate) fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gate.wait_ends();
        if !self.over {
            let waited = Gone::Waited(std::mem::take(&mut self.provider));
            self.gate.count(|spent| spent.gone = Some(waited));
        }
    }
}

/// The lines before all accounts.
#[derive(Debug, Default)]
pub(crate) struct Desk(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

/// Why there is no room for a call.
#[derive(Debug)]
pub(crate) enum NoRoom {
    /// Not before this time has passed, or not within the time that a call waits.
    Before(Duration),
    /// No scheduler answered; the reason.
    Unanswered(String),
}

/// Room for one try of a call. Dropped before the try was sent, all of it goes back; dropped later without
/// [`Taken::used`], all of it counts as used.
pub(crate) struct Taken(Option<Room>);

struct Room {
    quotas: Arc<dyn Quotas>,
    provider: String,
    grant: u64,
    sent: bool,
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grant = self.0.as_ref().map(|room| (&room.provider, room.grant));
        f.debug_tuple("Taken").field(&grant).finish()
    }
}

impl Taken {
    /// From now on a provider may have counted it.
    pub(crate) fn sent(&mut self) {
        if let Some(room) = &mut self.0 {
            room.sent = true;
        }
    }

    /// The try has ended and used so many tokens.
    pub(crate) fn used(mut self, tokens: u64) {
        if let Some(Room { quotas, provider, grant, .. }) = self.0.take() {
            quotas.used(&provider, grant, QuotaAmount { requests: 1, tokens });
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(Room { quotas, provider, grant, sent: false }) = self.0.take() {
            quotas.used(&provider, grant, QuotaAmount::default());
        }
    }
}

impl Desk {
    fn line(&self, provider: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(provider) {
            return Arc::clone(line);
        }
        Arc::clone(lines.entry(provider.to_owned()).or_default())
    }

    /// Takes room for one call, waiting in line for it at most `wait_max`. `begun`: the run has called before, or its loop has an iteration behind it, and
    /// goes before new ones.
    ///
    /// # Errors
    /// [`NoRoom`], when that is too long to wait.
    pub(crate) async fn take(
        &self,
        quotas: &Arc<dyn Quotas>,
        provider: &str,
        bounds: &ProviderQuota,
        tokens: u64,
        begun: bool,
        wait_max: Duration,
    ) -> Result<Taken, NoRoom> {
        if bounds.is_none() {
            return Ok(Taken(None));
        }
        let need = need(bounds, tokens);
        let line = self.line(provider);
        let since = Instant::now();
        let last = since + wait_max;
        let mut waits = None;
        // Kept while it waits: the others wait in line behind this call instead of asking too.
        let Some(_turn) =
            turn(&line, last, || waits = Some(QuotaWait::begin(provider, since))).await
        else {
            return Err(NoRoom::Before(WAIT_MIN));
        };
        loop {
            let (pause, none) = match quotas.take(provider.to_owned(), need, begun).await {
                // It may be less than the need, where that is more than the pool has now: then it is all of it.
                QuotaAnswer::Granted { grant, .. } => {
                    if let Some(waits) = waits {
                        waits.found();
                    }
                    let (quotas, provider) = (Arc::clone(quotas), provider.to_owned());
                    return Ok(Taken(Some(Room { quotas, provider, grant, sent: false })));
                }
                QuotaAnswer::Wait(after) => {
                    let after = after.max(WAIT_MIN);
                    (after, NoRoom::Before(after))
                }
                QuotaAnswer::Unavailable(why) => (UNAVAILABLE_PAUSE, NoRoom::Unanswered(why)),
            };
            waits.get_or_insert_with(|| QuotaWait::begin(provider, since));
            if Instant::now() + pause > last {
                return Err(none);
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// A turn at the head of a line, if it comes in time. `waits` is called if it does not come at once: who is behind calls
/// that find room has it within microseconds.
async fn turn<'a>(
    line: &'a tokio::sync::Mutex<()>,
    last: Instant,
    waits: impl FnOnce(),
) -> Option<tokio::sync::MutexGuard<'a, ()>> {
    let mut turn = std::pin::pin!(line.lock());
    let soon = last.min(Instant::now() + WAIT_MIN);
    if let Ok(turn) = tokio::time::timeout_at(soon.into(), &mut turn).await {
        return Some(turn);
    }
    waits();
    tokio::time::timeout_at(last.into(), turn).await.ok()
}

/// What one call needs where the account is bounded. A call that is larger than the account's whole minute needs
/// all of it, or it would wait for ever.
fn need(bounds: &ProviderQuota, tokens: u64) -> QuotaAmount {
    QuotaAmount {
        requests: bounds.requests_per_minute.map_or(0, |_| 1),
        tokens: bounds.tokens_per_minute.map_or(0, |most| tokens.min(most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_larger_than_the_accounts_minute_needs_all_of_it() {
        let amount = |requests, tokens| QuotaAmount { requests, tokens };
        let bounds = ProviderQuota { requests_per_minute: Some(5), tokens_per_minute: Some(1000) };
        assert_eq!(need(&bounds, 50_000), amount(1, 1000));
        let requests = ProviderQuota { tokens_per_minute: None, ..bounds };
        assert_eq!(need(&requests, 50_000), amount(1, 0));
    }
}
