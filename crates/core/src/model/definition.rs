//! What a cluster's operators define for model calls: providers, routes, agents and namespaces' budgets, as one kind
//! of document to whoever keeps and hands them out.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::agent::{AgentManifest, KIND_AGENT};
use super::namespace_budget::{BudgetManifest, KIND_BUDGET};
use super::provider::{KIND_PROVIDER, ProviderManifest};
use super::route::{KIND_MODEL_ROUTE, ModelRouteManifest};

/// Most definitions of one kind: above what people can tell apart, and all of them together are handed to a run.
pub const DEFINITIONS_MAX: usize = 200;

/// A kind of definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DefinitionKind {
    /// A provider account.
    Provider,
    /// A model route.
    ModelRoute,
    /// An agent.
    Agent,
    /// What a namespace may spend.
    Budget,
}

/// Each with its word (as in `provider/x`), its plural and its kind in manifests.
const KINDS: [(DefinitionKind, &str, &str, &str); 4] = [
    (DefinitionKind::Provider, "provider", "providers", KIND_PROVIDER),
    (DefinitionKind::Agent, "agent", "agents", KIND_AGENT),
    (DefinitionKind::ModelRoute, "modelroute", "modelroutes", KIND_MODEL_ROUTE),
    (DefinitionKind::Budget, "budget", "budgets", KIND_BUDGET),
];

impl DefinitionKind {
    /// All of them; what is named by others comes first.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, &'static str, &'static str) {
        // Every kind has a row; the test below holds it to that.
        KINDS.iter().find(|row| row.0 == self).unwrap_or(&KINDS[0])
    }

    /// As in `provider/x`.
    pub fn word(self) -> &'static str {
        self.row().1
    }

    /// As in `get providers`.
    pub fn plural(self) -> &'static str {
        self.row().2
    }

    /// As in a manifest's `kind`.
    pub fn manifest_kind(self) -> &'static str {
        self.row().3
    }

    /// The kind of a manifest, if it is one of these.
    pub fn of_manifest(kind: &str) -> Option<Self> {
        KINDS.iter().find(|row| row.3 == kind).map(|row| row.0)
    }

    /// Whether its names are namespaces.
    pub const fn is_namespaced(self) -> bool {
        matches!(self, Self::Budget)
    }
}

impl fmt::Display for DefinitionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no kind of definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of definition; there are: provider, agent, modelroute, budget")]
pub struct UnknownDefinitionKind(pub String);

impl FromStr for DefinitionKind {
    type Err = UnknownDefinitionKind;

    /// Singular, plural or as in a manifest, in any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = text.to_lowercase();
        let row = KINDS.iter().find(|row| row.1 == word || row.2 == word);
        row.map(|row| row.0).ok_or_else(|| UnknownDefinitionKind(text.to_owned()))
    }
}

/// Which definition: its kind and its name; of a budget, the namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DefinitionKey {
    /// Its kind.
    pub kind: DefinitionKind,
    /// Its name, or the namespace of a budget.
    pub name: String,
}

impl DefinitionKey {
    /// A key from its parts, unchecked.
    pub fn new(kind: DefinitionKind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl fmt::Display for DefinitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// A definition as it was given, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Definition {
    /// A provider account.
    Provider(ProviderManifest),
    /// A model route.
    ModelRoute(ModelRouteManifest),
    /// An agent.
    Agent(AgentManifest),
    /// What a namespace may spend.
    Budget(BudgetManifest),
}

impl Definition {
    /// Which one it is.
    pub fn key(&self) -> DefinitionKey {
        let (kind, name) = match self {
            Self::Provider(one) => (DefinitionKind::Provider, &one.metadata.name),
            Self::ModelRoute(one) => (DefinitionKind::ModelRoute, &one.metadata.name),
            Self::Agent(one) => (DefinitionKind::Agent, &one.metadata.name),
            Self::Budget(one) => (DefinitionKind::Budget, &one.metadata.namespace),
        };
        DefinitionKey::new(kind, name.clone())
    }
}

impl<'de> Deserialize<'de> for Definition {
    /// By the document's `kind`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        let kind = json["kind"].as_str().and_then(DefinitionKind::of_manifest);
        let read = match kind {
            Some(DefinitionKind::Provider) => serde_json::from_value(json).map(Self::Provider),
            Some(DefinitionKind::ModelRoute) => serde_json::from_value(json).map(Self::ModelRoute),
            Some(DefinitionKind::Agent) => serde_json::from_value(json).map(Self::Agent),
            Some(DefinitionKind::Budget) => serde_json::from_value(json).map(Self::Budget),
            None => return Err(D::Error::custom("no kind of definition that this version knows")),
        };
        read.map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_words() {
        for kind in DefinitionKind::all() {
            assert_eq!(kind.row().0, kind);
            for word in [kind.word(), kind.plural(), kind.manifest_kind()] {
                assert_eq!(word.parse(), Ok(kind), "{word}");
            }
            assert_eq!(DefinitionKind::of_manifest(kind.manifest_kind()), Some(kind));
        }
        assert_eq!(DefinitionKind::all().count(), 4);
        assert!("loop".parse::<DefinitionKind>().is_err());
    }
}
