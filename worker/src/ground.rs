//! What a life stands on: the machine's clock, its network, chance, and whoever enforces its deadline
//! and carries its runs out. The session and the heartbeats know no more of the machine than this, so
//! that a simulation can put its own under them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use flyball_core::ids::{Incarnation, InstallationId, Token};
use flyball_core::lease::BootInstant;
use flyball_gateway::Gateway;
use flyball_proto::transport::{self, Address, Connection, Credential};
use flyball_proto::v1::LogRequest;
use flyball_sandbox::{Extender, Guard, boottime};
use tokio::sync::watch;

use crate::config::Config;
use crate::git::Caches;
use crate::link::{Link, RunId};
use crate::logs::{self, LogDir};
use crate::models::{NodeQuotas, Schedulers};
use crate::run::{self, RunContext};
use crate::runs::{Assignment, Stop};

/// A future in a box.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The machine below a life.
pub trait Ground: Send + Sync + 'static {
    /// The clock of all deadlines: never set back, and it goes on while the machine sleeps.
    fn boottime(&self) -> BootInstant;

    /// A random share, 0 to 1, that spreads retries.
    fn jitter(&self) -> f64;

    /// Connects to a scheduler now.
    fn connect<'a>(
        &'a self,
        address: &'a Address,
        credential: Credential,
    ) -> Boxed<'a, Result<Connection, tonic::transport::Error>>;
}

/// Whoever kills everything of a life at its deadline.
pub trait Deadline: Send + Sync + 'static {
    /// Moves the deadline; false when it had passed, for a late answer never revives.
    fn extend(&self, until: BootInstant) -> bool;
}

/// Whoever carries runs out.
pub trait Execute: Send + Sync + 'static {
    /// Carries an assignment out to its end and reports it. Resolves when nothing is left of it.
    fn execute(
        &self,
        assignment: Assignment,
        stop: watch::Receiver<Stop>,
        installation: InstallationId,
    ) -> Boxed<'static, ()>;

    /// A run broke in the middle and nobody saw its processes end: the life has to end, which does
    /// prove it.
    fn on_broken(&self, run: &RunId, error: &str);

    /// Streams a run's output; `live` says which run of the loop goes on here.
    fn serve_logs(
        &self,
        request: LogRequest,
        live: Box<dyn Fn() -> Option<Token> + Send + Sync>,
    ) -> Boxed<'static, ()>;
}

/// The real machine.
pub(crate) struct Machine;

impl Ground for Machine {
    fn boottime(&self) -> BootInstant {
        boottime()
    }

    fn jitter(&self) -> f64 {
        rand::random_range(0.0..1.0)
    }

    fn connect<'a>(
        &'a self,
        address: &'a Address,
        credential: Credential,
    ) -> Boxed<'a, Result<Connection, tonic::transport::Error>> {
        Box::pin(transport::connect(address, credential))
    }
}

impl Deadline for Extender {
    fn extend(&self, until: BootInstant) -> bool {
        Self::extend(self, until)
    }
}

/// Runs as processes below the guard, in the loop's repository.
pub(crate) struct Processes {
    pub(crate) config: Arc<Config>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) link: Arc<Link>,
    pub(crate) logs: LogDir,
    pub(crate) caches: Arc<Caches>,
    pub(crate) schedulers: Arc<Schedulers>,
    pub(crate) gateway: Gateway,
    pub(crate) quotas: Arc<NodeQuotas>,
    pub(crate) incarnation: Incarnation,
}

impl Execute for Processes {
    fn execute(
        &self,
        assignment: Assignment,
        stop: watch::Receiver<Stop>,
        installation: InstallationId,
    ) -> Boxed<'static, ()> {
        let context = RunContext {
            config: self.config.clone(),
            guard: self.guard.clone(),
            link: self.link.clone(),
            logs: self.logs.clone(),
            caches: self.caches.clone(),
            schedulers: self.schedulers.clone(),
            gateway: self.gateway.clone(),
            quotas: self.quotas.clone(),
            installation,
            incarnation: self.incarnation.clone(),
            stop,
        };
        Box::pin(run::execute(context, assignment))
    }

    fn on_broken(&self, run: &RunId, error: &str) {
        tracing::error!(run = %run.key, token = %run.token, "the run broke: {error}");
        self.guard.extender().end();
    }

    fn serve_logs(
        &self,
        request: LogRequest,
        live: Box<dyn Fn() -> Option<Token> + Send + Sync>,
    ) -> Boxed<'static, ()> {
        Box::pin(logs::serve(self.logs.clone(), self.link.clone(), request, live))
    }
}
