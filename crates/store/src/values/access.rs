//! Roles and bindings: the document as it was given, and since when it is so.

use serde::{Deserialize, Serialize};

/// A role or a binding as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessRecord<M> {
    /// What was given, with defaults filled in.
    pub manifest: M,
    /// 1, and one more with every change.
    pub generation: u64,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When it was last changed.
    pub changed_at: jiff::Timestamp,
    /// Who did that.
    pub changed_by: String,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}
