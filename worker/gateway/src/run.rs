//! What a gateway is told about a run, and what it tells about its calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_core::model::{
    Amount, BudgetEnded, Fence, LoopBudget, ModelPrice, PriceTable, ProviderSpec, QuotaEnded,
    Quotas, Routing, Slices, Usage,
};
use flyball_core::quantity::Distance;
use flyball_core::secret::SecretValue;

/// A run whose model calls are to be served.
pub struct RunCalls {
    /// The key its agents call with; nobody else may know it. Dead with the run.
    pub key: String,
    /// Whose calls they are.
    pub run: RunIdentity,
    /// Who may serve them.
    pub models: Arc<Models>,
    /// Bounds of the loop; those of iteration and run are kept here, the others by `slices`.
    pub budget: LoopBudget,
    /// Whether the loop has work behind it: then it goes before new ones where it waits for quota.
    pub begun: bool,
    /// Where slices of the loop's and the namespace's budget come from.
    pub slices: Arc<dyn Slices>,
    /// Where room in providers' accounts comes from.
    pub quotas: Arc<dyn Quotas>,
    /// Whether the run may still have effects.
    pub fence: Arc<dyn Fence>,
    /// The run's trace; calls that bring no `traceparent` of their own belong to it.
    pub traceparent: Option<String>,
}

/// Whose calls they are.
#[derive(Debug, Clone, Default)]
pub struct RunIdentity {
    /// Namespace of the loop.
    pub namespace: String,
    /// Name of the loop.
    pub name: String,
    /// Uid of the loop.
    pub uid: String,
    /// Fencing token of the run.
    pub token: u64,
    /// The node it runs on.
    pub node: String,
    /// Labels of the loop.
    pub labels: BTreeMap<String, String>,
}

/// Who may serve a run's calls: routes, the providers they name with their keys, prices.
#[derive(Debug, Default)]
pub struct Models {
    /// The routes, and what each provider speaks.
    pub routing: Routing,
    /// The providers by name.
    pub providers: BTreeMap<String, OpenProvider>,
    /// Prices of models for which their provider's definition has none.
    pub prices: PriceTable,
}

/// A provider with its key.
#[derive(Debug)]
pub struct OpenProvider {
    /// Its definition.
    pub spec: ProviderSpec,
    /// The key, where it asks for one.
    pub key: Option<SecretValue>,
}

impl Models {
    /// What a model of a provider costs.
    pub fn price_of(&self, provider: &OpenProvider, model: &str) -> ModelPrice {
        let own = provider.spec.prices.get(model).copied();
        own.unwrap_or_else(|| self.prices.price_of(model).price)
    }

    /// Names that clients may ask for: those that routes match literally, and the models that serve them.
    pub fn names(&self) -> Vec<String> {
        let mut names = std::collections::BTreeSet::new();
        for (_, route) in self.routing.routes() {
            let matched = route.matches.iter().flat_map(|one| &one.models);
            names.extend(matched.filter(|name| !name.contains('*')).cloned());
            let deployments = route.tiers.iter().flat_map(|tier| &tier.deployments);
            names.extend(deployments.filter_map(|one| one.model.clone()));
        }
        names.into_iter().collect()
    }
}

/// An iteration that begins: where the loop is, and what may have changed since the last one.
#[derive(Debug, Clone, Default)]
pub struct Iteration {
    /// Its number.
    pub number: u64,
    /// The loop's best distance, if it was measured.
    pub distance: Option<Distance>,
    /// Iterations in a row without improvement.
    pub stall: u32,
    /// Routes and providers from now on; absent: as before.
    pub models: Option<Arc<Models>>,
    /// The iteration's trace context; absent: as before.
    pub traceparent: Option<String>,
}

/// What calls used, or were refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spent {
    /// What was settled: tokens, money, and calls, of which each try at a provider is one unless its account was at its
    /// limit.
    pub amount: Amount,
    /// Tokens of the calls that were answered, by kind.
    pub usage: Usage,
    /// Calls that a client got an answer to.
    pub answered: u64,
    /// Calls that were refused by the gateway, or failed at every provider.
    pub refused: u64,
    /// Of the tries, those whose usage is an estimate because the provider never told it.
    pub estimated: u64,
    /// Calls that a stronger tier served than the route's first.
    pub escalated: u64,
    /// The last call that a budget had no room for.
    pub need: Option<Need>,
    /// The provider's account that the last call of the iteration that had to wait too long found no room in.
    pub quota: Option<QuotaEnded>,
    /// Why the last call of the iteration got no answer of a model, if it got none and the call is not to blame.
    pub gone: Option<Gone>,
}

impl Spent {
    /// What came on top of an earlier state.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let (now, then) = (&self.usage, &before.usage);
        Self {
            amount: self.amount.minus(before.amount),
            usage: Usage {
                input_total: now.input_total.saturating_sub(then.input_total),
                cache_read: now.cache_read.saturating_sub(then.cache_read),
                cache_write_5m: now.cache_write_5m.saturating_sub(then.cache_write_5m),
                cache_write_1h: now.cache_write_1h.saturating_sub(then.cache_write_1h),
                output_total: now.output_total.saturating_sub(then.output_total),
                reasoning: now.reasoning.saturating_sub(then.reasoning),
                web_searches: now.web_searches.saturating_sub(then.web_searches),
            },
            answered: self.answered.saturating_sub(before.answered),
            refused: self.refused.saturating_sub(before.refused),
            estimated: self.estimated.saturating_sub(before.estimated),
            escalated: self.escalated.saturating_sub(before.escalated),
            need: self.need.clone().filter(|need| before.need.as_ref() != Some(need)),
            gone: self.gone.clone(),
            quota: self.quota.clone(),
        }
    }
}

/// Why a call got no answer of a model, though it was not to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// No provider gave one; the last one's word.
    Silent(String),
    /// It was ended while it waited for this provider's account.
    Waited(String),
}

/// A call for which a budget had no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Whose budget, its bounds and what is used of it.
    pub ended: BudgetEnded,
    /// The worst case of the call.
    pub amount: Amount,
}
