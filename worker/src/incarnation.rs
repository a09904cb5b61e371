//! One life of the worker: one lease, one guard, one set of runs. When its lease is lost everything
//! in it ends, and a new life begins with a new identity.

use std::sync::Arc;
use std::time::Duration;

use flyball_core::ids::Incarnation;
use flyball_core::lease::LeaseClock;
use flyball_core::node::NodeFacts;
use flyball_gateway::Gateway;
use flyball_sandbox::{Guard, GuardConfig, GuardError, StateLock, acquire_state_dir};
use tokio::sync::watch;

use crate::config::Config;
use crate::git::{Caches, Git, GitSettings, remove_any};
use crate::ground::{Deadline, Ground, Machine, Processes};
use crate::link::Link;
use crate::logs::LogDir;
use crate::mark::Mark;
use crate::models::{NodeQuotas, Schedulers};
use crate::runs::Runs;

/// Why a life ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifeEnd {
    /// The process was asked to end, and every run has been stopped.
    Shutdown,
    /// The lease is gone, or its deadline passed before a renewal came through.
    LeaseLost(String),
    /// The guard is gone; without it nothing may run.
    GuardLost,
    /// Another incarnation has this node's name.
    Duplicate {
        /// What the scheduler said of it.
        message: String,
        /// When its lease ends if it is gone.
        left: Duration,
    },
}

/// What a scheduler granted at the first registration.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) lease: i64,
    pub(crate) ttl_seconds: i64,
    /// Runs since the registration was sent.
    pub(crate) clock: LeaseClock,
}

/// The parts of one life, shared by its tasks.
pub(crate) struct Life {
    pub(crate) config: Arc<Config>,
    pub(crate) id: Incarnation,
    /// An earlier incarnation of which nothing is left.
    pub(crate) replaces: Option<Incarnation>,
    /// What it says of itself, with what its guard and host have.
    pub(crate) facts: NodeFacts,
    pub(crate) ground: Arc<dyn Ground>,
    pub(crate) deadline: Arc<dyn Deadline>,
    pub(crate) link: Arc<Link>,
    pub(crate) runs: Arc<Runs>,
    /// The highest token that the node was given.
    pub(crate) mark: Mark,
    /// The grant, once there is one.
    pub(crate) grant: watch::Sender<Option<Grant>>,
    /// Set once, by whoever sees the end first.
    pub(crate) end: watch::Sender<Option<LifeEnd>>,
}

/// A life on the real machine.
pub(crate) struct Begun {
    pub(crate) life: Arc<Life>,
    pub(crate) guard: Arc<Guard>,
}

/// The life cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    #[error("another worker uses the data directory {dir}: {message}")]
    Busy { dir: String, message: String },
    #[error("cannot use the data directory {dir}: {source}")]
    DataDir { dir: String, source: std::io::Error },
    #[error("no guard, no work: {0}")]
    Guard(#[from] GuardError),
    #[error("{0}")]
    Unconfined(String),
    #[error("git: {0}")]
    Git(#[from] crate::git::GitError),
}

/// Longest wait for an earlier worker to hand over (20 s at most) and its guard to finish killing.
const LOCK_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(30);

impl Life {
    /// Takes the data directory, which an earlier life's guard holds until nothing of it is left,
    /// and starts the guard.
    pub(crate) async fn begin(config: Arc<Config>) -> Result<Begun, BeginError> {
        let dir = config.data_dir.display().to_string();
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|source| BeginError::DataDir { dir: dir.clone(), source })?;
        let lock = acquire_state_dir(&config.data_dir, LOCK_WAIT_MAX)
            .await
            .map_err(|error| BeginError::Busy { dir: dir.clone(), message: error.to_string() })?;
        let id = Incarnation(uuid::Uuid::new_v4().simple().to_string());
        let replaces =
            remember(&config, &lock, &id).map_err(|source| BeginError::DataDir { dir, source })?;
        remove_leftovers(&config).await;
        let guard = GuardConfig {
            kill_budget: config.kill_budget,
            ..GuardConfig::new(config.guard_command.clone(), &config.data_dir)
        };
        let guard = Arc::new(Guard::start_with(lock, guard).await?);
        if let Some(why) = config.sandbox.refusal(&guard.abilities().missing_layers) {
            return Err(BeginError::Unconfined(why));
        }
        let abilities = crate::host::abilities(&guard, &config).await;
        let facts = NodeFacts { abilities: Some(Box::new(abilities)), ..config.facts.clone() };
        let link = Arc::new(Link::default());
        let git = Git::new(GitSettings::new(config.data_dir.join("git-home")))?;
        let schedulers =
            Arc::new(Schedulers::new(config.schedulers.clone(), config.credential.clone()));
        let processes = Processes {
            quotas: NodeQuotas::new(schedulers.clone(), &config.node, &id),
            schedulers,
            gateway: Gateway::new(flyball_gateway::Config {
                quota_wait: config.models.quota_wait,
                capture: config.models.capture.clone(),
                ..flyball_gateway::Config::default()
            }),
            config: config.clone(),
            guard: guard.clone(),
            link: link.clone(),
            logs: LogDir::new(&config.data_dir),
            caches: Arc::new(Caches::new(git, config.data_dir.join("cache"))?),
            incarnation: id.clone(),
        };
        let runs = Arc::new(Runs::new(Arc::new(processes)));
        let (ground, deadline) = (Arc::new(Machine), Arc::new(guard.extender()));
        let (grant, end) = (watch::Sender::new(None), watch::Sender::new(None));
        let mark = Mark::open(&config.data_dir);
        let life =
            Self { config, id, replaces, facts, ground, deadline, link, runs, mark, grant, end };
        Ok(Begun { life: Arc::new(life), guard })
    }

    /// Ends the life; the first reason stays.
    pub(crate) fn finish(&self, end: LifeEnd) {
        self.end.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(end);
            }
            first
        });
    }

    /// Returns when the life has ended.
    pub(crate) async fn ended(&self) -> LifeEnd {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(end)) => end.clone(),
            _ => LifeEnd::Shutdown,
        }
    }
}

/// Removes the directories of runs that an earlier life could not end properly. Under the lock, so
/// that nobody uses them.
async fn remove_leftovers(config: &Config) {
    let runs = config.data_dir.join("runs");
    let removed = tokio::task::spawn_blocking(move || {
        // A file in its place is not ours to remove; the runs will name it.
        if runs.is_dir() { remove_any(&runs) } else { Ok(()) }
    });
    if let Err(error) = removed.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        tracing::warn!("cannot remove what earlier runs left behind: {error}");
    }
}

/// Writes this life's id beside the lock, with what the lock is on, and returns the one that was
/// there if nothing of it can be left: it held this very lock, and its guard has not died before its time where that
/// leaves processes behind. In a copy of the directory it did not hold it: there the original may be alive, and must
/// not be ended in its name.
fn remember(
    config: &Config,
    lock: &StateLock,
    id: &Incarnation,
) -> std::io::Result<Option<Incarnation>> {
    let path = config.data_dir.join("incarnation");
    let earlier = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let identity = lock.identity().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot tell what the lock is on; earlier leases are waited for");
        String::new()
    });
    let fresh = config.data_dir.join("incarnation.new");
    std::fs::write(&fresh, format!("{id}\n{identity}\n"))?;
    std::fs::rename(&fresh, &path)?;
    let (earlier, was) = earlier.split_once('\n').unwrap_or((&earlier, ""));
    let earlier = Some(earlier.trim()).filter(|earlier| !earlier.is_empty());
    let same = !identity.is_empty() && was.trim() == identity;
    let proven = same && lock.is_proven();
    if let Some(earlier) = earlier.filter(|_| same && !proven) {
        tracing::warn!(
            node = %config.node,
            earlier,
            "the guard of an earlier worker was killed, and has no PID namespace that would have taken all processes \
             along: some may be alive, so its lease is waited for"
        );
    }
    if let Some(earlier) = earlier.filter(|_| !same) {
        tracing::warn!(
            node = %config.node,
            earlier,
            "the data directory was copied, or the machine was restarted: an earlier worker of it may \
             be alive elsewhere, so its lease is waited for"
        );
    }
    Ok(earlier.filter(|_| proven).map(|earlier| Incarnation(earlier.to_owned())))
}
