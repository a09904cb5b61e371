//! A model route: which model of which provider serves a call.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Span;

/// The kind of a route's manifest. Routes belong to the whole cluster.
pub const KIND_MODEL_ROUTE: &str = "ModelRoute";

/// A manifest of kind `ModelRoute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelRouteManifest {
    /// Always `flyball.dev/v1`.
    pub api_version: String,
    /// Always `ModelRoute`.
    pub kind: String,
    /// Its name.
    pub metadata: ModelRouteMetadata,
    /// Which calls it takes, and who serves them.
    pub spec: ModelRouteSpec,
}

/// Name of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelRouteMetadata {
    /// 1 to 63 characters of a-z, 0-9 and '-'.
    pub name: String,
}

/// Which calls a route takes, and who serves them. Of the routes that match a call the one with the highest
/// priority takes it; of equal ones the first by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelRouteSpec {
    /// Higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// A call is taken when one of these matches; without any, every call is.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// From the cheapest to the strongest. 1 to 8.
    pub tiers: Vec<Tier>,
    /// What is done when a deployment fails.
    #[serde(default)]
    pub on_error: OnError,
    /// Output limit of calls whose client sets none, in tokens; it bounds what is reserved for them.
    #[serde(default = "default_output")]
    pub max_output_tokens: u64,
}

fn default_output() -> u64 {
    8192
}

/// Conditions on a call; all that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Match {
    /// The requested model is one of these; `*` stands for any part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// The call is of one of these classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subtasks: Vec<SubtaskClass>,
    /// The loop is in one of these namespaces; `*` stands for any part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// The loop has all of these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The loop's distance is at least this, as it is displayed: 1 for one failing check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance_at_least: Option<u32>,
    /// The loop is stalled at least this far: iterations in a row without improvement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_at_least: Option<u32>,
}

/// The class of a call: from the header `x-flyball-subtask`, or the requested model's alias (`small`, `large` and
/// names with haiku, mini, nano or flash in them), or the request's features.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum SubtaskClass {
    /// Titles, summaries, classification: no tools, small model asked for.
    Small,
    /// The agent's own work.
    Large,
    /// Reviewing what was done.
    Review,
    /// Planning.
    Plan,
}

impl SubtaskClass {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Small, Self::Large, Self::Review, Self::Plan];

    /// As in manifests and in the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
            Self::Review => "review",
            Self::Plan => "plan",
        }
    }

    /// The class of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }
}

impl fmt::Display for SubtaskClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Deployments of about the same strength.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tier {
    /// Its name, unique in the route.
    pub name: String,
    /// From which stall on it is used. The first tier must say 0 (or nothing); each next one more than the one
    /// before.
    #[serde(default)]
    pub from: Stall,
    /// Who serves it: at least one, at most 16.
    pub deployments: Vec<Deployment>,
}

/// A level of stall: iterations in a row without improvement. After an improvement it is 0 again.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", default)]
pub struct Stall {
    /// Iterations in a row without improvement.
    pub stall: u32,
}

/// A model of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Name of the provider.
    pub provider: String,
    /// The model's name there; the requested name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Share of the sessions that begin here. 0: only when others fail.
    #[serde(default = "default_weight")]
    pub weight: u32,
}

fn default_weight() -> u32 {
    1
}

/// What is done when a deployment fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OnError {
    /// Most tries of one call in all, each at another deployment or after a pause; refusals for a rate (429) do not
    /// count. 1 to 10.
    pub tries: u32,
    /// Longest pause before a try that a provider may ask for with `retry-after`; for more the next deployment is
    /// asked, or the client is told. For a rate (429) it is the worker's `--quota-wait`.
    pub pause_max: Span,
    /// Failures in a row after which a deployment is left alone.
    pub failures: u32,
    /// For how long; a `retry-after` of the provider that is longer wins.
    pub cool_down: Span,
    /// No byte of the answer within this: the try has failed.
    pub first_byte: Span,
    /// Whether the other tiers' deployments are asked when those of the tier fail.
    pub other_tiers: bool,
}

impl Default for OnError {
    fn default() -> Self {
        Self {
            tries: 3,
            pause_max: Span::from_secs(10),
            failures: 3,
            cool_down: Span::from_secs(30),
            first_byte: Span::from_secs(300),
            other_tiers: true,
        }
    }
}
