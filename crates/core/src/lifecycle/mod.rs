//! The life cycle of a loop: which event moves it from which phase to which, in one table, and what
//! each move writes to the status.
//!
//! [`targets`] is the table. [`transition`] looks a concrete event up in it, [`apply`] also makes
//! the new status. Events that arrive twice do no harm: a repeated one is a legal move to where the
//! loop already is, or an [`IllegalTransition`], never a second count.
//!
//! Four rules shape the table:
//! - A fault of ours or of a node is never a loop's `Failed`. A lost run sends the loop back to
//!   `Pending`; after [`RUNS_LOST_MAX`] of them without an accepted iteration it is parked, as the
//!   work itself may be what kills its nodes.
//! - A run that its node cannot start is none that was lost: the loop waits and is tried again, some
//!   times in a row ([`START_FAULTS_MAX`]), before it is parked.
//! - A loop that a node owns leaves its phase only by its worker's word or by the loss of its claim.
//!   `CancelRequested`, `Held` and `Respecified` leave it where it is and only say what is going on;
//!   the worker is told and ends the run, and then the event is applied again.
//! - A changed spec starts an unowned loop over: counters, checkpoint and governor memory were gained
//!   under another contract (a checkpoint may hold changes outside the new resource set). Unsealed
//!   runs stay on record, as they are facts about processes and not about the spec.

mod apply;
mod faults;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::ids::{AttemptId, Incarnation, LoopUid, NodeName, Token};
use crate::status::{LoopStatus, Outcome, Phase, Progress, Reason, Unsealed};

pub use apply::{EVIDENCE_LINES_MAX, MESSAGE_BYTES_MAX, UNSEALED_MAX, apply};

pub use faults::{START_FAULTS_MAX, is_start_fault, loop_pause, node_pause};

/// Runs lost without an accepted iteration until the loop is parked. Two can be bad luck (a node
/// dies, the next is drained the hard way); with the third on end the work itself is suspect, and
/// going on would take the rest of the fleet down node by node.
pub const RUNS_LOST_MAX: u32 = 3;

/// What happens to a loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoopEvent {
    /// The assignment was committed: the node owns the resource set.
    Assigned {
        /// The owner.
        node: NodeName,
        /// Its life.
        incarnation: Incarnation,
        /// Id of the assignment's transaction.
        attempt: AttemptId,
    },
    /// The owner has sealed the journals it had to seal and begins. Clears `unsealed`. Repeatable.
    Started,
    /// The owner reports progress. Implies that it began. Repeatable.
    Progressed(Progress),
    /// The run is over: its processes are gone and its result is in the repository.
    Ended {
        /// How. Its phase is terminal, `Parked` or `Pending`.
        outcome: Outcome,
        /// The last progress.
        progress: Progress,
        /// The run's seal duty, if the worker could not prove that its processes are gone.
        unproven: Option<Unsealed>,
    },
    /// The claim is gone and the worker never said how the run ended.
    RunLost {
        /// The run's seal duty; absent only if nothing of it can be running any more.
        unproven: Option<Unsealed>,
        /// One line for people: which node, since when.
        message: String,
    },
    /// Still waiting, and this is why.
    Blocked {
        /// A reason of `Pending`.
        reason: Reason,
        /// One line for people, with numbers.
        message: String,
    },
    /// The pause of a parked loop is over.
    ParkDue,
    /// What a parked loop waited for has come, or a user says go on.
    Resumed {
        /// One line for people: who or what.
        message: String,
    },
    /// A user or a named condition holds the loop.
    Held {
        /// One line for people: who and why.
        message: String,
    },
    /// The spec was changed.
    Respecified {
        /// The new generation.
        generation: u64,
    },
    /// A user cancels the loop.
    CancelRequested {
        /// In the user's words.
        reason: String,
    },
    /// Journals of runs that had been left unproven are sealed now, by this loop's new owner or by
    /// that of an overlapping loop.
    Sealed {
        /// The loop whose journal it is.
        loop_uid: LoopUid,
        /// The repository it is in, as the unsealed runs name it.
        repository: String,
        /// All runs in it up to this token are shut out.
        through: Token,
    },
}

/// An event without its content: the column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "one per variant of LoopEvent, described there")]
pub enum EventKind {
    Assigned,
    Started,
    Progressed,
    Ended,
    RunLost,
    Blocked,
    ParkDue,
    Resumed,
    Held,
    Respecified,
    CancelRequested,
    Sealed,
}

impl EventKind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 12] = [
        Self::Assigned,
        Self::Started,
        Self::Progressed,
        Self::Ended,
        Self::RunLost,
        Self::Blocked,
        Self::ParkDue,
        Self::Resumed,
        Self::Held,
        Self::Respecified,
        Self::CancelRequested,
        Self::Sealed,
    ];
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl LoopEvent {
    /// The event without its content.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Assigned { .. } => EventKind::Assigned,
            Self::Started => EventKind::Started,
            Self::Progressed(_) => EventKind::Progressed,
            Self::Ended { .. } => EventKind::Ended,
            Self::RunLost { .. } => EventKind::RunLost,
            Self::Blocked { .. } => EventKind::Blocked,
            Self::ParkDue => EventKind::ParkDue,
            Self::Resumed { .. } => EventKind::Resumed,
            Self::Held { .. } => EventKind::Held,
            Self::Respecified { .. } => EventKind::Respecified,
            Self::CancelRequested { .. } => EventKind::CancelRequested,
            Self::Sealed { .. } => EventKind::Sealed,
        }
    }
}

/// A move that the table does not have. Never worth a retry: whoever sent the event has an outdated
/// view of the loop and must read it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a loop in phase {phase} does not take the event {event}: {why}")]
pub struct IllegalTransition {
    /// Where the loop is.
    pub phase: Phase,
    /// What was to happen.
    pub event: EventKind,
    /// What speaks against it.
    pub why: String,
}

impl IllegalTransition {
    /// Always false: the same event again meets the same table.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Every phase, for tables and tests.
pub const PHASES: [Phase; 9] = [
    Phase::Pending,
    Phase::Assigned,
    Phase::Running,
    Phase::Parked,
    Phase::Converged,
    Phase::Unreachable,
    Phase::Exhausted,
    Phase::Failed,
    Phase::Cancelled,
];

/// Where a run may end.
const ENDINGS: &[Phase] = &[
    Phase::Pending,
    Phase::Parked,
    Phase::Converged,
    Phase::Unreachable,
    Phase::Exhausted,
    Phase::Failed,
    Phase::Cancelled,
];

/// The table: the phases an event of this kind may lead to. Empty means that it is illegal.
pub fn targets(phase: Phase, event: EventKind) -> &'static [Phase] {
    use EventKind as E;
    use Phase as P;
    match (phase, event) {
        (P::Pending, E::Assigned) => &[P::Assigned],
        (P::Pending, E::Blocked | E::Respecified) => &[P::Pending],
        (P::Pending, E::Held) => &[P::Parked],
        (P::Pending | P::Parked, E::CancelRequested) => &[P::Cancelled],

        (P::Assigned | P::Running, E::Started | E::Progressed) => &[P::Running],
        (P::Assigned | P::Running, E::Ended) => ENDINGS,
        (P::Assigned | P::Running, E::RunLost) => &[P::Pending, P::Parked],
        // The worker is told and ends the run; until then the loop is where it is.
        (P::Assigned, E::CancelRequested | E::Held | E::Respecified) => &[P::Assigned],
        (P::Running, E::CancelRequested | E::Held | E::Respecified) => &[P::Running],

        (P::Parked, E::ParkDue | E::Resumed | E::Respecified) => &[P::Pending],
        (P::Parked, E::Held) => &[P::Parked],

        (
            P::Converged | P::Unreachable | P::Exhausted | P::Failed | P::Cancelled,
            E::Respecified,
        ) => &[P::Pending],

        // A seal is a fact about a journal, whatever the loop does meanwhile.
        (P::Pending, E::Sealed) => &[P::Pending],
        (P::Assigned, E::Sealed) => &[P::Assigned],
        (P::Running, E::Sealed) => &[P::Running],
        (P::Parked, E::Sealed) => &[P::Parked],
        (P::Converged, E::Sealed) => &[P::Converged],
        (P::Unreachable, E::Sealed) => &[P::Unreachable],
        (P::Exhausted, E::Sealed) => &[P::Exhausted],
        (P::Failed, E::Sealed) => &[P::Failed],
        (P::Cancelled, E::Sealed) => &[P::Cancelled],

        (P::Pending, E::Started | E::Progressed | E::Ended | E::RunLost) => &[],
        (P::Pending, E::ParkDue | E::Resumed) => &[],
        (P::Assigned | P::Running, E::Assigned | E::Blocked | E::ParkDue | E::Resumed) => &[],
        (P::Parked, E::Assigned | E::Started | E::Progressed | E::Ended) => &[],
        (P::Parked, E::RunLost | E::Blocked) => &[],
        (P::Converged | P::Unreachable | P::Exhausted | P::Failed | P::Cancelled, _) => &[],
    }
}

/// Looks an event up in the table.
///
/// # Errors
/// [`IllegalTransition`] when the table has no such move, or when the event's content does not fit
/// it: a run that ends in a phase that is none, a verdict without its reason, a `Blocked` reason
/// that is not one of `Pending`, a `ParkDue` for a loop that is not parked by time.
pub fn transition(status: &LoopStatus, event: &LoopEvent) -> Result<Phase, IllegalTransition> {
    let phase = status.phase;
    let illegal = |why: String| IllegalTransition { phase, event: event.kind(), why };
    let allowed = targets(phase, event.kind());
    let Some(first) = allowed.first() else {
        return Err(illegal("there is no such move".to_owned()));
    };
    let target = match event {
        LoopEvent::Ended { outcome, .. } => {
            if !reason_fits(outcome.phase, outcome.reason) {
                let Outcome { phase, reason, .. } = outcome;
                return Err(illegal(format!("{reason:?} is no reason for {phase}")));
            }
            let starts = status.start_faults.saturating_add(1);
            let lost = status.runs_lost.saturating_add(1);
            let too_often = (is_start_fault(outcome) && starts >= START_FAULTS_MAX)
                || (is_node_fault(outcome) && lost >= RUNS_LOST_MAX);
            if too_often { Phase::Parked } else { outcome.phase }
        }
        LoopEvent::RunLost { .. } if status.runs_lost.saturating_add(1) >= RUNS_LOST_MAX => {
            Phase::Parked
        }
        LoopEvent::Blocked { reason, .. } if !reason_fits(Phase::Pending, *reason) => {
            return Err(illegal(format!("{reason:?} is no reason for Pending")));
        }
        LoopEvent::ParkDue if !status.reason.is_timed() => {
            return Err(illegal(format!("it is parked for {:?}, not for a time", status.reason)));
        }
        _ => *first,
    };
    if allowed.contains(&target) {
        Ok(target)
    } else {
        Err(illegal(format!("it cannot lead to {target}")))
    }
}

/// The run ended by a fault of its node: it counts as lost, or it would go round for ever.
fn is_node_fault(outcome: &Outcome) -> bool {
    outcome.phase == Phase::Pending && outcome.reason == Reason::RunLost
}

/// True when a loop can be in this phase for this reason. Verdicts must say why; the other phases may
/// do without a reason.
pub fn reason_fits(phase: Phase, reason: Reason) -> bool {
    use Reason as R;
    match phase {
        Phase::Pending => matches!(
            reason,
            R::None
                | R::Submitted
                | R::ResourcesOwned
                | R::Unsealed
                | R::NoNode
                | R::NeverFits
                | R::RunLost
                | R::CannotStart
                | R::Drained
        ),
        Phase::Assigned | Phase::Running | Phase::Converged => reason == R::None,
        Phase::Parked => matches!(
            reason,
            R::Approval
                | R::Budget
                | R::Quota
                | R::Backoff
                | R::Hold
                | R::StoreBehindJournal
                | R::OtherInstallation
                | R::RunsLost
        ),
        Phase::Unreachable => matches!(reason, R::NoProgress | R::Flapping | R::Declared),
        Phase::Exhausted => matches!(reason, R::Iterations | R::WallTime),
        Phase::Failed => matches!(
            reason,
            R::AgentCannotStart
                | R::CheckCannotStart
                | R::MissingRef
                | R::RepositoryUnreachable
                | R::InvalidWork
        ),
        Phase::Cancelled => matches!(reason, R::None | R::ByUser),
    }
}
