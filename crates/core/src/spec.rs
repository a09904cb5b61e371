//! The desired state: what a user declares in a manifest of kind `Loop`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::LoopBudget;
use crate::node::Resources;
use crate::quantity::Span;

/// The only `apiVersion` there is.
pub const API_VERSION: &str = "flyball.dev/v1";
/// The kind of a loop's manifest.
pub const KIND_LOOP: &str = "Loop";
/// Namespace of a manifest that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// A manifest of kind `Loop`, as users write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always `flyball.dev/v1`.
    pub api_version: String,
    /// Always `Loop`.
    pub kind: String,
    /// Who the loop is.
    pub metadata: Metadata,
    /// What is wanted and what may be touched.
    pub spec: LoopSpec,
}

/// Name, namespace and labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// 1 to 63 characters of a-z, 0-9 and '-'.
    pub name: String,
    /// Namespace of the name.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Free labels for selection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

fn default_namespace() -> String {
    DEFAULT_NAMESPACE.to_owned()
}

/// The declared goal, its exit conditions and its bounds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoopSpec {
    /// What is to be reached, in words for the agent.
    pub goal: String,
    /// The repository the loop works in. Without it the loop works in an empty scratch directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Workspace>,
    /// What the loop may touch: at most 48 entries. A bare path means the workspace repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owns: Vec<Owns>,
    /// What a run needs of its node.
    #[serde(default)]
    pub needs: Resources,
    /// Where it may run.
    #[serde(default)]
    pub placement: Placement,
    /// How agent and checks are confined, and what they see besides the workspace.
    #[serde(default, skip_serializing_if = "SandboxSpec::is_default")]
    pub sandbox: SandboxSpec,
    /// The exit condition: done when every check passes. At least one.
    pub checks: Vec<CheckSpec>,
    /// Paths that the agent may not change; restored from the loop's base before verification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
    /// The program that makes one change per iteration. Without it the loop only observes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentSpec>,
    /// Secrets of the loop's namespace, each handed to the steps that are named and shown nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretSpec>,
    /// Bounds and damping.
    #[serde(default)]
    pub governor: GovernorSpec,
    /// What its agent's model calls may use, in all and per run and iteration.
    #[serde(default, skip_serializing_if = "LoopBudget::is_none")]
    pub budget: LoopBudget,
    /// Delete the loop this long after it finished; kept for ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<Span>,
}

/// A secret and who gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretSpec {
    /// Its name, as in `flyball secret set`.
    pub name: String,
    /// Who gets it: agent, or check/NAME.
    pub to: Vec<String>,
    /// The environment variable that holds it there, or the path of its file.
    pub env: String,
    /// Hand it over in a file that only the step can read, in memory and gone with it; the variable holds its path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub file: bool,
}

/// Where the work lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workspace {
    /// A git repository.
    pub git: GitWorkspace,
}

/// A git repository, the ref to start from and the branch to publish to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitWorkspace {
    /// URL or absolute path of the repository.
    pub url: String,
    /// Branch, tag or full ref to start from and to stay based on.
    #[serde(rename = "ref", default = "default_ref")]
    pub reference: String,
    /// Where the result goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish>,
}

fn default_ref() -> String {
    "main".to_owned()
}

/// Where the proven result is pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// Branch name; `flyball/<loop name>` if the manifest has no `publish`.
    pub branch: String,
}

/// One entry of `owns`: text for exclusive use, or an object to share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Owns {
    /// Exclusive: `src/**`, `git:example.org/repo/docs/*` or `gpu:node1/0`.
    Exclusive(String),
    /// With an access mode.
    WithAccess(OwnsWithAccess),
}

/// An entry with its access mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnsWithAccess {
    /// The resource, written as a plain entry is.
    pub resource: String,
    /// `exclusive`, or `read` to share it with other readers.
    pub access: Access,
}

/// How a resource is held.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Access {
    /// Nobody else may hold an overlapping resource.
    Exclusive,
    /// Others may hold it for reading too.
    Read,
}

/// Constraints on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Labels that the node must carry with these very values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub required_labels: BTreeMap<String, String>,
}

/// What agent and checks see besides the workspace, and how much isolation they must have. Without any of
/// it they see the system's programs and libraries, have no network, and write to the workspace only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SandboxSpec {
    /// Which nodes are isolated well enough.
    pub isolation: IsolationLevel,
    /// Absolute paths that can be read besides, below what the node offers (`--offer-path`). At most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_only: Vec<String>,
    /// Environment of agent and checks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Tool-chain caches by the names under which nodes offer them (`--cache`): shared for reading, and
    /// what a run changes stays its own. At most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<String>,
    /// Ways to the network by the names under which nodes offer them (`--egress`): proxies that the operator
    /// set up. None by default. At most 8.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<String>,
}

impl SandboxSpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How much isolation a loop asks of its node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum IsolationLevel {
    /// What the node's operator accepts.
    #[default]
    Node,
    /// Every layer, with no exception.
    Strict,
}

/// A command with a verdict and, where it can be had, a score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckSpec {
    /// Unique in the loop; the rules of names apply.
    pub name: String,
    /// A command line for `sh -c`, or a list of arguments run as they are.
    pub run: Command,
    /// Killed after this long, and then failing.
    #[serde(default = "default_check_timeout")]
    pub timeout: Span,
    /// How to read progress from the output; without it a check counts 0 or 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// Accept that a test case once seen is gone; otherwise it counts as failing.
    #[serde(default)]
    pub allow_removed: bool,
}

fn default_check_timeout() -> Span {
    Span::from_secs(300)
}

/// A command: a line for the shell or a list of arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Command {
    /// Run by `sh -c`.
    Shell(String),
    /// Run as it is; the first is the program.
    Argv(Vec<String>),
}

impl Command {
    /// The argument vector to execute.
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            Self::Argv(argv) => argv.clone(),
        }
    }
}

/// How a check's output becomes a score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Score {
    /// The output of Rust's test harness (`cargo test`): one result per test case.
    Libtest {},
    /// Counts or cases matched by regular expressions.
    Regex(RegexScore),
}

/// A score by regular expressions, applied to every line of the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegexScore {
    /// Matches a passed case; a named group `name` tells which.
    pub pass: String,
    /// Matches a failed case; a named group `name` tells which.
    pub fail: String,
}

/// The program that acts: a command of the loop's own, or an agent by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// A command line for `sh -c`, or a list of arguments run as they are. Either this or `use`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// Name of an agent: a shipped one (builtin, claude-code, codex, mini-swe-agent) or one of kind Agent. Either
    /// this or `command`.
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub uses: Option<String>,
    /// Further arguments, after those of the agent or of a command that is a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The model it asks for; routes decide which one it gets. The agent's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Extra environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Killed after this long; what it changed until then is judged like any change. The agent's own if absent, 30m
    /// for a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

impl AgentSpec {
    /// How long a command may run that says nothing of it.
    pub const TIMEOUT_DEFAULT: Span = Span::from_secs(1800);

    /// The argument vector of a command, further arguments behind it; empty for an agent by its name.
    pub fn argv(&self) -> Vec<String> {
        let mut argv = self.command.as_ref().map(Command::argv).unwrap_or_default();
        argv.extend(self.args.iter().cloned());
        argv
    }

    /// What stands in records: the name of the agent, or the command's line or last argument.
    pub fn name(&self) -> Option<String> {
        let last = || self.command.as_ref()?.argv().pop();
        self.uses.clone().or_else(last)
    }

    /// With the time written out that a command is given when it says nothing: so it stands in every record.
    pub(crate) fn fill(&mut self) {
        if self.command.is_some() {
            self.timeout.get_or_insert(Self::TIMEOUT_DEFAULT);
        }
    }
}

/// Bounds and damping of the loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GovernorSpec {
    /// Most iterations in all runs; then `Exhausted`. 1 to 10000.
    pub iterations: u32,
    /// Most time in runs in all, without that in which model calls waited for a provider's quota; then `Exhausted`.
    pub wall_time: Span,
    /// Iterations in a row without improvement until `Unreachable`. 1 to 1000.
    pub patience: u32,
    /// What is kept.
    pub accept: Accept,
    /// Most files that one iteration may change.
    pub max_files: u32,
    /// Most lines that one iteration may add and remove together.
    pub max_lines: u32,
    /// Pause after an iteration that was not kept, doubling with each in a row.
    pub backoff: Backoff,
}

impl Default for GovernorSpec {
    fn default() -> Self {
        Self {
            iterations: 20,
            wall_time: Span::from_secs(3600),
            patience: 4,
            accept: Accept::Improvements,
            max_files: 50,
            max_lines: 2000,
            backoff: Backoff::default(),
        }
    }
}

/// Which iterations are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Accept {
    /// Only those that shrink the distance below the best so far.
    #[default]
    Improvements,
    /// Also those that leave it equal with another tree.
    Equal,
}

/// Damping pauses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Backoff {
    /// After the first iteration that was not kept.
    pub initial: Span,
    /// Never longer than this.
    pub max: Span,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Span(std::time::Duration::from_millis(200)), max: Span::from_secs(60) }
    }
}
