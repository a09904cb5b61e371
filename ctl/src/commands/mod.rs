//! The client's verbs: one file per verb, and the little they share.

mod access;
mod apply;
mod audit;
mod auth;
mod budget;
mod cancel;
mod completion;
mod context;
mod definitions;
mod delete;
mod describe;
mod doctor;
mod doctor_local;
mod events;
mod exit_codes;
mod explain;
mod get;
mod init;
mod logs;
mod mark;
mod node;
mod pki;
mod prices;
mod quota;
mod route;
mod schema;
mod seal;
mod secret;
mod target;
mod validate;
mod version;
mod wait;

use self::context::Context;
use crate::args::Global;
use crate::output::Out;
use crate::{Exit, Failure, Outcome, trace};

/// A verb of the client.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Verb {
    /// Create or update from manifests: loops, roles, role bindings, providers, model routes, agents, budgets.
    #[command(
        after_help = "Examples:\n  flyball apply -f flyball.yaml\n  flyball apply -f flyball.yaml --wait"
    )]
    Apply(apply::Apply),
    /// Show loops, nodes, claims, iterations, roles, role bindings, providers, model routes, agents or budgets.
    #[command(
        after_help = "Examples:\n  flyball get loops -w\n  flyball get loops -l team=a -o json\n  flyball get iterations fix-tests"
    )]
    Get(get::Get),
    /// Show everything about one loop, node, provider, model route, agent or budget.
    #[command(
        after_help = "Examples:\n  flyball describe loop fix-tests\n  flyball describe provider anthropic"
    )]
    Describe(describe::Describe),
    /// Say why a loop is where it is, with numbers, and what can be done.
    #[command(after_help = "Example:\n  flyball explain fix-tests")]
    Explain(explain::Explain),
    /// Print what the agent and the checks of an iteration wrote.
    #[command(
        after_help = "Examples:\n  flyball logs -f fix-tests\n  flyball logs fix-tests --iteration 3 --stream check/test"
    )]
    Logs(logs::Logs),
    /// Print what happened to loops.
    Events(events::Events),
    /// Wait until loops reach a state.
    #[command(after_help = "Example:\n  flyball wait fix-tests --for converged --timeout 1h")]
    Wait(wait::Wait),
    /// End loops; what they have accepted so far stays.
    #[command(after_help = "Example:\n  flyball cancel fix-tests --reason \"not needed any more\"")]
    Cancel(cancel::Cancel),
    /// Delete what was applied; a loop that is live is cancelled first.
    Delete(delete::Delete),
    /// Let a node take no new runs; those it has go on.
    Cordon(mark::Cordon),
    /// Let a node take runs again.
    Uncordon(mark::Uncordon),
    /// Let a node take no new runs, and move those it has elsewhere.
    #[command(after_help = "Example:\n  flyball drain node-1 --reason \"kernel update\" --wait")]
    Drain(mark::Drain),
    /// Make a machine a node: join tokens, and the first certificate.
    Node(node::Node),
    /// Show which lost runs are still to be shut out, and give that up where it can never be done.
    #[command(
        after_help = "Examples:\n  flyball seal list -A\n  flyball seal abandon 0b5e… --reason \"the repository was deleted, node-3 is scrapped\""
    )]
    Seal(seal::Seal),
    /// Say what would become of a model call, and why.
    Route(route::Route),
    /// Say who the scheduler takes you for, and what you may do.
    Auth(auth::Auth),
    /// Store values for agents and checks, sealed; none is ever shown.
    Secret(secret::Secret),
    /// Show what loops and namespaces may spend on model calls and what they have spent, and raise it.
    #[command(
        after_help = "Examples:\n  flyball budget list -A\n  flyball budget extend fix-tests --money 5USD"
    )]
    Budget(budget::Budget),
    /// Show what providers' accounts allow in a minute, and who waits for it.
    #[command(after_help = "Example:\n  flyball quota list")]
    Quota(quota::Quota),
    /// Show what models cost, or make a price table of the public list.
    #[command(
        after_help = "Examples:\n  flyball prices show gpt-5.6\n  flyball prices import model_prices_and_context_window.json --out prices.json"
    )]
    Prices(prices::Prices),
    /// Show who changed what, or was refused to.
    #[command(
        after_help = "Examples:\n  flyball audit --since 2h --result refused\n  flyball audit --who user:ada -n team -f\n  flyball audit verify"
    )]
    Audit(audit::Audit),
    /// Make and replace certificates, for installations without an authority of their own.
    Pki(pki::Pki),
    /// Look for what is wrong: schedulers, store, leases, nodes; or this host.
    #[command(
        after_help = "Examples:\n  flyball doctor\n  flyball doctor --local\n\nExit code 1 if something is an error."
    )]
    Doctor(doctor::Doctor),
    /// Write a manifest for the repository you stand in.
    #[command(after_help = "Example:\n  flyball init --name fix-tests")]
    Init(init::Init),
    /// Check manifests without a scheduler.
    #[command(after_help = "Example:\n  flyball validate -f flyball.yaml")]
    Validate(validate::Validate),
    /// Explain the fields of a manifest; with -o json, the JSON Schema for editors.
    #[command(
        after_help = "Examples:\n  flyball schema loop.spec.checks\n  flyball schema -o json > flyball.schema.json"
    )]
    Schema(schema::Schema),
    /// Print the versions of client and server.
    Version(version::Version),
    /// Print a completion script for a shell.
    Completion(completion::Completion),
    /// Print what exit codes mean.
    #[command(hide = true)]
    ExitCodes(exit_codes::ExitCodes),
}

/// Runs a verb.
///
/// # Errors
/// A [`Failure`] that has not been printed yet.
pub(crate) fn run(verb: Verb, global: &Global, out: &mut Out) -> Outcome {
    match verb {
        Verb::Init(verb) => verb.run(out),
        Verb::Validate(verb) => verb.run(global, out),
        Verb::Schema(verb) => verb.run(out),
        Verb::Prices(verb) => verb.run(global, out),
        Verb::Completion(verb) => verb.run(out),
        Verb::ExitCodes(verb) => verb.run(out),
        online => with_runtime(online, &mut Context::new(global, out)),
    }
}

/// Runs a verb that talks to a scheduler, until it is done or the user interrupts it.
fn with_runtime(verb: Verb, context: &mut Context<'_>) -> Outcome {
    let exports = flyball_telemetry::exports();
    // The exporter needs a thread of the runtime beside the one that works.
    let mut builder = match exports {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::new("internal", format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let telemetry = exports.then(trace::start).flatten();
        let outcome = tokio::select! {
            outcome = online(verb, context) => outcome,
            _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
        };
        if let Some(telemetry) = telemetry {
            telemetry.shutdown().await;
        }
        outcome
    })
}

async fn online(verb: Verb, context: &mut Context<'_>) -> Outcome {
    match verb {
        Verb::Apply(verb) => verb.run(context).await,
        Verb::Get(verb) => verb.run(context).await,
        Verb::Describe(verb) => verb.run(context).await,
        Verb::Explain(verb) => verb.run(context).await,
        Verb::Logs(verb) => verb.run(context).await,
        Verb::Events(verb) => verb.run(context).await,
        Verb::Wait(verb) => verb.run(context).await,
        Verb::Cancel(verb) => verb.run(context).await,
        Verb::Delete(verb) => verb.run(context).await,
        Verb::Cordon(verb) => verb.run(context).await,
        Verb::Uncordon(verb) => verb.run(context).await,
        Verb::Drain(verb) => verb.run(context).await,
        Verb::Node(verb) => verb.run(context).await,
        Verb::Seal(verb) => verb.run(context).await,
        Verb::Route(verb) => verb.run(context).await,
        Verb::Auth(verb) => verb.run(context).await,
        Verb::Audit(verb) => verb.run(context).await,
        Verb::Pki(verb) => verb.run(context).await,
        Verb::Secret(verb) => verb.run(context).await,
        Verb::Budget(verb) => verb.run(context).await,
        Verb::Quota(verb) => verb.run(context).await,
        Verb::Doctor(verb) => verb.run(context).await,
        Verb::Version(verb) => verb.run(context).await,
        Verb::Init(_)
        | Verb::Validate(_)
        | Verb::Schema(_)
        | Verb::Prices(_)
        | Verb::Completion(_)
        | Verb::ExitCodes(_) => Err(Failure::new("internal", "this verb needs no scheduler")),
    }
}
