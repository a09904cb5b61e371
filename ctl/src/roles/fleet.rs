//! A scheduler and workers on this machine, as child processes: what `up` and `demo` share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use flyball_core::isolation::{MissingLayers, describe};
use flyball_proto::transport::{self, Address, Connection, Credential};
use flyball_proto::v1::nodes_client::NodesClient;
use flyball_proto::v1::server_client::ServerClient;
use flyball_proto::v1::{InfoRequest, InfoResponse, ListNodesRequest, NodeObject};
use nix::fcntl::{Flock, FlockArg};

use super::dirs;
use super::supervise::{ChildSpec, Role, log_tail};
use crate::paths;

/// Longest wait for the scheduler to answer; an embedded store opens in milliseconds, a leader
/// that crashed holds its leadership for its TTL.
const READY_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the workers.
const WORKERS_MAX: Duration = Duration::from_secs(5);
/// Pause between looks while waiting.
const READY_POLL: Duration = Duration::from_millis(30);

/// What to bring up.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) data_dir: PathBuf,
    pub(super) workers: u32,
    pub(super) slots: u32,
    pub(super) ttl_seconds: i64,
    pub(super) etcd: Vec<String>,
    /// Further addresses for the scheduler to listen on, with the token file they require.
    pub(super) listen: Vec<Address>,
    pub(super) token_file: Option<PathBuf>,
    /// What the scheduler shows on https:// addresses.
    pub(super) identity: Option<PathBuf>,
    /// Further arguments of every worker.
    pub(super) worker_args: Vec<String>,
}

/// The running processes.
pub(super) struct Fleet {
    pub(super) plan: Plan,
    pub(super) scheduler: Role,
    pub(super) workers: Vec<Role>,
    /// Layers of isolation that runs go without on this machine.
    pub(super) missing_layers: MissingLayers,
    /// Held while we run: one control plane per data directory.
    _lock: Flock<std::fs::File>,
}

impl Plan {
    /// The socket that clients find by themselves.
    pub(super) fn socket(&self) -> Address {
        Address::Unix(paths::scheduler_socket(&self.data_dir))
    }

    /// Where the children's logs are.
    pub(super) fn log_dir(&self) -> PathBuf {
        self.data_dir.join("processes")
    }

    fn scheduler(&self) -> ChildSpec {
        let mut args = vec![
            "scheduler".to_owned(),
            format!("--data-dir={}", self.data_dir.display()),
            format!("--listen={}", self.socket()),
            format!("--session-ttl={}", self.ttl_seconds),
        ];
        if !self.etcd.is_empty() {
            args.push(format!("--etcd={}", self.etcd.join(",")));
        }
        args.extend(self.listen.iter().map(|address| format!("--listen={address}")));
        args.extend(self.token_file.iter().map(|f| format!("--token-file={}", f.display())));
        args.extend(self.identity.iter().map(|dir| format!("--identity={}", dir.display())));
        ChildSpec { name: "scheduler".to_owned(), args }
    }

    fn worker(&self, number: u32) -> ChildSpec {
        let name = format!("worker-{number}");
        let mut args = vec![
            "worker".to_owned(),
            format!("--scheduler={}", self.socket()),
            format!("--node={name}"),
            format!("--data-dir={}", self.data_dir.join("nodes").join(&name).display()),
            format!("--slots={}", self.slots),
            format!("--ttl={}", self.ttl_seconds),
            // Together they offer what the machine has, once.
            format!("--share={}", self.workers),
            // This machine is its user's own: it works as well as it can, and says what is weaker.
            "--allow-weaker=all".to_owned(),
        ];
        args.extend(self.worker_args.iter().cloned());
        ChildSpec { name, args }
    }
}

/// What a node says it goes without.
fn missing_layers(node: &NodeObject) -> MissingLayers {
    let object: serde_json::Value = serde_json::from_slice(&node.object_json).unwrap_or_default();
    let layers = object.pointer("/node/facts/abilities/missingLayers").cloned().unwrap_or_default();
    serde_json::from_value(layers).unwrap_or_default()
}

/// Takes the data directory for this process; whoever has it already is named.
fn lock(data_dir: &Path) -> anyhow::Result<Flock<std::fs::File>> {
    use std::io::Write;
    let path = data_dir.join("up.lock");
    let open = || std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open().with_context(|| format!("cannot use {}", path.display()))?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err(_) => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "{} is in use: flyball is already up there (process {}); its socket is {}",
                data_dir.display(),
                holder.trim(),
                paths::scheduler_socket(data_dir).display()
            );
        }
    };
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()))?;
    Ok(file)
}

impl Fleet {
    /// What is weaker on this machine than it could be, loudly, and how to fix it; nothing if nothing is.
    pub(super) fn isolation_warning(&self) -> Option<String> {
        let first = self.missing_layers.keys().next()?;
        let mut text = "WARNING: this machine does not let runs be isolated fully:\n".to_owned();
        for line in describe(&self.missing_layers, |_| true) {
            text += &format!("  {line}\n");
        }
        text += &format!("To fix it, {}.\n", first.remedy());
        Some(text)
    }

    /// Starts everything and waits until the scheduler leads.
    pub(super) async fn start(plan: Plan) -> anyhow::Result<Self> {
        dirs::private_dir(&plan.data_dir)?;
        dirs::private_dir(&plan.log_dir())?;
        let lock = lock(&plan.data_dir)?;
        let scheduler = Role::start(plan.scheduler(), &plan.log_dir())?;
        let mut fleet = Self {
            plan,
            scheduler,
            workers: Vec::new(),
            missing_layers: MissingLayers::new(),
            _lock: lock,
        };
        if let Err(error) = fleet.bring_up().await {
            fleet.stop().await;
            return Err(error);
        }
        Ok(fleet)
    }

    async fn bring_up(&mut self) -> anyhow::Result<()> {
        for number in 1..=self.plan.workers {
            self.workers.push(Role::start(self.plan.worker(number), &self.plan.log_dir())?);
        }
        self.ready().await?;
        self.workers_online().await
    }

    /// Waits until every worker has registered, so that the first loops find all of them.
    async fn workers_online(&mut self) -> anyhow::Result<()> {
        let begun = tokio::time::Instant::now();
        let mut nodes = NodesClient::new(self.connect().await?);
        loop {
            let listed = nodes.list(ListNodesRequest {}).await?.into_inner().nodes;
            self.missing_layers = listed.iter().flat_map(missing_layers).collect();
            let online = |node: &&NodeObject| {
                let object = serde_json::from_slice::<serde_json::Value>(&node.object_json);
                object.is_ok_and(|object| object["status"]["online"] == true)
            };
            let ours =
                |role: &Role| listed.iter().filter(online).any(|node| node.name == role.spec.name);
            // A worker that waits for its predecessor's end comes later; nothing depends on it.
            if self.workers.iter().all(ours) || begun.elapsed() > WORKERS_MAX {
                return Ok(());
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// A connection to the scheduler.
    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        let address = self.plan.socket();
        transport::connect(&address, Credential::none())
            .await
            .with_context(|| format!("cannot connect to {address}"))
    }

    /// Waits until the scheduler answers and leads.
    pub(super) async fn ready(&mut self) -> anyhow::Result<InfoResponse> {
        let begun = tokio::time::Instant::now();
        loop {
            if let Ok(connection) = self.connect().await
                && let Ok(info) = ServerClient::new(connection).info(InfoRequest {}).await
                && info.get_ref().leader
            {
                return Ok(info.into_inner());
            }
            let log_dir = self.plan.log_dir();
            if let Some(status) = self.scheduler.ended() {
                bail!("the scheduler ended ({status}):\n{}", log_tail(&log_dir, "scheduler"));
            }
            if begun.elapsed() > READY_MAX {
                bail!(
                    "the scheduler does not lead after {} s; its log ends with:\n{}",
                    READY_MAX.as_secs(),
                    log_tail(&log_dir, "scheduler")
                );
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// Starts a child that has ended anew, in its place.
    pub(super) fn restart(log_dir: &Path, role: &mut Role) -> anyhow::Result<()> {
        *role = Role::start(role.spec.clone(), log_dir)?;
        Ok(())
    }

    /// Workers first, so that they can still hand over; then the scheduler.
    pub(super) async fn stop(&mut self) {
        let mut workers = tokio::task::JoinSet::new();
        for mut worker in self.workers.drain(..) {
            workers.spawn(async move { worker.stop().await });
        }
        workers.join_all().await;
        self.scheduler.stop().await;
    }
}
