//! Confining a step: what it may see, touch and take, and the layers that enforce it.
//!
//! A step's process is forked into namespaces of its own, builds its file tree from copies of mounts
//! that were opened beforehand, becomes a user that nobody else is, and gives up what is left by
//! Landlock and a system call filter, in this order; then it executes the command. Whatever fails
//! on the way ends it: a step is confined as its guard found possible at the start, or not at all.

mod enter;
mod filter;
mod landlock;
mod limits;
mod memory;
mod probe;
mod secrets;
mod system_calls;
mod tree;
mod users;
mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;

use flyball_core::isolation::{Layer, MissingLayers};
use serde::{Deserialize, Serialize};

pub(crate) use enter::{Here, enter, namespaces};
pub(crate) use filter::Filters;
pub(crate) use probe::{LayerProbe, find};
pub use secrets::SECRETS_DIR;
pub(crate) use users::{OuterUsers, UserMaps};
pub(crate) use watch::Watch;

/// Whose step it is: the two never share a user, a home or a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// The agent.
    #[default]
    Agent,
    /// A check of what the agent did.
    Check,
}

/// What a step may see, touch and take. The system's programs and libraries are always there to be
/// read, and `/tmp`, `/dev` and `/proc` are its own. All paths are absolute, and inside they are
/// what they are outside.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Confinement {
    /// Whose step it is.
    pub who: Who,
    /// What else it can read: files or directories. What is not there is passed over.
    pub show: Vec<PathBuf>,
    /// Directories that it can write to.
    pub write: Vec<Writable>,
    /// Directories inside those that it can read only.
    pub protect: Vec<PathBuf>,
    /// Directories that it sees and may change without changing them.
    pub overlays: Vec<Overlay>,
    /// Unix sockets that it can connect to: its only ways out.
    pub sockets: Vec<PathBuf>,
    /// Names of secrets that it finds as files in [`SECRETS_DIR`], for itself alone and for as long as it lives; their
    /// values are handed over beside this. Needs a file tree of its own.
    #[serde(default)]
    pub secret_files: Vec<String>,
    /// TCP ports of its own 127.0.0.1 whose listeners are handed to the worker, which answers there.
    pub listen: Vec<u16>,
    /// What it may take.
    pub limits: Limits,
}

/// A directory that a step can write to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Writable {
    /// The directory.
    pub path: PathBuf,
    /// If set, only these directories in it; the rest can be read.
    pub only: Option<Vec<PathBuf>>,
}

impl Writable {
    /// All of a directory.
    pub fn all(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), only: None }
    }
}

/// A directory shown with a private layer of changes over it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Overlay {
    /// The directory that is shown.
    pub from: PathBuf,
    /// Where.
    pub at: PathBuf,
    /// Directory of the run's own with the empty or earlier filled directories `upper` and `work`.
    pub changes: PathBuf,
}

/// What a step may take; `None` leaves the host's own bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of main memory of all its processes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at a time.
    pub processes: Option<u64>,
    /// Open files of each process.
    pub files: Option<u64>,
    /// Processors, in thousandths.
    pub cpu_millis: Option<u64>,
    /// Bytes in the directories that it can write to.
    pub disk_bytes: Option<u64>,
    /// Bytes of `/tmp` and `/dev/shm`, each; they count as memory.
    pub temp_bytes: Option<u64>,
    /// Bytes of output that are read in a second; a step that writes more waits.
    #[serde(default)]
    pub output_bytes_per_second: Option<u64>,
}

/// What this guard enforces, found at its start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Enforcement {
    /// The layers that work.
    pub(crate) layers: BTreeSet<Layer>,
    /// The others, with the reason.
    pub(crate) missing: MissingLayers,
    /// System call filters; empty if that layer is missing.
    pub(crate) filters: Filters,
    /// The users that steps become, if this is root.
    pub(crate) users: Option<OuterUsers>,
}

impl Enforcement {
    /// Whether a layer is to be used now.
    pub(crate) fn has(&self, layer: Layer) -> bool {
        self.layers.contains(&layer) && !flyball_core::isolation::is_off(layer)
    }
}
