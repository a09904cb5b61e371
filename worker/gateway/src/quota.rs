//! Room in providers' accounts, as leased to this worker: calls take from what is here, and whoever finds too little
//! asks for more for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flyball_core::model::{ProviderQuota, QuotaAmount, QuotaAnswer, Quotas};

/// So many calls' worth is asked for at once: a few dozen calls a minute need no more than a few questions.
const CALLS_AHEAD: u64 = 4;

/// Pause before asking again when no scheduler answered.
const UNAVAILABLE_PAUSE: Duration = Duration::from_secs(1);

/// No wait is shorter, so that a pool that says "now" and has nothing is not asked in a circle.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// What is here of one account.
#[derive(Debug, Default)]
struct Holding {
    amount: QuotaAmount,
    /// Useless from then on.
    until: Option<Instant>,
}

impl Holding {
    fn take(&mut self, need: QuotaAmount, now: Instant) -> bool {
        if self.until.is_none_or(|until| until <= now) {
            *self = Self::default();
        }
        let enough = self.amount.requests >= need.requests && self.amount.tokens >= need.tokens;
        if enough {
            self.amount.requests -= need.requests;
            self.amount.tokens -= need.tokens;
        }
        enough
    }

    /// What is left of earlier grants ends with them, which is before this one does; then all of it does.
    fn granted(&mut self, amount: QuotaAmount, until: Option<Instant>) {
        let before = self.until.filter(|_| self.amount != QuotaAmount::default());
        self.until = [before, until].into_iter().flatten().min();
        self.amount.requests = self.amount.requests.saturating_add(amount.requests);
        self.amount.tokens = self.amount.tokens.saturating_add(amount.tokens);
    }
}

/// One account's holding; the outer lock lets one call ask for all.
#[derive(Debug, Default)]
struct Account {
    asking: tokio::sync::Mutex<()>,
    holding: Mutex<Holding>,
}

impl Account {
    fn holding(&self) -> MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is here of all accounts.
#[derive(Debug, Default)]
pub(crate) struct Desk(Mutex<HashMap<String, Arc<Account>>>);

/// Room for one call. What it did not use goes back by [`Taken::used`], as long as it is good for anything.
#[derive(Debug)]
pub(crate) struct Taken(Option<(Arc<Account>, QuotaAmount)>);

impl Taken {
    /// The call used so many tokens.
    pub(crate) fn used(self, tokens: u64) {
        let Some((account, taken)) = self.0 else { return };
        let mut holding = account.holding();
        if holding.until.is_some_and(|until| until > Instant::now()) {
            let rest = taken.tokens.saturating_sub(tokens);
            holding.amount.tokens = holding.amount.tokens.saturating_add(rest);
        }
    }
}

impl Desk {
    fn account(&self, provider: &str) -> Arc<Account> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(provider) {
            return Arc::clone(account);
        }
        Arc::clone(accounts.entry(provider.to_owned()).or_default())
    }

    /// Takes room for one call, waiting in line for it at most `wait_max`. `begun`: the run has called before, and
    /// goes before new ones.
    ///
    /// # Errors
    /// The time after which there may be room, when that is too long to wait.
    pub(crate) async fn take(
        &self,
        quotas: &dyn Quotas,
        provider: &str,
        bounds: &ProviderQuota,
        tokens: u64,
        begun: bool,
        wait_max: Duration,
    ) -> Result<Taken, Duration> {
        if bounds.is_none() {
            return Ok(Taken(None));
        }
        let need = need(bounds, tokens);
        let account = self.account(provider);
        let last = Instant::now() + wait_max;
        loop {
            if account.holding().take(need, Instant::now()) {
                return Ok(Taken(Some((account, need))));
            }
            let line = tokio::time::timeout_at(last.into(), account.asking.lock());
            let Ok(_asking) = line.await else { return Err(WAIT_MIN) };
            // Whoever asked before may have brought enough for this call too.
            if account.holding().take(need, Instant::now()) {
                drop(_asking);
                return Ok(Taken(Some((account, need))));
            }
            let asked = Instant::now();
            let pause = match quotas.take(provider.to_owned(), ahead(need), begun).await {
                QuotaAnswer::Granted { amount, valid } => {
                    account.holding().granted(amount, asked.checked_add(valid));
                    if account.holding().take(need, Instant::now()) {
                        drop(_asking);
                        return Ok(Taken(Some((account, need))));
                    }
                    WAIT_MIN
                }
                QuotaAnswer::Wait(after) => after.max(WAIT_MIN),
                QuotaAnswer::Unavailable(_) => UNAVAILABLE_PAUSE,
            };
            if Instant::now() + pause > last {
                return Err(pause);
            }
            // The lock is kept: the others wait in line behind this call instead of asking too.
            tokio::time::sleep(pause).await;
        }
    }

    /// The provider said that its account is at its limit: what is here of it is worth nothing.
    pub(crate) fn limited(&self, provider: &str) {
        *self.account(provider).holding() = Holding::default();
    }
}

/// What one call needs where the account is bounded. A call that is larger than the account's whole minute needs
/// all of it, or it would wait for ever.
fn need(bounds: &ProviderQuota, tokens: u64) -> QuotaAmount {
    QuotaAmount {
        requests: bounds.requests_per_minute.map_or(0, |_| 1),
        tokens: bounds.tokens_per_minute.map_or(0, |most| tokens.min(most)),
    }
}

fn ahead(need: QuotaAmount) -> QuotaAmount {
    QuotaAmount {
        requests: need.requests.saturating_mul(CALLS_AHEAD),
        tokens: need.tokens.saturating_mul(CALLS_AHEAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn amount(requests: u64, tokens: u64) -> QuotaAmount {
        QuotaAmount { requests, tokens }
    }

    #[test]
    fn what_was_granted_is_good_until_it_ends_and_then_a_new_grant_is() {
        let (mut holding, begun) = (Holding::default(), Instant::now());
        assert!(!holding.take(amount(1, 10), begun), "nothing was granted");
        holding.granted(amount(4, 100), begun.checked_add(SECOND));
        assert!(holding.take(amount(1, 60), begun));
        assert!(!holding.take(amount(1, 60), begun), "the tokens are used up before the requests");
        // A second grant does not lengthen the first one's life.
        holding.granted(amount(4, 100), begun.checked_add(3 * SECOND));
        assert!(holding.take(amount(1, 60), begun));
        assert!(!holding.take(amount(1, 1), begun + SECOND));
        // After an end everything begins anew.
        holding.granted(amount(2, 50), begun.checked_add(9 * SECOND));
        assert!(holding.take(amount(1, 50), begun + 8 * SECOND));
        assert!(!holding.take(amount(0, 0), begun + 9 * SECOND) || holding.amount == amount(0, 0));
    }

    #[test]
    fn a_call_larger_than_the_accounts_minute_needs_all_of_it() {
        let bounds = ProviderQuota { requests_per_minute: Some(5), tokens_per_minute: Some(1000) };
        assert_eq!(need(&bounds, 50_000), amount(1, 1000));
        let requests = ProviderQuota { tokens_per_minute: None, ..bounds };
        assert_eq!(need(&requests, 50_000), amount(1, 0));
    }
}
