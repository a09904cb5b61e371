//! Model calls: what they use and cost, what bounds them, who serves them. Types and arithmetic only; the
//! gateway speaks to clients and providers, the scheduler keeps budgets and quotas.

mod account;
mod agent;
mod amount;
mod budget;
mod choose;
mod definition;
mod ledger;
mod money;
mod namespace_budget;
mod pool;
mod ports;
mod price;
mod provider;
mod report;
mod route;
#[cfg(test)]
mod tests;
mod usage;

pub use self::account::{
    Accounts, CLOSED_SLICES_MAX, DrawRefused, DrawSlice, Drawn, EXTENSIONS_MAX, Extension,
    LoopAccount, NamespaceAccount, NamespaceBudget, OPEN_SLICES_MAX, OpenSlice, remember,
};
pub use self::agent::{
    AgentAccount, AgentCut, AgentDefinition, AgentEnding, AgentManifest, AgentMetadata,
    AgentValues, BUILTIN_PRESETS, Filled, KIND_AGENT, LastWord, MODEL_LARGE, MODEL_SMALL, OUTPUTS,
    PLACEHOLDERS, PROMPT_ARGUMENT_BYTES_MAX, PromptBy, fill, is_cleared, placeholder_faults,
    preset,
};
pub use self::amount::{Amount, Limits};
pub use self::budget::{AMOUNT_MAX, LoopBudget};
pub use self::choose::{
    Asked, Features, Health, LeftOut, Limited, Plan, Refused, Resting, RouteMissed, Routing,
    Situation, Step, Subtask, all_well, choose, classify,
};
pub use self::definition::{
    DEFINITIONS_MAX, Definition, DefinitionKey, DefinitionKind, UnknownDefinitionKind,
};
pub use self::ledger::{Ledger, Reservation, SLICES_OF_RUN_MAX, Settlement, Short};
pub use self::money::{Money, PerMillion};
pub use self::namespace_budget::{BudgetManifest, BudgetMetadata, KIND_BUDGET};
pub use self::pool::{
    Ages, EndedSlice, Pool, PoolShown, PoolSlice, QUOTA_VALID, QUOTA_WINDOW, SLICES_OF_POOL_MAX,
    TakeQuota, TakenQuota, Waiting,
};
pub use self::ports::{
    BudgetEnded, BudgetScope, Fence, Later, QuotaAmount, QuotaAnswer, QuotaEnded, Quotas,
    SliceError, Slices,
};
pub use self::price::{
    BadPriceTable, DEFAULT_PRICE, DEFAULT_WEB_SEARCH, Imported, NotAPriceList, PRICE_TABLE_VERSION,
    PriceTable, Priced, import_litellm,
};
pub use self::provider::{
    Auth, AuthScheme, KIND_PROVIDER, LongContext, ModelPrice, Protocol, ProviderManifest,
    ProviderMetadata, ProviderQuota, ProviderSpec, SecretRef,
};
pub use self::report::{BudgetReport, QuotaReport};
pub use self::route::{
    Deployment, KIND_MODEL_ROUTE, Match, ModelRouteManifest, ModelRouteMetadata, ModelRouteSpec,
    OnError, Stall, SubtaskClass, Tier,
};
pub use self::usage::Usage;
