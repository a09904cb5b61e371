//! What a loop may spend on model calls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::{Amount, Limits};

/// Most of anything that a limit, an extension or a slice may name: far above use (a thousand million dollars,
/// a million times a million tokens), and sums of thousands of them are still exact.
pub const AMOUNT_MAX: u64 = 1 << 50;

/// Bounds on the model calls of a loop: in all, and per run and iteration. What is absent is not bounded, but for
/// the budget of its namespace. A loop that reaches its own or its namespace's bound is parked and goes on when
/// `flyball budget extend` raises it; one that reaches the bound of an iteration or a run ends that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LoopBudget {
    /// In all runs.
    #[serde(flatten)]
    pub total: Limits,
    /// In one run: one tenure on one node.
    #[serde(skip_serializing_if = "Limits::is_none")]
    pub per_run: Limits,
    /// In one iteration.
    #[serde(skip_serializing_if = "Limits::is_none")]
    pub per_iteration: Limits,
}

impl LoopBudget {
    /// Whether nothing is bounded.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Limits {
    /// These bounds with more added to them; what is not bounded stays so.
    #[must_use]
    pub fn extended_by(&self, more: Amount) -> Self {
        Self {
            tokens: self.tokens.map(|most| most.saturating_add(more.tokens)),
            money: self.money.map(|most| super::Money(most.0.saturating_add(more.money.0))),
            calls: self.calls.map(|most| most.saturating_add(more.calls)),
        }
    }
}
