//! The roles of the binary: what runs as a process of its own, also under `up` and `demo`.

mod demo;
mod dirs;
mod fleet;
mod margins;
mod sandbox;
mod scheduler;
mod signals;
mod supervise;
mod up;
mod worker;

use std::process::ExitCode;

pub use demo::DemoArgs;
use flyball_core::lease::{TTL_SECONDS_MAX, TTL_SECONDS_MIN};
use flyball_core::planted;
use flyball_telemetry::{Options, Telemetry};
pub use scheduler::SchedulerArgs;
pub use up::UpArgs;
pub use worker::WorkerArgs;

use crate::args::Global;
use crate::output::{Format, Out};
use crate::{Exit, Failure, Outcome};

/// Commands that start a role.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Role {
    /// Run the control plane for one machine: scheduler, embedded store and workers.
    Up(UpArgs),
    /// Watch five loops converge, wait, fail and flap on two example repositories.
    Demo(DemoArgs),
    /// Run a scheduler.
    Scheduler(SchedulerArgs),
    /// Run a worker.
    Worker(Box<WorkerArgs>),
    /// The process that is parent of every run and enforces its deadline.
    #[command(hide = true)]
    Guard,
    /// An agent of our own, run inside the sandbox like any other.
    #[command(hide = true, subcommand)]
    Agent(Agent),
    /// What a guard becomes when its worker is gone: tells the schedulers.
    #[command(hide = true)]
    ReportGone,
}

/// The agents that are part of this program.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub enum Agent {
    /// A tool-calling loop over the run's model gateway, which is named by variables of its environment.
    Builtin(BuiltinArgs),
}

/// Bounds of the built-in agent.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct BuiltinArgs {
    /// Most answers of the model
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    turns: Option<u32>,
    /// Asks the model nothing more after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Most tokens of one answer
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..))]
    output_tokens: Option<u64>,
    /// Most bytes of a request; older results of tools are left out beyond it
    #[arg(long, value_name = "BYTES")]
    context_bytes: Option<usize>,
}

impl BuiltinArgs {
    fn bounds(self) -> flyball_agent::Bounds {
        let otherwise = flyball_agent::Bounds::default();
        flyball_agent::Bounds {
            turns: self.turns.unwrap_or(otherwise.turns),
            seconds: self.seconds.unwrap_or(otherwise.seconds),
            output_tokens: self.output_tokens.unwrap_or(otherwise.output_tokens),
            context_bytes: self.context_bytes.unwrap_or(otherwise.context_bytes),
        }
    }
}

/// Runs a role until it ends.
///
/// # Errors
/// What kept it from starting or going on, with what to do about it.
pub fn run(role: Role, global: &Global, out: &mut Out) -> Outcome {
    let planted = planted::all().map_err(|error| Failure::new("plant", error.to_string()))?;
    if matches!(role, Role::Guard) {
        // No runtime and no telemetry: the guard is single-threaded when it forks.
        let code = flyball_worker::guard_main();
        return Ok(if code == ExitCode::SUCCESS { Exit::Ok } else { Exit::Error });
    }
    if let Role::Agent(Agent::Builtin(args)) = role {
        // No runtime and no telemetry: it is a child of a step and says what it does on its standard output.
        let variable = |name: &str| std::env::var(name).ok();
        let code = flyball_agent::run(args.bounds(), variable, &mut std::io::stdout());
        return Ok(if code == ExitCode::SUCCESS { Exit::Ok } else { Exit::Error });
    }
    if matches!(role, Role::ReportGone) {
        // Logs only: the guard has no variables that would ask for more.
        let _telemetry =
            start_telemetry(&role).map_err(|error| Failure::new("role", format!("{error:#}")))?;
        let code = flyball_worker::report_gone();
        return Ok(if code == ExitCode::SUCCESS { Exit::Ok } else { Exit::Error });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("runtime", format!("cannot start threads: {error}")))?;
    let ended = runtime.block_on(async {
        let telemetry = start_telemetry(&role)?;
        if !planted.is_empty() {
            let names: Vec<&str> = planted.iter().map(|bug| bug.name()).collect();
            tracing::warn!("a build for tests, with planted bugs: {}", names.join(", "));
        }
        // On the heap: it holds the state of the largest role.
        let ended = Box::pin(play(role, global, out)).await;
        telemetry.shutdown().await;
        ended
    });
    // A call that still blocks on one of its threads must not keep the process alive.
    runtime.shutdown_background();
    ended.map(|()| Exit::Ok).map_err(|error| Failure::new("role", format!("{error:#}")))
}

/// Reads a time to live of a lease, seconds.
fn ttl() -> clap::builder::RangedI64ValueParser<i64> {
    clap::value_parser!(i64).range(TTL_SECONDS_MIN..=TTL_SECONDS_MAX)
}

async fn play(role: Role, global: &Global, _out: &mut Out) -> anyhow::Result<()> {
    match role {
        Role::Up(args) => up::run(args, global.identity.clone()).await,
        Role::Demo(args) => demo::run(args, matches!(global.output, Format::Json)).await,
        Role::Scheduler(args) => scheduler::run(args, global.identity.clone()).await,
        Role::Worker(args) => worker::run(*args, global.identity.clone()).await,
        Role::Guard | Role::ReportGone | Role::Agent(_) => Ok(()),
    }
}

fn start_telemetry(role: &Role) -> anyhow::Result<Telemetry> {
    let (service, default_filter) = match role {
        Role::Up(_) => ("flyball-up", "warn"),
        Role::Demo(_) => ("flyball-demo", "warn"),
        Role::Scheduler(_) => ("flyball-scheduler", "info"),
        Role::Worker(_) | Role::Guard | Role::ReportGone | Role::Agent(_) => {
            ("flyball-worker", "info")
        }
    };
    let instance = uuid::Uuid::new_v4().to_string();
    Ok(flyball_telemetry::init(&Options { service, instance, default_filter })?)
}
