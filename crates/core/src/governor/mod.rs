//! The governor: the pure decision function of a loop. It is told what was measured and answers what
//! to do next; it never looks at a clock, a file or a random number.
//!
//! How a run drives it:
//!
//! ```text
//! let mut governor = Governor::restore(&spec.governor, &progress.governor);
//! let mut next = governor.observe(&Observation { .. });          // the checkpoint, measured
//! loop {
//!     next = match next {
//!         Next::Stop(outcome) => end the run with it,
//!         Next::Verify => governor.prove(&Proof { .. }, jitter),  // in a fresh clone, pinned checks
//!         Next::Act { pause, advice } => {
//!             wait; fetch; if the base moved: rebase, measure, observe again
//!             write the brief with advice and governor.tried(); run the agent; snapshot
//!             check what it touched; measure, unless something is out of bounds or nothing changed
//!             let judgement = governor.judge(&Trial { .. }, jitter);
//!             keep, or revert to the checkpoint; record; save governor.memory() with the progress
//!             judgement.next
//!         }
//!     }
//! }
//! ```
//!
//! What it guarantees:
//! - **Ratchet.** Only a smaller distance than the best so far is kept (or an equal one of a tree never
//!   seen, with [`Accept::Equal`](crate::spec::Accept::Equal)). The best distance never grows, unless
//!   the base moves or a proof in a fresh clone shows that it was not real.
//! - **It ends.** At `iterations` or `wall_time` at the latest; after `patience` iterations in a row
//!   without improvement as `Unreachable`.
//! - **Success on the last allowed iteration is success**: distance zero is looked at before any bound.
//! - **Circles are seen.** A change that fixes something and breaks something else without gaining is a
//!   *trade*; the same trade again, or a return to an earlier checkpoint, is flapping: damped by
//!   longer pauses and told to the agent, ended after [`flaps_max`] of them. A change that merely
//!   fails the same way again is no flapping but lack of progress, and left to patience.
//! - **What the agent says is a hint.** "Done" is never believed; "unreachable" only when said twice in
//!   a row without improvement; "needs a human" parks the loop.
//! - **The memory is bounded** to [`MEMORY_BYTES_MAX`] and survives takeover as JSON in the progress.

mod changes;
mod judge;
mod memory;
#[cfg(test)]
mod tests;
mod verdict;
mod words;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quantity::Distance;
use crate::record::{CheckResult, Decision, DiffStat};
use crate::score::ExitKind;
use crate::spec::GovernorSpec;
use crate::status::Outcome;

pub use changes::{Changes, changes};
pub use memory::{MEMORY_BYTES_MAX, TRIED_LINES_MAX};
pub use verdict::{PROOFS_MAX, REPOSITORY_TRIES_MAX, TAKEN_BACK_MAX, flaps_max};
pub use words::{ADVICE_LINES_MAX, LINE_BYTES_MAX, failing_lines};

use memory::Memory;

/// The checkpoint (or the base, at first) as measured now.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    /// Its tree. Empty for loops without a repository: trees are then never compared.
    pub tree: &'a str,
    /// Its distance.
    pub distance: Distance,
    /// What each check found.
    pub checks: &'a [CheckResult],
    /// Whether the loop has an agent. Without one a loop only observes.
    pub has_agent: bool,
    /// Iterations finished so far, over all runs.
    pub iterations: u32,
    /// Time spent in runs so far, over all runs, milliseconds.
    pub run_ms: u64,
}

/// One iteration: what the agent made of the checkpoint, as measured.
#[derive(Debug, Clone)]
pub struct Trial<'a> {
    /// Tree snapshotted after the agent ended.
    pub tree: &'a str,
    /// Tree that it started from.
    pub base_tree: &'a str,
    /// Distance of `base_tree`.
    pub distance_before: Distance,
    /// Distance of `tree`; not looked at when something is out of bounds.
    pub distance_after: Distance,
    /// What each check found in `tree`; may be empty when something is out of bounds or unchanged.
    pub checks: &'a [CheckResult],
    /// Size of the change.
    pub diff: DiffStat,
    /// What is out of bounds, one line each: paths not owned, pins. Step limits are added by the
    /// governor, see [`Governor::step_violations`].
    pub violations: &'a [String],
    /// How the agent ended.
    pub agent: &'a ExitKind,
    /// What the agent says of itself.
    pub hint: &'a Hint,
    /// Iterations finished with this one, over all runs.
    pub iterations: u32,
    /// Time spent in runs with this iteration, milliseconds.
    pub run_ms: u64,
}

/// A checkpoint at distance zero, measured once more in a fresh clone with pinned checks.
#[derive(Debug, Clone)]
pub struct Proof<'a> {
    /// Its tree.
    pub tree: &'a str,
    /// Distance in the fresh clone.
    pub distance: Distance,
    /// What each check found there.
    pub checks: &'a [CheckResult],
    /// Iterations finished so far.
    pub iterations: u32,
    /// Time spent in runs so far, milliseconds.
    pub run_ms: u64,
}

/// What an agent says of itself in its report. Never a verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hint {
    /// Nothing.
    #[default]
    None,
    /// It believes that the goal is reached.
    Done,
    /// It believes that the goal cannot be reached, and why.
    Unreachable(String),
    /// It wants a human to look, and why.
    NeedsHuman(String),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Distance zero: prove the checkpoint in a fresh clone, then [`Governor::prove`].
    Verify,
    /// Wait, then let the agent act.
    Act {
        /// How long to wait first; zero from [`Governor::observe`].
        pause: Duration,
        /// For the agent's brief, most important first; at most [`ADVICE_LINES_MAX`] lines.
        advice: Vec<String>,
    },
    /// The run is over.
    Stop(Outcome),
}

/// What became of an iteration, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Kept, reverted, refused or unchanged.
    pub decision: Decision,
    /// Why, in one line with numbers.
    pub reason: String,
    /// True when the best distance shrank.
    pub improved: bool,
    /// What to do next.
    pub next: Next,
}

/// Decides for one loop. Restored from the loop's progress at the start of each run.
#[derive(Debug, Clone)]
pub struct Governor {
    spec: GovernorSpec,
    memory: Memory,
    /// The checks of the checkpoint, to tell what a trial fixed and broke. Not part of the memory,
    /// as every run begins with an observation.
    observed: Vec<CheckResult>,
    has_agent: bool,
}

impl Governor {
    /// A governor with what it knew when it was last saved. A memory that cannot be read (null, or of
    /// another version) counts as none: the bounds still hold, as their counters are not in it.
    pub fn restore(spec: &GovernorSpec, memory: &serde_json::Value) -> Self {
        Self {
            spec: spec.clone(),
            memory: Memory::from_json(memory),
            observed: Vec::new(),
            has_agent: true,
        }
    }

    /// What must survive a takeover; at most [`MEMORY_BYTES_MAX`] bytes as text.
    pub fn memory(&self) -> serde_json::Value {
        self.memory.to_json()
    }

    /// What was tried and what became of it, oldest first: for the brief and as evidence. At most
    /// [`TRIED_LINES_MAX`] lines.
    pub fn tried(&self) -> Vec<String> {
        self.memory.tried_lines()
    }

    /// The best distance so far: that of the checkpoint.
    pub fn best_distance(&self) -> Option<Distance> {
        self.memory.best.as_ref().map(|best| best.distance)
    }

    /// Iterations in a row without improvement, of `patience`.
    pub fn stalled(&self) -> u32 {
        self.memory.stalled
    }

    /// The step limits that a change breaks, one line each, so that it need not be measured.
    pub fn step_violations(&self, diff: &DiffStat) -> Vec<String> {
        let limits = [
            ("files", diff.files, self.spec.max_files),
            ("lines", diff.lines, self.spec.max_lines),
        ];
        let over = limits.into_iter().filter(|(_, found, limit)| found > limit);
        over.map(|(what, found, limit)| format!("{found} {what} changed, at most {limit} allowed"))
            .collect()
    }
}
