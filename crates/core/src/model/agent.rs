//! An agent: a versioned definition of how a program is let act, as data.

mod account;
mod fill;
mod presets;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::provider::Protocol;
use crate::quantity::Span;

pub use self::account::{AgentAccount, AgentCut, AgentEnding, LastWord};
pub use self::fill::{
    AgentValues, Filled, MODEL_LARGE, MODEL_SMALL, PLACEHOLDERS, PROMPT_ARGUMENT_BYTES_MAX, fill,
    placeholder_faults,
};
pub use self::presets::{is_cleared, preset};

/// The kind of an agent's manifest. Agents belong to the whole cluster.
pub const KIND_AGENT: &str = "Agent";

/// Names that are agents without any manifest.
pub const BUILTIN_PRESETS: [&str; 4] = ["builtin", "claude-code", "codex", "mini-swe-agent"];

/// What the output of an agent may be; anything else has no parser.
pub const OUTPUTS: [&str; 5] = ["lines", "builtin", "claude-code", "codex", "mini-swe-agent"];

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
/// (`http://127.0.0.1:PORT`), `{key}` (the run's key for it; not in `command`), `{protocol}`, `{model}`, `{small}` (the alias
/// for small things), `{prompt}`, `{promptFile}`, `{session}` (a UUID), `{home}` (its own, empty at each attempt),
/// `{report}`, `{flyball}` (this program), `{traceparent}`, and `{attribution}` (0 where models of another vendor
/// serve it, else nothing). A variable that comes out empty is not set; `${…}` is left to the shell.
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
    /// Arguments with which the program says its version, once for each run; absent: it is not asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probe: Vec<String>,
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

impl AgentDefinition {
    /// A program of which nothing is known but how it is started.
    pub fn plain(command: Vec<String>) -> Self {
        Self {
            version: String::new(),
            command,
            prompt: PromptBy::Files,
            protocol: None,
            model: None,
            env: BTreeMap::new(),
            files: BTreeMap::new(),
            output: default_output(),
            probe: Vec::new(),
            grace: default_grace(),
            stall: None,
            timeout: default_timeout(),
        }
    }
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
