//! Budgets and quotas as they are shown: the documents of `flyball budget` and `flyball quota`.

use serde::{Deserialize, Serialize};

use super::account::{Extension, LoopAccount, NamespaceAccount, NamespaceBudget};
use super::amount::{Amount, Limits};
use super::budget::LoopBudget;
use super::pool::{PoolShown, PoolSlice, Waiting};
use super::provider::ProviderQuota;

/// A budget with what is spent of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetReport {
    /// The bounds that hold: those of the spec and what was added to them.
    pub limits: Limits,
    /// What was added.
    #[serde(skip_serializing_if = "Amount::is_zero_ref")]
    pub extended: Amount,
    /// By whom, the newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<Extension>,
    /// Spent.
    pub spent: Amount,
    /// Out with workers: what they do not use comes back, what is lost with them counts as spent.
    pub held: Amount,
    /// Bounds of one run.
    #[serde(skip_serializing_if = "Limits::is_none")]
    pub per_run: Limits,
    /// Bounds of one iteration.
    #[serde(skip_serializing_if = "Limits::is_none")]
    pub per_iteration: Limits,
}

impl BudgetReport {
    /// Of a loop.
    pub fn of_loop(budget: &LoopBudget, account: &LoopAccount) -> Self {
        Self {
            limits: account.limits(&budget.total),
            extended: account.extended,
            extensions: account.extensions.clone(),
            spent: account.spent,
            held: account.held(),
            per_run: budget.per_run,
            per_iteration: budget.per_iteration,
        }
    }

    /// Of a namespace.
    pub fn of_namespace(budget: &NamespaceBudget, account: &NamespaceAccount) -> Self {
        Self {
            limits: account.limits(&budget.limits),
            extended: account.extended,
            extensions: account.extensions.clone(),
            spent: account.spent,
            held: account.held,
            ..Self::default()
        }
    }

    /// Spent, or out with workers.
    pub fn used(&self) -> Amount {
        self.spent.plus(self.held)
    }
}

/// A provider's pool and who waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaReport {
    /// Name of the provider.
    pub provider: String,
    /// What its account allows.
    pub quota: ProviderQuota,
    /// Requests that are handed out in a minute now; absent if not bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Tokens that are handed out in a minute now; absent if not bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Requests of the last minute, and those that nodes may still make.
    pub requests_out: u64,
    /// The same in tokens.
    pub tokens_out: u64,
    /// Nothing is handed out for so long yet, in milliseconds: the provider asked for it.
    pub pause_ms: u64,
    /// How often it has refused a call for its rate.
    pub refusals: u64,
    /// Runs that wait for room, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Waiting>,
    /// Which nodes have what of it; slices that have ended, or whose node is lost, count for one more window of the
    /// provider.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<PoolSlice>,
}

impl QuotaReport {
    /// Of a pool.
    pub fn of(provider: &str, quota: ProviderQuota, refusals: u64, shown: PoolShown) -> Self {
        let bounded = |amount: u64| Some(amount).filter(|amount| *amount != u64::MAX);
        Self {
            provider: provider.to_owned(),
            quota,
            requests: bounded(shown.capacity.requests),
            tokens: bounded(shown.capacity.tokens),
            requests_out: shown.out.requests,
            tokens_out: shown.out.tokens,
            pause_ms: u64::try_from(shown.pause.as_millis()).unwrap_or(u64::MAX),
            refusals,
            waiting: shown.waiting,
            slices: shown.slices,
        }
    }
}
