//! The runs of one incarnation: at most one per loop, each an actor of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use flyball_core::ids::{InstallationId, LoopKey, LoopUid, Token};
use flyball_core::spec::LoopSpec;
use flyball_core::status::{Progress, Unsealed};
use flyball_proto::v1::{Assign, LiveRun, LogRequest, StopRun};
use tokio::sync::watch;

use crate::ground::Execute;
use crate::link::RunId;

/// What a run is asked to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Go on.
    #[default]
    No,
    /// Stop at the iteration's edge and hand over.
    Drain,
    /// Stop now and hand over: the iteration under way is lost.
    Evict,
    /// End now as cancelled.
    Cancel,
    /// End now and report nothing: not the owner any more.
    Lost,
}

/// A decoded assignment.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The loop and the token it is owned under.
    pub id: RunId,
    /// Generation of the spec.
    pub generation: u64,
    /// What is wanted.
    pub spec: LoopSpec,
    /// How far earlier runs came.
    pub progress: Progress,
    /// Journals to seal before anything starts.
    pub unsealed: Vec<Unsealed>,
    /// Trace context of the submission.
    pub traceparent: String,
    /// Node of the run before, for display.
    pub previous_node: String,
}

impl Assignment {
    /// Reads the wire form.
    pub(crate) fn read(assign: Assign) -> Result<Self, serde_json::Error> {
        Ok(Self {
            id: RunId {
                key: LoopKey::new(assign.namespace, assign.name),
                uid: LoopUid(assign.uid),
                token: Token(assign.token),
            },
            generation: assign.generation,
            spec: serde_json::from_slice(&assign.spec_json)?,
            progress: optional(&assign.progress_json)?,
            unsealed: optional(&assign.unsealed_json)?,
            traceparent: assign.traceparent,
            previous_node: assign.previous_node,
        })
    }
}

fn optional<T: Default + serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    if json.is_empty() { Ok(T::default()) } else { serde_json::from_slice(json) }
}

struct Live {
    id: RunId,
    stop: watch::Sender<Stop>,
    /// An assignment under a later token that waits for this run to be gone, and what it is asked to
    /// do when it starts.
    next: Option<(Assignment, Stop)>,
}

/// The runs, by loop.
pub(crate) struct Runs {
    execute: Arc<dyn Execute>,
    installation: OnceLock<InstallationId>,
    live: Mutex<BTreeMap<LoopUid, Live>>,
    /// What every new run is asked to do at once: nothing, to hand over, or not to start at all.
    floor: Mutex<Stop>,
    /// Counts the runs, so that their end can be awaited.
    count: watch::Sender<usize>,
}

impl Runs {
    pub(crate) fn new(execute: Arc<dyn Execute>) -> Self {
        Self {
            execute,
            installation: OnceLock::new(),
            live: Mutex::default(),
            floor: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }

    pub(crate) fn set_installation(&self, id: InstallationId) {
        // It never changes within one life; a second call brings the same value.
        let _ = self.installation.set(id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LoopUid, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a run. The same assignment again changes nothing; one under a later token ends the
    /// run that is there first.
    pub(crate) fn assign(self: &Arc<Self>, assignment: Assignment) {
        self.assign_with(assignment, Stop::No);
    }

    fn assign_with(self: &Arc<Self>, assignment: Assignment, wish: Stop) {
        let wish = wish.max(*self.floor.lock().unwrap_or_else(PoisonError::into_inner));
        if wish == Stop::Lost {
            return;
        }
        let mut live = self.lock();
        match live.get_mut(&assignment.id.uid) {
            Some(there) if there.id.token >= assignment.id.token => {}
            Some(there) => {
                raise(&there.stop, Stop::Lost);
                there.next = Some((assignment, wish));
            }
            None => {
                let stop = watch::Sender::new(wish);
                let entry = Live { id: assignment.id.clone(), stop: stop.clone(), next: None };
                live.insert(assignment.id.uid.clone(), entry);
                self.count.send_replace(live.len());
                drop(live);
                self.start(assignment, &stop);
            }
        }
    }

    fn start(self: &Arc<Self>, assignment: Assignment, stop: &watch::Sender<Stop>) {
        let runs = self.clone();
        let installation = self.installation.get().cloned().unwrap_or_default();
        let id = assignment.id.clone();
        let run = self.execute.execute(assignment, stop.subscribe(), installation);
        tokio::spawn(async move {
            if let Err(error) = tokio::spawn(run).await {
                // A defect of ours ended it. Its steps were told to die when their handles were
                // dropped, but nobody saw them end.
                runs.execute.on_broken(&id, &error.to_string());
            }
            runs.on_run_over(&id.uid);
        });
    }

    fn on_run_over(self: &Arc<Self>, uid: &LoopUid) {
        let mut live = self.lock();
        let next = live.remove(uid).and_then(|over| over.next);
        self.count.send_replace(live.len());
        drop(live);
        if let Some((next, wish)) = next {
            self.assign_with(next, wish);
        }
    }

    /// Passes a stop on to the run it names; others are not touched.
    pub(crate) fn stop(&self, stop: &StopRun) {
        let wish = match stop.reason.as_str() {
            "evict" => Stop::Evict,
            "cancel" => Stop::Cancel,
            "lost" => Stop::Lost,
            // "drain" and reasons of newer schedulers: the gentlest that makes room.
            _ => Stop::Drain,
        };
        let mut live = self.lock();
        let Some(live) = live.get_mut(&LoopUid(stop.uid.clone())) else { return };
        if live.id.token.0 == stop.token {
            raise(&live.stop, wish);
        } else if let Some((next, asked)) = &mut live.next
            && next.id.token.0 == stop.token
        {
            *asked = wish.max(*asked);
        }
    }

    /// Every run hands over at its iteration's edge; what is still assigned does so at once.
    pub(crate) fn leave(&self) {
        self.stop_all(Stop::Drain);
    }

    /// Every run stops now and hands over.
    pub(crate) fn evict(&self) {
        self.stop_all(Stop::Evict);
    }

    /// Every run ends now without a word, and none starts any more.
    pub(crate) fn end_all(&self) {
        self.stop_all(Stop::Lost);
    }

    fn stop_all(&self, wish: Stop) {
        *self.floor.lock().unwrap_or_else(PoisonError::into_inner) = wish;
        for live in self.lock().values() {
            raise(&live.stop, wish);
        }
    }

    /// Returns when no run is left.
    pub(crate) async fn drained(&self) {
        let mut count = self.count.subscribe();
        // The sender lives as long as `self`.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    /// What is alive, for a registration.
    pub(crate) fn live(&self) -> Vec<LiveRun> {
        let run = |live: &Live| LiveRun {
            namespace: live.id.key.namespace.clone(),
            r#loop: live.id.key.name.clone(),
            uid: live.id.uid.to_string(),
            token: live.id.token.0,
        };
        self.lock().values().map(run).collect()
    }

    /// Streams output to a client in a task of its own.
    pub(crate) fn serve_logs(self: &Arc<Self>, request: LogRequest) {
        if request.stop {
            // A client that went away is noticed by the scheduler, which drops later chunks.
            return;
        }
        let (runs, uid) = (self.clone(), LoopUid(request.uid.clone()));
        let live = Box::new(move || runs.lock().get(&uid).map(|live| live.id.token));
        tokio::spawn(self.execute.serve_logs(request, live));
    }
}

/// Stops only ever get stronger.
fn raise(stop: &watch::Sender<Stop>, wish: Stop) {
    stop.send_if_modified(|current| {
        let stronger = wish > *current;
        if stronger {
            *current = wish;
        }
        stronger
    });
}
