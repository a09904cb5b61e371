//! The core task: owns the reactor, gives it events one at a time and carries out its effects.

use std::sync::Arc;

use flyball_core::ambient::Ambient;
use flyball_core::ids::LoopKey;
use flyball_store::{EventRecord, Mutation};
use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::events::Emitter;
use super::feeder::ListRequest;
use super::outbox::Outboxes;
use crate::reactor::{CommitId, Effect, Event, LoopView, Notice, Reactor};

/// Events waiting for the reactor. Senders wait when it is full, which slows workers and clients
/// down instead of growing memory.
const INPUTS_MAX: usize = 1024;

/// Inputs handled before effects that arrived together are seen by the committer as one batch; a
/// bound keeps one busy input from starving the timers.
const BURST_MAX: usize = 256;

/// Changes kept for slow watchers; one that falls behind by more is told the whole state again.
const NEWS_MAX: usize = 4096;

/// Shortest sleep until a timer: a moment that has passed and leads to nothing must not keep the
/// core busy.
const TIMER_MIN: std::time::Duration = std::time::Duration::from_millis(5);

/// Longest sleep without a look at the timers, for clocks that are set.
const IDLE_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// A look at the reactor by the API.
type Query = Box<dyn FnOnce(&Reactor, Timestamp) + Send>;

enum Input {
    Event(Event),
    Query(Query),
}

/// A loop as it is now, for those who watch.
#[derive(Debug, Clone)]
pub(crate) struct LoopNews {
    pub(crate) key: LoopKey,
    /// `None` when it is gone.
    pub(crate) view: Option<LoopView>,
}

/// A commit or its resolution, for the committer. The channel is unbounded because the reactor has
/// at most one commit under way per loop and node.
#[derive(Debug)]
pub(crate) struct CommitRequest {
    pub(crate) commit: CommitId,
    pub(crate) mutation: Mutation,
    /// The outcome is unknown and is to be found out.
    pub(crate) resolve: bool,
    /// The term it was decided in. It must not be committed in a later one: what was decided then
    /// may rest on a view that other leaders have made wrong since.
    pub(crate) term: Option<i64>,
}

/// The way to the core task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    inputs: mpsc::Sender<Input>,
    news: broadcast::Sender<Arc<LoopNews>>,
    events: broadcast::Sender<Arc<EventRecord>>,
    stop: CancellationToken,
}

/// The scheduler is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler is shutting down")]
pub(crate) struct Stopped;

impl Handle {
    /// Tells the reactor something.
    pub(crate) async fn tell(&self, event: Event) -> Result<(), Stopped> {
        self.inputs.send(Input::Event(event)).await.map_err(|_| Stopped)
    }

    /// Asks the reactor something; it answers between two events.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reactor, Timestamp) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let query: Query = Box::new(move |reactor, now| {
            // Whoever asked may have gone away.
            let _ = answer.send(question(reactor, now));
        });
        self.inputs.send(Input::Query(query)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Resolves when the scheduler is asked to end; streams to clients end with it.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Every change of a loop from now on.
    pub(crate) fn watch_loops(&self) -> broadcast::Receiver<Arc<LoopNews>> {
        self.news.subscribe()
    }

    /// Every event from now on.
    pub(crate) fn watch_events(&self) -> broadcast::Receiver<Arc<EventRecord>> {
        self.events.subscribe()
    }

    /// An event seen in the store.
    pub(crate) fn on_event_record(&self, record: EventRecord) {
        // Nobody may be watching.
        let _ = self.events.send(Arc::new(record));
    }
}

/// The core task's own parts.
pub(crate) struct Core {
    reactor: Reactor,
    inputs: mpsc::Receiver<Input>,
    handle: Handle,
    commits: mpsc::UnboundedSender<CommitRequest>,
    lists: mpsc::UnboundedSender<ListRequest>,
    outboxes: Outboxes,
    emitter: Emitter,
    ambient: Ambient,
}

impl Core {
    /// A core task, not running yet, and the way to it.
    pub(crate) fn new(
        commits: mpsc::UnboundedSender<CommitRequest>,
        lists: mpsc::UnboundedSender<ListRequest>,
        outboxes: Outboxes,
        emitter: Emitter,
        stop: CancellationToken,
        ambient: Ambient,
    ) -> (Self, Handle) {
        let (sender, inputs) = mpsc::channel(INPUTS_MAX);
        let (news, _) = broadcast::channel(NEWS_MAX);
        let (events, _) = broadcast::channel(NEWS_MAX);
        let handle = Handle { inputs: sender, news, events, stop };
        let reactor = Reactor::new();
        let own = handle.clone();
        let core =
            Self { reactor, inputs, handle: own, commits, lists, outboxes, emitter, ambient };
        (core, handle)
    }

    /// Runs until every handle but its own is gone or the task is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let pause = self.until_timer();
            let input = tokio::select! {
                biased;
                input = self.inputs.recv() => input,
                () = tokio::time::sleep(pause) => Some(Input::Event(Event::Tick)),
            };
            let Some(input) = input else { return };
            self.take(input);
            for _ in 0..BURST_MAX {
                let Ok(input) = self.inputs.try_recv() else { break };
                self.take(input);
            }
            self.spread_news();
        }
    }

    fn until_timer(&self) -> std::time::Duration {
        let Some(at) = self.reactor.wake_at() else { return IDLE_MAX };
        let left = at.duration_since(self.ambient.now());
        std::time::Duration::try_from(left).unwrap_or_default().clamp(TIMER_MIN, IDLE_MAX)
    }

    fn take(&mut self, input: Input) {
        let now = self.ambient.now();
        match input {
            Input::Query(query) => query(&self.reactor, now),
            Input::Event(event) => {
                for effect in self.reactor.on_event(event, now) {
                    self.carry_out(effect, now);
                }
            }
        }
    }

    fn carry_out(&mut self, effect: Effect, now: Timestamp) {
        match effect {
            Effect::Commit { commit, mutation } => self.commit(commit, mutation, false),
            Effect::Resolve { commit, mutation } => self.commit(commit, mutation, true),
            Effect::RequestSnapshot { revision_min } => {
                // The feeder ends only with the process.
                let _ = self.lists.send(ListRequest { revision_min });
            }
            Effect::Send { session, message } => self.outboxes.send(session, message),
            Effect::Close { session, reason, message } => {
                let leader = self.reactor.leader().map(|leader| leader.address.clone());
                let leader = leader.unwrap_or_default();
                self.outboxes.close(session, reason, message, leader);
            }
            Effect::Emit(notice) => self.emit(notice, now),
        }
    }

    fn commit(&self, commit: CommitId, mutation: Mutation, resolve: bool) {
        let term = self.reactor.term();
        // The committer ends only with the process.
        let _ = self.commits.send(CommitRequest { commit, mutation, resolve, term });
    }

    fn emit(&self, notice: Notice, now: Timestamp) {
        let node = notice.node.map(|node| node.0).unwrap_or_default();
        tracing::info!(key = %notice.key, reason = notice.reason, %node, "{}", notice.message);
        self.emitter.emit(EventRecord {
            at: now,
            namespace: notice.key.namespace,
            name: notice.key.name,
            reason: notice.reason.to_owned(),
            message: notice.message,
            node,
        });
    }

    fn spread_news(&mut self) {
        let changed = self.reactor.take_changed();
        if self.handle.news.receiver_count() == 0 {
            return;
        }
        for key in changed {
            let view = self.reactor.loop_view(&key);
            // Somebody may have stopped watching just now.
            let _ = self.handle.news.send(Arc::new(LoopNews { key, view }));
        }
    }
}
