//! What goes into the reactor and what comes out: two closed enums. Everything the outside world
//! does to the scheduler is an [`Event`]; everything the scheduler does to the world is an
//! [`Effect`].

use flyball_core::ids::{AttemptId, Incarnation, LoopKey, LoopUid, NodeName, Token};
use flyball_core::node::NodeFacts;
use flyball_core::spec::LoopSpec;
use flyball_core::status::{Outcome, Progress, Unsealed};
use flyball_store::{Change, Found, Mutation, Snapshot};

/// One stream of one worker; unique in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// One mutation handed to the committer; unique in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitId(pub u64);

/// Everything that can happen to the scheduler.
#[derive(Debug)]
pub enum Event {
    /// This scheduler holds the leader key. Nothing is placed before a snapshot of at least its
    /// create revision.
    Leading {
        /// Create revision of the leader key.
        create_revision: i64,
    },
    /// This scheduler does not hold the leader key, or cannot be sure to.
    NotLeading,
    /// The whole state, read from the store. Answers [`Effect::RequestSnapshot`].
    Snapshot(Box<Snapshot>),
    /// Changes seen by the watch, all of one revision.
    Changes {
        /// The revision of all of them.
        revision: i64,
        /// In the order of the store.
        changes: Vec<Change>,
    },
    /// The watch is alive.
    Progress,
    /// The watch ended, fell behind a compaction or was silent past its bound: nothing is decided
    /// until the next snapshot.
    WatchLost,
    /// A write of this process' own API, told directly instead of waiting for the watch.
    Written {
        /// The revision of the write.
        revision: i64,
        /// What it put.
        changes: Vec<Change>,
    },
    /// The committer's answer to one mutation.
    Committed {
        /// Which.
        commit: CommitId,
        /// What became of it.
        result: CommitResult,
    },
    /// A worker's session is open: its lease is granted or adopted.
    Attached(Box<Attached>),
    /// A worker's stream ended; its lease goes on.
    Detached {
        /// Which.
        session: SessionId,
    },
    /// A worker is shutting down: it gets no new work until its next registration.
    Leaving {
        /// Which.
        session: SessionId,
    },
    /// The store takes no writes until somebody makes room, or takes them again.
    StoreFull(bool),
    /// Every lease that was there when this scheduler first listed has ended or was renewed since.
    Heard,
    /// The store does not reach a revision that this scheduler has seen, so it was restored from an old state.
    StoreBehind,
    /// A worker reports on a run.
    Report(Box<Report>),
    /// Time has passed; sent at the bound of [`super::Reactor::wake_at`] and at idle now and then.
    Tick,
}

/// A worker whose session is open.
#[derive(Debug, Clone)]
pub struct Attached {
    /// Its stream.
    pub session: SessionId,
    /// Its node.
    pub node: NodeName,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its lease.
    pub lease: i64,
    /// Create revision of its session key, compared by every assignment to it.
    pub session_revision: i64,
    /// What it offers.
    pub facts: NodeFacts,
    /// The runs alive in it.
    pub runs: Vec<LiveRun>,
}

/// A run that a worker says is alive in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRun {
    /// The loop's key.
    pub key: LoopKey,
    /// The loop's uid.
    pub uid: LoopUid,
    /// The run's token.
    pub token: Token,
}

/// What became of a mutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitResult {
    /// Durable, at this revision.
    Committed {
        /// The revision.
        revision: i64,
    },
    /// A precondition did not hold: the view was behind. Nothing was written.
    Refused {
        /// What was found instead.
        found: Found,
    },
    /// Not known: it may have been written or not, or be written later.
    Unknown,
    /// Provably not written; to be tried again later.
    Unavailable,
    /// Can never be written as it is.
    Invalid {
        /// Why.
        message: String,
    },
}

/// A worker's word on one run, to be made durable and then acknowledged.
#[derive(Debug, Clone)]
pub struct Report {
    /// The stream it came by; the acknowledgement goes back there.
    pub session: SessionId,
    /// Whose stream that was: filled in by the reactor, from the registration.
    pub from: Option<(NodeName, Incarnation)>,
    /// The worker's number for it.
    pub sequence: u64,
    /// The loop.
    pub key: LoopKey,
    /// Its uid.
    pub uid: LoopUid,
    /// The run's token.
    pub token: Token,
    /// The loop's progress as the worker sees it; `None` if it cannot be read: the one that is
    /// known stays.
    pub progress: Option<Progress>,
    /// What is reported.
    pub body: ReportBody,
}

/// What a report says beyond progress.
#[derive(Debug, Clone)]
pub enum ReportBody {
    /// The run goes on.
    Update {
        /// A line for people, empty for none.
        event: String,
    },
    /// The run is over.
    Ended {
        /// How.
        outcome: Outcome,
        /// Whether all of its processes are known to be gone.
        stopped: bool,
    },
}

/// Everything the scheduler does.
#[derive(Debug)]
pub enum Effect {
    /// Commit this under the leader's fence and answer with [`Event::Committed`].
    Commit {
        /// To correlate the answer.
        commit: CommitId,
        /// What to write.
        mutation: Mutation,
    },
    /// Find out what became of this commit; answer with [`Event::Committed`] and a final result.
    Resolve {
        /// The commit whose outcome is unknown.
        commit: CommitId,
        /// What it was to write.
        mutation: Mutation,
    },
    /// Read the whole state at a revision of at least this; answer with [`Event::Snapshot`].
    RequestSnapshot {
        /// Oldest acceptable revision.
        revision_min: i64,
    },
    /// Send to a worker.
    Send {
        /// Its stream.
        session: SessionId,
        /// What.
        message: ToNode,
    },
    /// End a worker's stream with a typed reason.
    Close {
        /// The stream.
        session: SessionId,
        /// `lost`, `duplicate` or `not-leader`.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// Tell users.
    Emit(Notice),
}

/// A message to a worker.
#[derive(Debug, Clone)]
pub enum ToNode {
    /// Run this loop.
    Assign(Box<Assignment>),
    /// Stop a run.
    Stop {
        /// The loop.
        uid: LoopUid,
        /// The run.
        token: Token,
        /// Why.
        reason: StopReason,
    },
    /// A report is durable, or refused for good.
    Ack {
        /// The worker's number.
        sequence: u64,
        /// Empty, or why it never will be.
        refused: &'static str,
    },
}

/// A loop handed to a worker. Idempotent by uid and token.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The loop.
    pub key: LoopKey,
    /// Its uid.
    pub uid: LoopUid,
    /// Generation of the spec.
    pub generation: u64,
    /// The fencing token.
    pub token: Token,
    /// The attempt that made the claim.
    pub attempt: AttemptId,
    /// What is wanted.
    pub spec: LoopSpec,
    /// Where the loop stands.
    pub progress: Progress,
    /// Journals to seal before anything else.
    pub unsealed: Vec<Unsealed>,
    /// The loop's trace.
    pub traceparent: String,
    /// Who had it before, for display.
    pub previous_node: String,
}

/// Why a run is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    /// A user cancelled or deleted the loop: kill the iteration, end as cancelled.
    Cancel,
    /// The node is drained: stop at the iteration's edge.
    Drain,
    /// The spec changed: stop at the iteration's edge and come back with the new one.
    Respec,
    /// The drain's deadline has passed: stop now, prove it, and give the loop back.
    Evict,
    /// No longer the owner: kill now.
    Lost,
}

impl StopReason {
    /// The reason on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Drain => "drain",
            Self::Respec => "respec",
            Self::Evict => "evict",
            Self::Lost => "lost",
        }
    }
}

/// A line for `flyball events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The loop.
    pub key: LoopKey,
    /// Stable CamelCase code.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// The node concerned, if any.
    pub node: Option<NodeName>,
}
