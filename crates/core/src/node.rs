//! Worker nodes: what they offer and whether they take work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, NodeName};
use crate::isolation::{MissingLayers, Offers};
use crate::quantity::{ByteSize, CpuMillis};

/// Countable resources: what a node has or a loop needs. No free counters are stored anywhere; free
/// is capacity minus the live claims.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// Processors, e.g. `500m`.
    pub cpu: CpuMillis,
    /// Main memory, e.g. `512Mi`.
    pub memory: ByteSize,
    /// Disk for workspaces, e.g. `1Gi`.
    pub disk: ByteSize,
    /// Most processes and threads at a time, e.g. `256`; 1024 if nothing is said. Not counted by placement.
    #[serde(skip_serializing_if = "is_zero")]
    pub processes: u64,
    /// Most open files of each process; 8192 if nothing is said. Not counted by placement.
    #[serde(skip_serializing_if = "is_zero")]
    pub open_files: u64,
    /// Anything else that is counted, e.g. `gpu: 1` or `licence-x: 2`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a worker says of itself when it registers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeFacts {
    /// Labels that placement can require.
    pub labels: BTreeMap<String, String>,
    /// What the node offers to runs in all.
    pub capacity: Resources,
    /// Most runs at a time; bounds processes and disk even for loops that need nothing.
    pub slots: u32,
    /// Version of the worker.
    pub version: String,
    /// What its host lets it do; absent from workers that do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abilities: Option<Box<Abilities>>,
}

/// What a worker's host lets it do to contain runs and to keep deadlines, found by trying.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Abilities {
    /// How the processes of a step are held together, strongest first: `pid-namespace`,
    /// `user-pid-namespace`, `subreaper`; with `+cgroup-kill` where they are in a cgroup besides.
    pub containment: String,
    /// Why a stronger containment was not taken.
    pub weaker_because: Vec<String>,
    /// The guard's memory cannot be paged out.
    pub memory_locked: bool,
    /// The guard is scheduled before ordinary processes.
    pub priority_raised: bool,
    /// The guard is among the last that the kernel kills when memory ends.
    pub oom_protected: bool,
    /// Version of the kernel's Landlock interface; 0 without it.
    pub landlock_abi: u32,
    /// The kernel has system call filters.
    pub seccomp: bool,
    /// User namespaces may be made.
    pub user_namespaces: bool,
    /// Layers of confinement that its runs go without, and why; its operator has accepted that.
    #[serde(skip_serializing_if = "MissingLayers::is_empty")]
    pub missing_layers: MissingLayers,
    /// What holds each bound of a step, see [`crate::bounds`]. Empty of earlier versions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bounds: BTreeMap<String, String>,
    /// Whether the worker confines its runs; false of earlier versions.
    pub confines: bool,
    /// What loops may name in `spec.sandbox` here.
    #[serde(skip_serializing_if = "Offers::is_empty")]
    pub offers: Offers,
    /// A cgroup v2 tree is mounted.
    pub cgroup2: bool,
    /// Version of the kernel.
    pub kernel: String,
    /// Version of git.
    pub git: String,
    /// Share of a lease kept back for clocks that run at different speeds, in millionths.
    pub drift_ppm: u32,
    /// Milliseconds kept back to kill everything before a lease can end.
    pub kill_budget_ms: u64,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// Whether a node takes new runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeMark {
    /// Takes runs.
    #[default]
    Schedulable,
    /// Takes no new runs; those it has go on.
    Cordoned,
    /// Takes no new runs; those it has stop at their next iteration's edge and go elsewhere.
    Draining,
}

/// The durable record of a node, kept while it is away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRecord {
    /// Name, stable over restarts.
    pub name: NodeName,
    /// What it said when it last registered.
    pub facts: NodeFacts,
    /// Whether it takes runs.
    pub mark: NodeMark,
    /// Why it was marked, in the operator's words.
    pub mark_reason: String,
    /// Who marked it.
    pub mark_by: String,
    /// When it was marked.
    pub mark_at: Option<jiff::Timestamp>,
    /// While it is draining: when runs that have not reached their iteration's edge are stopped. No
    /// matter of safety: whatever the clock says, they are stopped with proof before others start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark_deadline: Option<jiff::Timestamp>,
    /// The incarnation that registered last.
    pub incarnation: Incarnation,
    /// When it last registered or was last seen to leave; for display only.
    pub seen_at: Option<jiff::Timestamp>,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}
