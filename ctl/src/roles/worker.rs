//! `flyball worker`: a node that runs loops.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use flyball_core::identity::Identity;
use flyball_core::ids::{NodeName, check_name};
use flyball_core::model::PriceTable;
use flyball_core::node::{NodeFacts, Resources};
use flyball_core::quantity::{ByteSize, CpuMillis};
use flyball_pki::LiveIdentity;
use flyball_proto::transport::{Address, Credential};
use flyball_worker as worker;

use super::margins::MarginArgs;
use super::sandbox::SandboxArgs;
use super::{dirs, signals};
use crate::paths;

/// Options of `flyball worker`.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// Schedulers to register with: unix:///path, https://host:port or http://127.0.0.1:port
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    scheduler: Vec<Address>,
    /// File with the token to show to schedulers on TCP
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Name of this node; if absent, that of its certificate, else the host name
    #[arg(long)]
    node: Option<String>,
    /// Where the node keeps clones, output and its lock
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Labels that loops can require
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Processors offered; all of this machine if absent
    #[arg(long)]
    cpu: Option<CpuMillis>,
    /// Memory offered; all of this machine if absent
    #[arg(long)]
    memory: Option<ByteSize>,
    /// Disk offered
    #[arg(long, default_value = "100Gi")]
    disk: ByteSize,
    /// Other countable resources offered
    #[arg(long, value_name = "NAME=COUNT")]
    resource: Vec<String>,
    /// Most runs at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    /// Time to live of the node's lease in seconds, 2 to 300, if the scheduler has no --session-ttl
    /// [default: 6]
    #[arg(long, value_name = "SECONDS", value_parser = super::ttl())]
    ttl: Option<i64>,
    #[command(flatten)]
    margins: MarginArgs,
    /// Variables of this process that agents and checks may see, beside PATH and locale
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pass_env: Vec<String>,
    /// First part of the names of journal and run refs
    #[arg(long, default_value = worker::REF_PREFIX_DEFAULT)]
    ref_prefix: String,
    /// Prices of models, made by `flyball prices import`; providers' own prices win [default: those shipped]
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Longest time a model call waits for room in its provider's account, 1 to 86400 s; then its loop is parked
    #[arg(long, value_name = "SECONDS", default_value_t = worker::ModelsConfig::default().quota_wait.as_secs(), value_parser = clap::value_parser!(u64).range(1..=86_400))]
    quota_wait: u64,
    /// Keep requests and answers of model calls in this directory, one file a call; they hold whatever agents send
    #[arg(long, value_name = "DIR")]
    capture_model_calls: Option<PathBuf>,
    #[command(flatten)]
    sandbox: SandboxArgs,
    /// Divide what this machine has by this number of workers on it
    #[arg(long, value_name = "WORKERS", default_value_t = 1, hide = true, value_parser = clap::value_parser!(u32).range(1..=64))]
    share: u32,
    /// End when standard input closes
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

/// Runs the worker until it is asked to end.
pub(super) async fn run(args: WorkerArgs, identity: Option<PathBuf>) -> anyhow::Result<()> {
    let shutdown = signals::shutdown(args.until_stdin_closes);
    worker::run(config(args, identity)?, shutdown).await.context("worker")
}

fn config(args: WorkerArgs, identity: Option<PathBuf>) -> anyhow::Result<worker::Config> {
    let joined = args.data_dir.as_ref().map(|dir| dir.join(paths::IDENTITY));
    let identity = identity.or_else(|| joined.filter(|dir| dir.exists()));
    let identity = dirs::identity(identity)?;
    let node = node_name(args.node, identity.as_deref())?;
    check_name(&node).context("--node")?;
    let data_dir = match args.data_dir {
        Some(dir) => dirs::data_dir(Some(dir))?,
        None => dirs::data_dir(None)?.join("nodes").join(&node),
    };
    dirs::private_dir(&data_dir)?;
    let schedulers = if args.scheduler.is_empty() {
        vec![Address::Unix(paths::scheduler_socket(&dirs::data_dir(None)?))]
    } else {
        args.scheduler
    };
    let credential = match &args.token_file {
        Some(path) => Credential::bearer(&dirs::read_token(path)?)?,
        None => {
            let tcp = schedulers.iter().find(|address| matches!(address, Address::Http(_)));
            if let Some(address) = tcp {
                anyhow::bail!("reaching {address} requires --token-file: nothing answers without");
            }
            let tls = schedulers.iter().find(|address| matches!(address, Address::Https(_)));
            if let (Some(address), None) = (tls, &identity) {
                anyhow::bail!(
                    "reaching {address} requires --identity; get one: flyball pki issue --node NAME"
                );
            }
            Credential::none()
        }
    };
    let credential = credential.with_identity(identity);
    let capacity = Resources {
        cpu: args.cpu.unwrap_or_else(|| CpuMillis(all_cpus().0 / u64::from(args.share))),
        memory: args.memory.unwrap_or_else(|| ByteSize(all_memory().0 / u64::from(args.share))),
        disk: args.disk,
        custom: counts(&args.resource)?,
        ..Resources::default()
    };
    let mut pass_env: Vec<String> = worker::PASS_ENV_DEFAULT.map(str::to_owned).to_vec();
    pass_env.extend(args.pass_env);
    Ok(worker::Config {
        node: NodeName(node),
        data_dir,
        schedulers,
        credential,
        facts: NodeFacts {
            labels: labels(&args.label)?,
            capacity,
            slots: args.slots,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            // Found by the worker itself, once it has a guard.
            abilities: None,
        },
        guard_command: guard_command()?,
        ttl_seconds: args.ttl,
        drift_ppm: args.margins.drift_ppm(),
        kill_budget: args.margins.kill_budget(args.ttl)?,
        pass_env,
        sandbox: args.sandbox.config()?,
        ref_prefix: args.ref_prefix,
        models: models(args.prices, args.quota_wait, args.capture_model_calls)?,
    })
}

fn models(
    prices: Option<PathBuf>,
    quota_wait: u64,
    capture: Option<PathBuf>,
) -> anyhow::Result<worker::ModelsConfig> {
    let mut config = worker::ModelsConfig::default();
    if let Some(file) = prices {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("--prices {}", file.display()))?;
        config.prices =
            PriceTable::parse(&text).with_context(|| format!("--prices {}", file.display()))?;
    }
    if let Some(dir) = &capture {
        dirs::private_dir(dir)?;
    }
    config.quota_wait = Duration::from_secs(quota_wait);
    config.capture = capture;
    Ok(config)
}

/// The name asked for, which has to be that of the certificate if there is one.
fn node_name(asked: Option<String>, identity: Option<&LiveIdentity>) -> anyhow::Result<String> {
    let Some(identity) = identity else { return asked.map_or_else(host_name, Ok) };
    let (who, dir) = (identity.identity()?, identity.dir().display());
    let Identity::Node(own) = who else {
        anyhow::bail!("--identity {dir} is {who}, and only a node may be a worker");
    };
    if let Some(asked) = asked.filter(|asked| *asked != own.0) {
        anyhow::bail!("--node {asked}, but the certificate in {dir} is of node {own}");
    }
    Ok(own.0)
}

fn guard_command() -> anyhow::Result<Vec<String>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let program = program.to_str().context("this program's path is not UTF-8")?.to_owned();
    Ok(vec![program, "guard".to_owned()])
}

fn host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("no host name; give --node")?;
    let name = name.to_string_lossy().to_lowercase();
    Ok(name.split('.').next().unwrap_or(&name).to_owned())
}

fn all_cpus() -> CpuMillis {
    CpuMillis(std::thread::available_parallelism().map_or(1, |n| n.get() as u64) * 1000)
}

fn all_memory() -> ByteSize {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"))
        .and_then(|text| text.trim().parse::<u64>().ok());
    // Where the size cannot be read nothing is promised; the operator can give --memory.
    ByteSize(kib.unwrap_or(0) * 1024)
}

pub(super) fn pair<'a>(flag: &str, text: &'a str) -> anyhow::Result<(&'a str, &'a str)> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .with_context(|| format!("{flag} {text:?}: write NAME=VALUE"))
}

fn labels(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    texts
        .iter()
        .map(|text| pair("--label", text).map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect()
}

fn counts(texts: &[String]) -> anyhow::Result<BTreeMap<String, u64>> {
    texts
        .iter()
        .map(|text| {
            let (key, value) = pair("--resource", text)?;
            let count = value.parse().with_context(|| format!("--resource {text:?}: a count"))?;
            Ok((key.to_owned(), count))
        })
        .collect()
}
