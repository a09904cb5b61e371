//! What worker, guard and step inits say to each other: one JSON document per packet of a Unix
//! seqpacket socket. All three are the same program, so there is one version; a frame that does not
//! parse ends the conversation, and with it everything that runs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use flyball_core::bounds::Controllers;
use flyball_core::isolation::Layer;
use flyball_core::score::ExitKind;
use serde::{Deserialize, Serialize};

use crate::abilities::{Abilities, Isolation};
use crate::confine::{Confinement, LayerProbe};

/// Raised with every change of the frames; guards of another build are refused.
pub(crate) const PROTOCOL: u32 = 5;

/// Most bytes of a frame. Below the default send buffer of a socket (208 KiB), which a packet must
/// fit into; far above what a command with its environment needs (a brief goes by file).
pub(crate) const FRAME_BYTES_MAX: usize = 192 * 1024;

/// From the worker to the guard; `Spawn` and `Kill` also from the guard to a step init.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    /// First frame. Carries two descriptors: the state lock and the shared page.
    Hello(Hello),
    /// Run a command. Carries the output file, the input file if it says so, from the guard the directory of its
    /// control group and the group's memory events if it says so, and where listeners are to be sent if there are
    /// any.
    Spawn(SpawnOrder),
    /// Only to a step init: find out which layers of confinement work.
    Probe {
        /// The layers to try.
        layers: BTreeSet<Layer>,
        /// A directory that steps will be given.
        dir: PathBuf,
    },
    /// Kill one step.
    Kill {
        /// Which.
        id: u64,
    },
    /// Kill all steps and say when none is left.
    KillAll,
    /// Kill all, say so, and exit: the lease is lost.
    End,
    /// What to become when the worker is gone and nothing is left. Carries one descriptor: the note.
    Reporter {
        /// Arguments of this same program.
        arguments: Vec<String>,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    pub(crate) kill_budget_ms: u64,
    pub(crate) isolation: Isolation,
    pub(crate) state_dir: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SpawnOrder {
    pub(crate) id: u64,
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    /// Whether an input file comes along; without it there is nothing on the command's standard input.
    #[serde(default)]
    pub(crate) stdin: bool,
    pub(crate) output_bytes_max: u64,
    /// The bounds that the command's control group holds; none: it has no group. Said by the guard.
    #[serde(default)]
    pub(crate) group: Option<Controllers>,
    /// Names and values to take out of the output.
    #[serde(default)]
    pub(crate) secrets: Vec<(String, String)>,
    pub(crate) timeout_ms: u64,
    /// `None`: not confined, but only contained.
    pub(crate) confinement: Option<Box<Confinement>>,
}

/// From the guard to the worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum News {
    /// The guard can take steps.
    Ready {
        /// What it has.
        abilities: Abilities,
    },
    /// The guard cannot work and exits.
    Unable {
        /// Why.
        reason: String,
    },
    /// A step is over, with all its processes.
    Ended {
        /// Which.
        id: u64,
        /// How.
        report: Report,
    },
    /// Nothing runs; the answer to `KillAll`.
    AllDead,
    /// Nothing runs and nothing will: the last word before the guard exits.
    Over {
        /// Why.
        reason: String,
    },
}

/// From a step init to the guard.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum InitNews {
    /// It is set up and waits for its step.
    Up,
    /// The answer to a probe.
    Probed(LayerProbe),
    /// It could not be set up and exits.
    Unable {
        /// Why.
        reason: String,
    },
    /// The step is over and no descendant is left.
    Ended {
        /// How.
        report: Report,
        /// It is as it was before the step, and takes another.
        again: bool,
    },
}

/// How a step ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) exit: ExitKind,
    pub(crate) detail: String,
    pub(crate) leftovers_killed: u32,
    pub(crate) output_bytes: u64,
    pub(crate) output_truncated: bool,
    pub(crate) wall_us: u64,
}

impl Report {
    /// The report of a step that never ran or whose end nobody saw.
    pub(crate) fn bare(exit: ExitKind, detail: impl Into<String>) -> Self {
        Self {
            exit,
            detail: detail.into(),
            leftovers_killed: 0,
            output_bytes: 0,
            output_truncated: false,
            wall_us: 0,
        }
    }
}
