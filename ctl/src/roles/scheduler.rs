//! `flyball scheduler`: the control plane's API and leader, on its own store or on etcd.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use flyball_core::quantity::Span;
use flyball_pki::LiveIdentity;
use flyball_proto::transport::Address;
use flyball_scheduler::{Config, Listen, SIGNED_NODE_LIFETIME, SecretKeys, Signer, StoreChoice};

use super::{dirs, signals};
use crate::paths;

/// Options of `flyball scheduler`.
#[derive(Debug, Clone, Args)]
pub struct SchedulerArgs {
    /// Endpoints of an etcd cluster; without it the scheduler brings its own store
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    etcd: Vec<String>,
    /// Directory with ca.pem, cert.pem and key.pem to show to etcd at https:// endpoints
    #[arg(long, value_name = "DIR", requires = "etcd")]
    etcd_identity: Option<PathBuf>,
    /// Where the embedded store and the default socket are
    #[arg(long, value_name = "DIR", env = "FLYBALL_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Serve the embedded store to `etcdctl` too, on this Unix socket of yours alone
    #[arg(long, value_name = "PATH", env = "FLYBALL_STORE_SOCKET")]
    store_socket: Option<PathBuf>,
    /// Addresses to listen on: unix:///path, https://address:port (requires --identity), or
    /// http://127.0.0.1:port (requires --token-file)
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<Address>,
    /// Listen without TLS beyond this machine too: whoever can read the network can read the token
    #[arg(long)]
    allow_unencrypted: bool,
    /// File with the token that TCP clients must show
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Address that workers are sent to; the first of --listen if absent
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<Address>,
    /// File with the key that seals secrets, the same for all schedulers; made if it does not exist [default: secrets.key
    /// in the data directory, with the embedded store]
    #[arg(long, value_name = "FILE")]
    secrets_key: Option<PathBuf>,
    /// Directory of an authority (ca.pem, ca-key.pem): sign with it for nodes that join with a token, and
    /// for whoever renews. Who can read the key there can be anybody: give it to one or two schedulers
    #[arg(long, value_name = "DIR", env = "FLYBALL_SIGN_WITH")]
    sign_with: Option<PathBuf>,
    /// Life of the certificates that are signed for nodes, 10s to 400d; they are renewed by themselves
    /// after two thirds of it [default: 7d]
    #[arg(long, value_name = "DURATION", requires = "sign_with")]
    node_certificate_life: Option<Span>,
    /// Name of this scheduler among others; random if absent
    #[arg(long)]
    id: Option<String>,
    /// Time to live of all nodes' leases in seconds, 2 to 300, whatever workers ask for [default:
    /// what each worker asks for, else 6]
    #[arg(long, value_name = "SECONDS", value_parser = super::ttl())]
    session_ttl: Option<i64>,
    /// Time to live of the leadership in seconds, 2 to 300
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = super::ttl())]
    election_ttl: i64,
    /// For how long providers count what was used of a minute's quota, in seconds; other than 62 for tests only
    #[arg(long, value_name = "SECONDS", default_value_t = 62, hide = true)]
    quota_window: u64,
    /// End when standard input closes
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

/// Runs the scheduler until it is asked to end.
pub(super) async fn run(args: SchedulerArgs, identity: Option<PathBuf>) -> anyhow::Result<()> {
    let shutdown = signals::shutdown(args.until_stdin_closes);
    let config = config(args, identity)?;
    flyball_scheduler::run(config, shutdown, |bound| {
        tracing::info!(addresses = bound.addresses.join(", "), "listening");
    })
    .await
    .context("scheduler")
}

fn config(args: SchedulerArgs, identity: Option<PathBuf>) -> anyhow::Result<Config> {
    let token = args.token_file.as_deref().map(dirs::read_token).transpose()?;
    let mut addresses = args.listen;
    let mut data_dir = None;
    if args.etcd.is_empty() || addresses.is_empty() {
        let dir = dirs::data_dir(args.data_dir)?;
        if addresses.is_empty() {
            addresses.push(Address::Unix(paths::scheduler_socket(&dir)));
        }
        data_dir = Some(dir);
    }
    let own = data_dir.as_ref().filter(|_| args.etcd.is_empty()).map(|dir| dir.join("secrets.key"));
    let secret_keys = args.secrets_key.or(own).map(|path| secret_keys(&path)).transpose()?;
    let store = match data_dir {
        Some(dir) if args.etcd.is_empty() => {
            StoreChoice::Embedded { dir: dir.join("store"), socket: args.store_socket }
        }
        _ => StoreChoice::Etcd {
            endpoints: args.etcd,
            identity: dirs::identity(args.etcd_identity).context("--etcd-identity")?,
        },
    };
    let identity = dirs::identity(identity)?;
    let life = args.node_certificate_life.map_or(SIGNED_NODE_LIFETIME, |span| span.0);
    let signer = args.sign_with.as_deref().map(|dir| Signer::open(dir, life));
    let signer = signer.transpose().context("--sign-with")?;
    let listening = Listening { token, identity, allow_unencrypted: args.allow_unencrypted };
    let listen = addresses.iter().map(|address| listening.on(address));
    Ok(Config {
        store,
        listen: listen.collect::<anyhow::Result<_>>()?,
        id: args.id.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string()),
        advertise: args.advertise.map(|address| address.to_string()),
        session_ttl: args.session_ttl.map(|ttl| Duration::from_secs(ttl.unsigned_abs())),
        election_ttl: Duration::from_secs(args.election_ttl.unsigned_abs()),
        secret_keys,
        quota_window: Duration::from_secs(args.quota_window),
        signer,
        ambient: flyball_scheduler::ambient(),
    })
}

/// Reads the key file, or makes it where there is none.
fn secret_keys(path: &Path) -> anyhow::Result<SecretKeys> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("--secrets-key {}", path.display()))?;
    }
    Ok(SecretKeys::at(path)?)
}

/// What listeners prove themselves with and ask for.
struct Listening {
    token: Option<String>,
    identity: Option<Arc<LiveIdentity>>,
    allow_unencrypted: bool,
}

impl Listening {
    fn on(&self, address: &Address) -> anyhow::Result<Listen> {
        let addr = || -> anyhow::Result<SocketAddr> {
            let text = address.to_string();
            let addr = text.split_once("://").map_or("", |(_, addr)| addr).parse();
            addr.with_context(|| {
                format!("--listen {text}: give an IP address and a port, e.g. https://0.0.0.0:7420")
            })
        };
        match address {
            Address::Unix(path) => Ok(Listen::Unix(path.clone())),
            Address::Https(url) => {
                let identity = self.identity.clone().with_context(|| {
                    format!("listening on {url} requires --identity, a scheduler's: flyball pki issue --scheduler")
                })?;
                Ok(Listen::Tls { addr: addr()?, identity })
            }
            Address::Http(url) => {
                let token = self.token.clone().with_context(|| {
                    format!("listening on {url} requires --token-file: nothing listens without it")
                })?;
                let addr = addr()?;
                anyhow::ensure!(
                    addr.ip().is_loopback() || self.allow_unencrypted,
                    "--listen {url} is not encrypted, and {} is not this machine's loopback: whoever can read \
                     the network could read the token. Use https:// with --identity, or name the exception: \
                     --allow-unencrypted",
                    addr.ip()
                );
                Ok(Listen::Tcp { addr, token })
            }
        }
    }
}
