//! A run: one tenure of a loop on this node under one token, from taking over to its outcome.

mod agent;
mod attempt;
mod brief;
mod checks;
mod confine;
mod fence;
mod halt;
mod iteration;
mod models;
mod progress;
mod proof;
mod ready;
mod repository;
mod scratch;
mod seal;
mod secrets;
mod steps;
mod takeover;
mod unseen;
mod watching;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flyball_core::governor::Governor;
use flyball_core::ids::{Incarnation, InstallationId};
use flyball_core::lease::BootInstant;
use flyball_core::model::AgentDefinition;
use flyball_core::score::CaseMemory;
use flyball_core::spec::LoopSpec;
use flyball_core::status::{Outcome, Phase, Progress, Reason, Unsealed};
use flyball_gateway::Gateway;
use flyball_sandbox::{Guard, Who, boottime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use self::halt::Halt;
use crate::config::Config;
use crate::git::{Caches, Doubt, Owner, remove_any};
use crate::link::{Link, Refused, RunId};
use crate::logs::LogDir;
use crate::models::{NodeQuotas, Schedulers};
use crate::runs::{Assignment, Stop};

/// What a run needs of its worker.
pub(crate) struct RunContext {
    pub(crate) config: Arc<Config>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) link: Arc<Link>,
    pub(crate) logs: LogDir,
    pub(crate) caches: Arc<Caches>,
    /// Where budgets are kept.
    pub(crate) schedulers: Arc<Schedulers>,
    pub(crate) gateway: Gateway,
    pub(crate) quotas: Arc<NodeQuotas>,
    pub(crate) installation: InstallationId,
    pub(crate) incarnation: Incarnation,
    pub(crate) stop: watch::Receiver<Stop>,
}

/// The state of one run.
struct Run {
    context: RunContext,
    id: RunId,
    /// Generation of the spec.
    generation: u64,
    spec: LoopSpec,
    judges: checks::Judges,
    unsealed: Vec<Unsealed>,
    progress: Progress,
    governor: Governor,
    /// Test cases seen, part of the loop's memory.
    cases: CaseMemory,
    /// The run's own directory, removed at its end.
    dir: PathBuf,
    began: BootInstant,
    /// Time in earlier runs, milliseconds.
    earlier_ms: u64,
    /// What the calls of a gateway that is closed have waited for quota.
    waited: Duration,
    traceparent: String,
    /// About the pushes to the loop's own repository.
    doubt: Doubt,
    /// The report that is on its way, if one is.
    reports: JoinSet<Result<(), Refused>>,
    /// What steps are handed and what no output may hold.
    secrets: secrets::Secrets,
    /// What answers the agent's model calls, once it is about to act.
    gateway: Option<models::RunModels>,
    /// The definition of the loop's agent, if it is one of kind Agent.
    definition: Option<AgentDefinition>,
    /// What the agent's program says of its version, once it was asked.
    program: Option<String>,
    /// Where the objects are that a worktree's git directory refers to.
    objects: Vec<PathBuf>,
    /// While something is measured that may turn out to be of no use: see [`Run::measure_ahead`].
    wanted: Option<watch::Receiver<bool>>,
}

/// Runs an assignment to its outcome and reports it. Returns when nothing is left of it.
pub(crate) async fn execute(context: RunContext, assignment: Assignment) {
    let span = tracing::info_span!(
        "run",
        otel.name = "run",
        flyball.r#loop = %assignment.id.key,
        flyball.token = assignment.id.token.0,
        flyball.node = %context.config.node,
    );
    flyball_telemetry::continue_trace(&span, &assignment.traceparent);
    async {
        let mut run = Run::new(context, assignment);
        let mut stop = run.context.stop.clone();
        let end = tokio::select! {
            end = run.drive() => end,
            () = lost_for_long(&mut stop) => Err(Halt::Silent("not the owner any more".to_owned())),
        };
        run.finish(end).await;
    }
    .instrument(span)
    .await;
}

/// Steps end within the kill budget once the run is lost. What is still going on then is a call to
/// a repository, which nobody has to wait for: its pushes are fenced by the journal.
const LOST_PATIENCE: Duration = Duration::from_secs(3);

async fn lost_for_long(stop: &mut watch::Receiver<Stop>) {
    if stop.wait_for(|stop| *stop == Stop::Lost).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(LOST_PATIENCE).await;
}

impl Run {
    /// Who appends to journals for this run.
    fn owner(&self) -> Owner {
        Owner {
            loop_uid: self.id.uid.clone(),
            token: self.id.token,
            node: self.context.config.node.clone(),
            generation: self.generation,
            owns: None,
        }
    }

    fn new(context: RunContext, assignment: Assignment) -> Self {
        let Assignment { id, generation, spec, progress, unsealed, traceparent, previous_node } =
            assignment;
        tracing::info!(run = %id.key, token = %id.token, from = previous_node, "takes over");
        let (memory, cases) = progress::restore_memory(&progress);
        Self {
            governor: Governor::restore(&spec.governor, &memory),
            cases,
            dir: context.config.data_dir.join("runs").join(format!("{}-{}", id.uid, id.token)),
            began: boottime(),
            earlier_ms: progress.run_ms,
            waited: Duration::ZERO,
            context,
            id,
            generation,
            judges: checks::Judges::prepare(&spec.checks),
            spec,
            unsealed,
            progress,
            traceparent,
            doubt: Doubt::default(),
            reports: JoinSet::new(),
            secrets: secrets::Secrets::default(),
            gateway: None,
            definition: None,
            program: None,
            objects: Vec::new(),
            wanted: None,
        }
    }

    async fn drive(&mut self) -> Result<Outcome, Halt> {
        self.make_dirs()?;
        seal::seal_unsealed(self).await?;
        self.secrets = secrets::fetch(self).await?;
        match self.spec.workspace.clone() {
            Some(workspace) => {
                let source = repository::Source::of(&workspace.git, &self.spec, &self.id.key.name)?;
                repository::drive(self, source).await
            }
            None => scratch::drive(self).await,
        }
    }

    fn make_dirs(&self) -> Result<(), Halt> {
        let made = std::fs::create_dir_all(self.brief_dir())
            .and_then(|()| self.rooms(Who::Agent).make())
            .and_then(|()| self.rooms(Who::Check).make());
        let dir = self.dir.display();
        made.map_err(|error| Halt::node_fault(&format!("cannot make {dir}: {error}")))
    }

    /// Milliseconds in runs, this one included, without the time in which calls waited for providers' accounts: a
    /// loop does not come to its end because others used them.
    fn run_ms(&self) -> u64 {
        let here = self.began.until(boottime()).saturating_sub(self.waited_for_quota()).as_millis();
        self.earlier_ms.saturating_add(u64::try_from(here).unwrap_or(u64::MAX))
    }

    /// Time left until the wall-time bound.
    fn time_left(&self) -> Duration {
        let used = Duration::from_millis(self.run_ms());
        self.spec.governor.wall_time.0.saturating_sub(used)
    }

    /// What this run is asked to do now.
    fn stop(&self) -> Stop {
        *self.context.stop.borrow()
    }

    /// Halts when asked to stop at an iteration's edge.
    fn at_edge(&self) -> Result<(), Halt> {
        match self.stop() {
            Stop::No => Ok(()),
            stop => Err(Halt::stopped(stop)),
        }
    }

    /// Waits, or halts as soon as a stop is asked for.
    async fn pause(&mut self, pause: Duration) -> Result<(), Halt> {
        if !pause.is_zero() {
            let mut stop = self.context.stop.clone();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = async { let _ = stop.wait_for(|stop| *stop != Stop::No).await; } => {}
            }
        }
        self.at_edge()
    }

    /// Makes progress durable; halts silently when this worker is not the owner any more.
    async fn report(&mut self, event: String) -> Result<(), Halt> {
        self.report_ahead(event).await?;
        self.reported().await
    }

    /// Sends progress without waiting for its answer, once that of the report before is there: they stay
    /// in order. [`Run::reported`] waits for it.
    async fn report_ahead(&mut self, event: String) -> Result<(), Halt> {
        self.reported().await?;
        let (link, id, progress) =
            (self.context.link.clone(), self.id.clone(), self.current_progress());
        self.reports.spawn(async move { link.update(&id, &progress, event).await });
        Ok(())
    }

    /// Progress with the time used and what the next owner has to remember, as of now.
    fn current_progress(&mut self) -> Progress {
        self.progress.run_ms = self.run_ms();
        progress::keep_memory(&mut self.progress, &self.governor, &self.cases);
        self.progress.clone()
    }

    /// Everything reported so far is durable; halts silently when this worker is not the owner any more.
    async fn reported(&mut self) -> Result<(), Halt> {
        while let Some(answer) = self.reports.join_next().await {
            match answer {
                Ok(Ok(())) => {}
                Ok(Err(refused)) => return Err(Halt::Silent(refused.to_string())),
                Err(broken) => return Err(Halt::node_fault(&format!("a report broke: {broken}"))),
            }
        }
        Ok(())
    }

    async fn finish(mut self, end: Result<Outcome, Halt>) {
        let outcome = match end {
            Ok(outcome) | Err(Halt::End(outcome)) => outcome,
            Err(Halt::Silent(why)) => {
                tracing::warn!(run = %self.id.key, token = %self.id.token, "ends silently: {why}");
                // Not settled: what it drew counts as spent, as for a worker that is lost.
                self.gateway = None;
                self.remove_dir().await;
                return;
            }
        };
        self.close_models().await;
        // If it is refused so is the end, which then says so.
        let _ = self.reported().await;
        tracing::info!(
            run = %self.id.key, token = %self.id.token, phase = %outcome.phase,
            reason = ?outcome.reason, "ends: {}", outcome.message
        );
        self.progress.activity.clear();
        let progress = self.current_progress();
        self.remove_dir().await;
        // Every step has ended and was proven gone before its handle answered. A push whose answer was
        // lost may be on its way all the same; then whoever owns the resources next seals the journal.
        let stopped = !self.doubt.holds();
        let ended = self.context.link.ended(&self.id, &progress, &outcome, stopped).await;
        if let Err(refused) = ended {
            tracing::warn!(run = %self.id.key, "its end was refused: {refused}");
        }
    }

    /// Removes the run's directory, whatever permissions an agent left in it. One that cannot be
    /// removed now is when the next worker of this node begins.
    async fn remove_dir(&self) {
        let dir = self.dir.clone();
        let removed = tokio::task::spawn_blocking(move || remove_any(&dir)).await;
        if let Err(error) = removed.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::warn!(dir = %self.dir.display(), "cannot remove the run's directory: {error}");
        }
    }
}

/// A converged outcome.
fn converged(message: String) -> Outcome {
    outcome(Phase::Converged, Reason::None, message)
}

pub(crate) fn outcome(phase: Phase, reason: Reason, message: String) -> Outcome {
    Outcome { phase, reason, message, evidence: Vec::new(), retry_after_ms: 0, need: None }
}
