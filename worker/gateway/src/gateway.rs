//! The gateway of one worker process, and the handle of a run's calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::config::Config;
use crate::gate::Gate;
use crate::health::Health;
use crate::quota::Desk;
use crate::run::{Iteration, RunCalls, Spent};
use crate::serve;
use crate::upstream::Upstreams;

/// Longest wait for calls that were cut to be settled; it takes the runtime a moment to drop them.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What all runs of a worker share: connections, the health of deployments, room in accounts.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) upstreams: Upstreams,
    pub(crate) desk: Desk,
    health: Mutex<Health>,
}

impl Shared {
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The gateway of a worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Shared>);

impl Gateway {
    /// A gateway that serves nobody yet.
    pub fn new(config: Config) -> Self {
        let upstreams = Upstreams::new(config.connect_max);
        Self(Arc::new(Shared {
            config,
            upstreams,
            desk: Desk::default(),
            health: Mutex::default(),
        }))
    }

    /// Opens it for a run.
    pub fn open(&self, calls: RunCalls) -> RunGate {
        let gate = Arc::new(Gate::new(Arc::clone(&self.0), calls));
        RunGate { gate, serving: Mutex::default() }
    }
}

/// A run's calls. Dropped without [`RunGate::close`], calls under way are cut, and what was drawn of budgets counts as
/// spent.
#[derive(Debug)]
pub struct RunGate {
    gate: Arc<Gate>,
    serving: Mutex<JoinSet<()>>,
}

/// Answering on one listener; it ends, and its calls with it, when this is dropped.
#[derive(Debug)]
pub struct Serving(tokio::task::AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RunGate {
    /// Answers on a listener, which is made non-blocking, until the handle is dropped. Must be called in a runtime.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn serve(&self, listener: std::net::TcpListener) -> std::io::Result<Serving> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        while serving.try_join_next().is_some() {}
        let task = serve::accept(listener, Arc::clone(&self.gate));
        Ok(Serving(serving.spawn(task)))
    }

    /// The loop begins another iteration: calls from now on count for it.
    pub fn begin_iteration(&self, iteration: Iteration) {
        self.gate.begin_iteration(iteration);
    }

    /// Gives back to loop and namespace what calls under way do not need, and tells what was spent so far.
    pub async fn end_iteration(&self) -> Spent {
        // Calls whose client has ended are dropped in a moment, and then told of.
        self.gate.idle(CLOSE_MAX).await;
        self.gate.settle_slices().await;
        self.gate.spent()
    }

    /// What was spent so far; calls under way are not in it.
    pub fn spent(&self) -> Spent {
        self.gate.spent()
    }

    /// Tells when a call was under way last (now, while one is; `None` before the first): an agent whose call waits
    /// for a model or for quota does not stand still.
    pub fn activity(&self) -> impl Fn() -> Option<Instant> + Send + Sync + 'static {
        let gate = Arc::clone(&self.gate);
        move || gate.last_call()
    }

    /// For how long some call of the run has waited for room in a provider's account.
    pub fn waited(&self) -> Duration {
        self.gate.waited()
    }

    /// Ends all calls, settles them by estimate, and gives back what was not used.
    pub async fn close(&self) -> Spent {
        let mut serving =
            std::mem::take(&mut *self.serving.lock().unwrap_or_else(PoisonError::into_inner));
        // Ends the connections too, which are tasks of these tasks: each call settles as it is dropped.
        serving.shutdown().await;
        self.gate.idle(CLOSE_MAX).await;
        self.gate.end().await;
        self.gate.spent()
    }
}
