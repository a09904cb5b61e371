//! What all loops of a namespace may spend together, as a document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::Limits;
use crate::spec::DEFAULT_NAMESPACE;

/// The kind of a namespace's budget.
pub const KIND_BUDGET: &str = "Budget";

/// A manifest of kind `Budget`: there is one for a namespace, and it has no name of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetManifest {
    /// Always `flyball.dev/v1`.
    pub api_version: String,
    /// Always `Budget`.
    pub kind: String,
    /// Whose it is.
    pub metadata: BudgetMetadata,
    /// What all loops of the namespace may spend on model calls, in all their runs together; what is absent is not
    /// bounded.
    pub spec: Limits,
}

/// Whose budget it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetMetadata {
    /// The namespace; `default` if absent.
    pub namespace: String,
}

impl Default for BudgetMetadata {
    fn default() -> Self {
        Self { namespace: DEFAULT_NAMESPACE.to_owned() }
    }
}
