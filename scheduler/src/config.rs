//! What a scheduler is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flyball_core::ambient::Ambient;
use flyball_pki::LiveIdentity;

use crate::secrets::SecretKeys;
use crate::signing::Signer;

/// Where the state lives.
#[derive(Debug, Clone)]
pub enum StoreChoice {
    /// An etcd server inside this process, over a file in this directory.
    Embedded {
        /// Directory of the store's file; made if it is missing.
        dir: PathBuf,
        /// Where it listens for `etcdctl` too, if it does; a socket of this user alone.
        socket: Option<PathBuf>,
    },
    /// An etcd server inside this process that forgets everything at its end; for tests.
    Memory,
    /// A real etcd cluster.
    Etcd {
        /// Its endpoints, e.g. `http://127.0.0.1:2379`.
        endpoints: Vec<String>,
        /// What etcd is shown at `https://` endpoints.
        identity: Option<Arc<LiveIdentity>>,
    },
}

/// Where a scheduler listens.
#[derive(Clone)]
pub enum Listen {
    /// A socket of this user, in a directory of this user alone.
    Unix(PathBuf),
    /// A TCP port; every request must carry the token.
    Tcp {
        /// Address to bind; port 0 takes a free one.
        addr: SocketAddr,
        /// Bearer token; never empty.
        token: String,
    },
    /// A TCP port with TLS: every caller must show a certificate, and is who that says.
    Tls {
        /// Address to bind; port 0 takes a free one.
        addr: SocketAddr,
        /// What the scheduler shows; a scheduler's identity.
        identity: Arc<LiveIdentity>,
    },
}

impl std::fmt::Debug for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => f.debug_tuple("Unix").field(path).finish(),
            Self::Tcp { addr, .. } => f.debug_struct("Tcp").field("addr", addr).finish(),
            Self::Tls { addr, .. } => f.debug_struct("Tls").field("addr", addr).finish(),
        }
    }
}

/// Everything a scheduler needs to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the state lives.
    pub store: StoreChoice,
    /// Where to listen; at least one.
    pub listen: Vec<Listen>,
    /// Name of this scheduler, shown as the leader's.
    pub id: String,
    /// Address that clients and workers reach this scheduler at (`unix:///…` or `http://…`); taken
    /// from the first listener if absent.
    pub advertise: Option<String>,
    /// Time to live of all nodes' leases, 2 to 300 seconds, whatever workers ask for; `None`: each
    /// gets what it asks for, or the default. See `flyball_core::lease` for the bounds.
    pub session_ttl: Option<Duration>,
    /// Time to live of the leader's lease: how long a dead leader blocks the next one.
    pub election_ttl: Duration,
    /// What seals secrets; without it there are none.
    pub secret_keys: Option<SecretKeys>,
    /// For how long providers count what was used of their quotas.
    pub quota_window: Duration,
    /// What signs certificates of nodes that join and of whoever renews; needs a listener with TLS.
    pub signer: Option<Signer>,
    /// Where times for people, ids and jitter come from.
    pub ambient: Ambient,
}

/// The real one: the wall clock and the system's random numbers.
pub fn ambient() -> Ambient {
    Ambient::new(jiff::Timestamp::now, rand::random)
}

impl Config {
    /// What this scheduler shows to callers over TLS, if it listens there.
    pub(crate) fn identity(&self) -> Option<Arc<LiveIdentity>> {
        self.listen.iter().find_map(|listen| match listen {
            Listen::Tls { identity, .. } => Some(identity.clone()),
            Listen::Unix(_) | Listen::Tcp { .. } => None,
        })
    }

    /// A scheduler with the usual times.
    pub fn new(store: StoreChoice, listen: Vec<Listen>) -> Self {
        Self {
            store,
            listen,
            id: format!("scheduler-{}", std::process::id()),
            advertise: None,
            session_ttl: None,
            election_ttl: Duration::from_secs(5),
            secret_keys: None,
            quota_window: flyball_core::model::QUOTA_WINDOW,
            signer: None,
            ambient: ambient(),
        }
    }
}

/// Where a scheduler listens, once it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Addresses as clients write them: `unix:///…`, `http://…`.
    pub addresses: Vec<String>,
}

/// Why a scheduler could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot work.
    #[error("the configuration cannot work: {0}")]
    Config(String),
    /// The embedded store could not be opened, or could not write any more.
    #[error("the embedded store in {dir} cannot be used: {message}")]
    Embedded {
        /// Its directory.
        dir: PathBuf,
        /// Why.
        message: String,
    },
    /// The store could not be used.
    #[error("the store cannot be used: {0}")]
    Store(#[from] flyball_store::StoreError),
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server ended by itself.
    #[error("the server failed: {0}")]
    Serve(String),
}

impl RunError {
    /// True when the same start may succeed later without any change to the configuration.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable() || error.is_unknown(),
            Self::Config(_) | Self::Embedded { .. } | Self::Listen { .. } | Self::Serve(_) => false,
        }
    }
}
