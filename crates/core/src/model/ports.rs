//! What a gateway needs of others, as traits: whoever keeps budgets, quotas and ownership implements them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::amount::{Amount, Limits};
use crate::quantity::Span;

/// An answer that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BudgetScope {
    /// One iteration.
    Iteration,
    /// One run.
    Run,
    /// The loop, in all runs.
    Loop,
    /// The namespace.
    Namespace,
}

impl fmt::Display for BudgetScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iteration => "iteration",
            Self::Run => "run",
            Self::Loop => "loop",
            Self::Namespace => "namespace",
        })
    }
}

/// A budget that has no room: whose, its bounds, and what is spent or promised of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the budget of the {scope} is used up")]
pub struct BudgetEnded {
    /// Whose.
    pub scope: BudgetScope,
    /// Its bounds.
    pub limits: Limits,
    /// What is spent or promised of it.
    pub used: Amount,
}

/// A provider's account that has no room for longer than a call waits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the quota of provider {provider} is used up; there may be room in {}",
    in_seconds(*left)
)]
pub struct QuotaEnded {
    /// Whose account.
    pub provider: String,
    /// After this time there may be room.
    pub left: Duration,
}

/// Rounded up, as nobody is to come too early.
fn in_seconds(left: Duration) -> Span {
    Span::from_secs(u64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u64::MAX))
}

/// No slice was granted, or a settlement was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// There is no room.
    #[error(transparent)]
    Ended(#[from] BudgetEnded),
    /// The run does not own its loop any more.
    #[error("the run does not own its loop: {0}")]
    Fenced(String),
    /// Nobody could be asked; the same request, with the same id, may be repeated.
    #[error("no scheduler answered: {0}")]
    Unavailable(String),
}

/// Slices of the budgets of one run's loop and namespace. A slice is debited before it is granted; what is not
/// settled counts as spent.
pub trait Slices: Send + Sync + 'static {
    /// Takes a slice named `id`, of at least `least` and if possible `want`. The same `id` again gets the same
    /// answer.
    fn draw(
        &self,
        id: String,
        least: Amount,
        want: Amount,
    ) -> Later<'_, Result<Amount, SliceError>>;

    /// Gives back what was not used of a slice. Done once, however often it is asked.
    fn settle(&self, id: String, used: Amount) -> Later<'_, Result<(), SliceError>>;
}

/// Room in a provider's account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QuotaAmount {
    /// Requests.
    pub requests: u64,
    /// Tokens.
    pub tokens: u64,
}

impl QuotaAmount {
    /// Nothing.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            tokens: self.tokens.saturating_add(other.tokens),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            tokens: self.tokens.saturating_sub(other.tokens),
        }
    }

    pub(super) fn at_most(self, other: Self) -> Self {
        self.minus(self.minus(other))
    }

    pub(super) fn within(self, other: Self) -> bool {
        self.requests <= other.requests && self.tokens <= other.tokens
    }
}

/// What became of a request for quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaAnswer {
    /// Granted, to be used within this time.
    Granted {
        /// How much; [`u64::MAX`] where nothing is bounded.
        amount: QuotaAmount,
        /// For how long from the moment of asking.
        valid: Duration,
        /// Names it towards [`Quotas::used`].
        grant: u64,
    },
    /// Not now; ask again after this time.
    Wait(Duration),
    /// No scheduler answered.
    Unavailable(String),
}

/// The pools of providers' accounts, shared by the whole fleet.
pub trait Quotas: Send + Sync + 'static {
    /// Asks for room of a provider's. `begun`: the run has called before, or its loop has an
    /// iteration behind it: it goes before new ones.
    fn take(&self, provider: String, want: QuotaAmount, begun: bool) -> Later<'_, QuotaAnswer>;

    /// Tells what a call used of the room it was granted, so that the rest of a worst case can be given to others; a
    /// request that was sent stays one. Not telling it costs room and nothing else. Does not wait.
    fn used(&self, provider: &str, grant: u64, used: QuotaAmount);

    /// Tells that the provider refused a call for its rate, and what it said about when to come again.
    fn limited(&self, provider: String, retry_after: Option<Duration>) -> Later<'_, ()>;
}

/// Whether a run may still have effects: asked before each call and while it streams.
pub trait Fence: Send + Sync + 'static {
    /// Time left until the run's deadline; `None` when it has passed or the run has ended.
    fn left(&self) -> Option<Duration>;
}
