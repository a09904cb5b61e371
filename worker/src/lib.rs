//! The worker: keeps a session, holds a lease, and runs loops until their checks pass. It reaches
//! the store only through schedulers.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod agent;
mod config;
mod examine;
mod forward;
pub mod git;
mod gone;
pub mod ground;
mod heartbeat;
mod host;
mod incarnation;
mod link;
mod logs;
mod mark;
pub mod models;
mod offers;
mod route;
mod run;
mod runs;
mod session;
pub mod simulated;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Entry point of the process that is parent of every run.
pub use flyball_sandbox::guard_main;
/// What a guard becomes when its worker is gone.
pub use gone::{REPORTER_ARGUMENT, report_gone};

pub use config::{
    Config, DRIFT_PPM_DEFAULT, KILL_BUDGET_DEFAULT, ModelsConfig, PASS_ENV_DEFAULT,
    REF_PREFIX_DEFAULT,
};

pub use examine::examine;
pub use offers::{InvalidProxy, OUTPUT_RATE_DEFAULT, ProxyAddress, SandboxConfig};

use flyball_core::lease::TTL_SECONDS_DEFAULT;
use flyball_proto::renewal;
use flyball_proto::v1::Leaving;
use flyball_proto::v1::node_message::Message;
use flyball_sandbox::Guard;
use tokio::task::JoinSet;

use crate::incarnation::{BeginError, Begun, Life, LifeEnd};

/// The worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its data directory or guard cannot be had.
    #[error("{0}")]
    CannotBegin(String),
    /// Another live worker has this node's name.
    #[error(
        "another worker is registered as {node}: {message}; stop it, or give this worker its own \
         --node and, if its data directory is a copy, an empty --data-dir"
    )]
    Duplicate {
        /// The node's name.
        node: String,
        /// What the scheduler said.
        message: String,
    },
}

impl From<BeginError> for WorkerError {
    fn from(error: BeginError) -> Self {
        Self::CannotBegin(error.to_string())
    }
}

/// Longest wait for runs to stop at their iteration's edge when the process is asked to end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);
/// Longest wait for runs to give their loops back once they have been stopped: a kill and a commit,
/// while the unit file's 30 s for the whole stop have not passed.
const EVICT_MAX: Duration = Duration::from_secs(5);
/// Pause before a new life, so that a guard that cannot stay up does not spin.
const REBIRTH_PAUSE: Duration = Duration::from_millis(200);
/// How long a name may be taken, beyond twice the lease's time to live and beyond what is left of the lease of whoever
/// has it: that of an incarnation that died on another machine has ended by then, so the other one is alive.
const DUPLICATE_SLACK: Duration = Duration::from_secs(3);

/// Runs the worker until `shutdown` completes: then its runs stop at their iteration's edge.
///
/// # Errors
/// [`WorkerError`] when the data directory or the guard cannot be had, or the node's name stays
/// taken.
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), WorkerError> {
    let config = Arc::new(config);
    let _renewing = keep_certificate(&config);
    let asked = Arc::new(tokio::sync::Notify::new());
    tokio::spawn({
        let asked = asked.clone();
        async move {
            shutdown.await;
            asked.notify_one();
        }
    });
    // Since when the name has been found taken, and for how long that may be.
    let mut taken: Option<(flyball_core::lease::BootInstant, Duration)> = None;
    let ttl = config.ttl_seconds.unwrap_or(TTL_SECONDS_DEFAULT);
    let ttl = Duration::from_secs(ttl.unsigned_abs());
    loop {
        let begun = Life::begin(config.clone()).await?;
        match live(&begun, &asked).await {
            LifeEnd::Shutdown => return Ok(()),
            LifeEnd::Duplicate { message, left } => {
                let now = flyball_sandbox::boottime();
                let (since, patience) = *taken.get_or_insert_with(|| {
                    tracing::warn!(node = %config.node, ?left, "the name is taken: {message}");
                    // The lease may be longer than what this worker asks for.
                    (now, (ttl * 2).max(left) + DUPLICATE_SLACK)
                });
                if since.until(now) > patience {
                    return Err(WorkerError::Duplicate { node: config.node.to_string(), message });
                }
            }
            end => {
                taken = None;
                tracing::error!(node = %config.node, ?end, "lost everything; beginning anew");
            }
        }
        drop(begun);
        tokio::time::sleep(REBIRTH_PAUSE).await;
    }
}

/// Renews the node's certificate for as long as the answer is kept.
fn keep_certificate(config: &Arc<Config>) -> JoinSet<()> {
    let mut renewing = JoinSet::new();
    if let Some(identity) = config.credential.identity().cloned() {
        let (config, own) = (config.clone(), identity.clone());
        renewing.spawn(renewal::keep(identity, move || {
            let (config, own) = (config.clone(), own.clone());
            async move { renewal::renew(&config.schedulers, &own).await }
        }));
    }
    renewing
}

async fn live(begun: &Begun, asked: &tokio::sync::Notify) -> LifeEnd {
    let Begun { life, guard: the_guard } = begun;
    let session = tokio::spawn(session::keep(life.clone()));
    let beats = tokio::spawn(beat_when_granted(life.clone(), the_guard.clone()));
    let guard = tokio::spawn({
        let (life, guard) = (life.clone(), the_guard.clone());
        async move {
            guard.lost().await;
            life.finish(LifeEnd::GuardLost);
        }
    });
    let end = tokio::select! {
        end = life.ended() => end,
        () = asked.notified() => {
            hand_over(life).await;
            life.finish(LifeEnd::Shutdown);
            LifeEnd::Shutdown
        }
    };
    // Order matters: nothing may be left of the runs before anybody hears that they are over.
    life.runs.end_all();
    let gone = the_guard.shut_down().await;
    if !gone.proven {
        tracing::error!("nobody could prove that every process is gone: {}", gone.reason);
    }
    life.link.close();
    for task in [session, beats, guard] {
        task.abort();
        // Aborted or over; either way it is gone.
        let _ = task.await;
    }
    life.runs.drained().await;
    // A life that ended otherwise is followed by another, which says whom it replaces.
    if end == LifeEnd::Shutdown && gone.proven {
        gone::tell(life).await;
    }
    end
}

async fn beat_when_granted(life: Arc<Life>, guard: Arc<Guard>) {
    let mut grant = life.grant.subscribe();
    let Ok(granted) = grant.wait_for(Option::is_some).await.map(|grant| grant.clone()) else {
        return;
    };
    let Some(granted) = granted else { return };
    gone::provide(&life, &guard, &granted);
    if let Err(error) = heartbeat::start(life.clone(), granted) {
        life.finish(LifeEnd::LeaseLost(format!("cannot start the heartbeat thread: {error}")));
    }
}

/// Lets every run stop at its iteration's edge and report, bounded.
async fn hand_over(life: &Life) {
    // Said first, so that nothing new is placed here while runs come back.
    life.link.send(Message::Leaving(Leaving {})).await;
    life.runs.leave();
    if tokio::time::timeout(SHUTDOWN_MAX, life.runs.drained()).await.is_err() {
        tracing::warn!("runs did not reach their iteration's edge in time; they are stopped");
        life.runs.evict();
        if tokio::time::timeout(EVICT_MAX, life.runs.drained()).await.is_err() {
            tracing::warn!("runs could not give their loops back in time; they are killed");
        }
    }
}
