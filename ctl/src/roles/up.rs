//! `flyball up`: the control plane for daily use on one machine.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use flyball_core::lease::TTL_SECONDS_DEFAULT;
use flyball_proto::transport::Address;

use super::fleet::{Fleet, Plan};
use super::sandbox::OfferArgs;
use super::supervise::{log_file, log_tail};
use super::{dirs, signals};
use crate::client;

/// Options of `flyball up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Number of worker processes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=64))]
    workers: u32,
    /// Most runs at a time per worker
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    slots: u32,
    /// Where everything is kept; survives restarts
    #[arg(long, value_name = "DIR", env = "FLYBALL_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Use this etcd cluster instead of the embedded store
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    etcd: Vec<String>,
    /// Listen here too: http://127.0.0.1:7420 (requires --token-file), or https://0.0.0.0:7420
    /// (requires --identity)
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<Address>,
    /// File with the token that TCP clients must show
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Time to live of workers' leases in seconds, 2 to 300
    #[arg(long, value_name = "SECONDS", default_value_t = TTL_SECONDS_DEFAULT, value_parser = super::ttl())]
    ttl: i64,
    #[command(flatten)]
    offers: OfferArgs,
}

/// Pause before a child that ended is started again, so that one that cannot stay up does not spin.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Runs until a signal; children that end are started again.
pub(super) async fn run(args: UpArgs, identity: Option<PathBuf>) -> anyhow::Result<()> {
    let plan = Plan {
        data_dir: dirs::data_dir(args.data_dir)?,
        workers: args.workers,
        slots: args.slots,
        ttl_seconds: args.ttl,
        etcd: args.etcd,
        listen: args.listen,
        token_file: args.token_file,
        identity,
        worker_args: args.offers.to_arguments(),
    };
    let mut fleet = Fleet::start(plan).await?;
    announce(&fleet)?;
    let end = tokio::select! {
        () = signals::shutdown(false) => Ok(()),
        error = supervise(&mut fleet) => error,
    };
    say("Stopping: runs end at their iteration's edge …\n")?;
    fleet.stop().await;
    end
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

fn announce(fleet: &Fleet) -> anyhow::Result<()> {
    let plan = &fleet.plan;
    // Clients find the default socket by themselves.
    let found = client::address_of_this_user().is_some_and(|address| address == plan.socket());
    let addr = if found { String::new() } else { format!(" --addr {}", plan.socket()) };
    say(&format!(
        "Flyball is up: 1 scheduler, {} workers, {}.\n\
         Data    {}\n\
         Socket  {}\n\
         Logs    {}\n\n\
         Next, in a repository of yours:\n  \
         flyball init && flyball{addr} apply -f flyball.yaml\n  \
         flyball{addr} get loops -w\n\n\
         Ctrl-C stops it; everything is resumed at the next start.\n",
        plan.workers,
        if plan.etcd.is_empty() { "embedded store".to_owned() } else { plan.etcd.join(",") },
        plan.data_dir.display(),
        plan.socket(),
        log_file(&plan.log_dir(), "*").display(),
    ))?;
    fleet.isolation_warning().map_or(Ok(()), |warning| say(&format!("\n{warning}")))
}

async fn supervise(fleet: &mut Fleet) -> anyhow::Result<()> {
    loop {
        let log_dir = fleet.plan.log_dir();
        let children = std::iter::once(&mut fleet.scheduler).chain(fleet.workers.iter_mut());
        let mut waits: Vec<_> = children.map(|role| Box::pin(ended(role))).collect();
        let (name, status) = std::future::poll_fn(|context| {
            let ready = waits.iter_mut().find_map(|wait| match wait.as_mut().poll(context) {
                std::task::Poll::Ready(end) => Some(end),
                std::task::Poll::Pending => None,
            });
            ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await;
        drop(waits);
        let why = log_tail(&log_dir, &name).lines().last().unwrap_or_default().to_owned();
        say(&format!("{name} ended ({status}): {why}\nstarting it again\n"))?;
        tokio::time::sleep(RESTART_PAUSE).await;
        let mut children = std::iter::once(&mut fleet.scheduler).chain(fleet.workers.iter_mut());
        if let Some(role) = children.find(|role| role.spec.name == name) {
            Fleet::restart(&log_dir, role)?;
        }
    }
}

async fn ended(role: &mut super::supervise::Role) -> (String, String) {
    let status = role.wait().await;
    (role.spec.name.clone(), status)
}
