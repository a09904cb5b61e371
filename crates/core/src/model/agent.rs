//! An agent: a versioned definition of how a program is let act, as data.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::provider::Protocol;
use crate::quantity::Span;

/// The kind of an agent's manifest. Agents belong to the whole cluster.
pub const KIND_AGENT: &str = "Agent";

/// Names that are agents without any manifest.
pub const BUILTIN_PRESETS: [&str; 4] = ["builtin", "claude-code", "codex", "mini-swe-agent"];

/// A manifest of kind `Agent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentManifest {
    /// Always `flyball.dev/v1`.
    pub api_version: String,
    /// Always `Agent`.
    pub kind: String,
    /// Its name.
    pub metadata: AgentMetadata,
    /// How it is run.
    pub spec: AgentDefinition,
}

/// Name of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentMetadata {
    /// 1 to 63 characters of a-z, 0-9 and '-'.
    pub name: String,
}

/// How a program is let act once. In `command`, `env` and `files` these stand for values of the run: `{gateway}`
/// (`http://127.0.0.1:PORT`), `{key}` (the run's key for it), `{model}`, `{prompt}`, `{promptFile}`, `{session}`
/// (a UUID), `{home}`, `{report}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentDefinition {
    /// Version of this definition; it stands in every iteration's record.
    pub version: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// How it is told what to do.
    #[serde(default)]
    pub prompt: PromptBy,
    /// What it speaks to the gateway; absent if it calls no model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The model it asks for when the loop names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Files in its home, by relative path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// What its output is: `lines` (of any kind), `claude-code`, `codex`, `mini-swe-agent` or `builtin`.
    #[serde(default = "default_output")]
    pub output: String,
    /// Killed this long after its last event, if it is still there.
    #[serde(default = "default_grace")]
    pub grace: Span,
    /// Killed when it says nothing for this long while no tool of it runs; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall: Option<Span>,
    /// Killed after this long.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

fn default_output() -> String {
    "lines".to_owned()
}

fn default_grace() -> Span {
    Span::from_secs(30)
}

fn default_timeout() -> Span {
    Span::from_secs(1800)
}

/// How an agent is told what to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PromptBy {
    /// Through files named in its environment (`FLYBALL_BRIEF` and others), or `{prompt}` in its arguments.
    #[default]
    Files,
    /// On its standard input, which is then closed.
    Stdin,
}
