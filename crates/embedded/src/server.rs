//! The server: opening, serving in process or through routes, ending.

use crate::engine::{Engine, HistoryBounds};
use crate::error::OpenError;
use crate::lease::{Lessor, Moment};
use crate::mvcc::State;
use crate::options::Options;
use crate::service::{cluster, kv, lease, maintenance};
use crate::shared::{Identity, News, Shared, ToWriter};
use crate::storage::{self, Storage};
use crate::{watch, writer};
use etcd_client::proto::{
    PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer,
};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;
use tonic::service::Routes;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

/// An etcd v3 API server in this process. Dropping it ends it after its last commit; that blocks
/// for the moment a commit takes.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Opens the store, or makes it. Blocks while it reads the store.
    ///
    /// # Errors
    /// See [`OpenError`]; `InUse` if another server has the directory open.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let started = Instant::now();
        let (engine, inbox) = load(options, &|| started.elapsed())?;
        let shared = Arc::clone(&engine.shared);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(engine, &inbox, started))
            .map_err(OpenError::Thread)?;
        Ok(Self { shared, writer: Mutex::new(Some(writer)) })
    }

    /// Opens a server without a thread of its own: it works while the returned future is polled, on
    /// that runtime's clock. For simulations, which must be able to repeat what happens; elsewhere
    /// its commits would hold up the runtime. Dropping the future is a crash.
    ///
    /// # Errors
    /// As for [`Server::open`].
    pub fn open_driven(
        options: Options,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), OpenError> {
        let (engine, inbox) = load(options, &|| Duration::ZERO)?;
        let shared = Arc::clone(&engine.shared);
        Ok((Self { shared, writer: Mutex::new(None) }, writer::drive(engine, inbox)))
    }

    /// A channel for `etcd_client::Client::from_channel` that calls the services directly, without
    /// any transport.
    pub fn channel(&self) -> etcd_client::Channel {
        let routes = self.routes().prepare();
        let service =
            ServiceExt::<http::Request<tonic::body::Body>>::map_err(routes, tower::BoxError::from);
        etcd_client::Channel::Custom(BoxCloneSyncService::new(service))
    }

    /// The services, to be listened with on a socket.
    pub fn routes(&self) -> Routes {
        let shared = || Arc::clone(&self.shared);
        Routes::new(PbKvServer::new(kv::KvService(shared())))
            .add_service(PbLeaseServer::new(lease::LeaseService(shared())))
            .add_service(PbWatchServer::new(watch::WatchService(shared())))
            .add_service(PbClusterServer::new(cluster::ClusterService(shared())))
            .add_service(PbMaintenanceServer::new(maintenance::MaintenanceService(shared())))
    }

    /// Returns once the server has ended, also when it ended by itself because it could not write.
    /// Whoever depends on it should then end too: opening the store again is the way to go on.
    pub async fn ended(&self) {
        let mut news = self.shared.news();
        while self.shared.read().is_ok() {
            // An error means that nobody is left who could tell, which is an end too.
            if matches!(news.recv().await, Ok(News::Stopped) | Err(RecvError::Closed)) {
                return;
            }
        }
    }

    /// Ends the server: commits and answers what is waiting, ends all watches, closes the store.
    /// Requests made afterwards are refused with `Unavailable`. Calling it again does nothing.
    pub fn shutdown(&self) {
        self.shared.send_stop();
        let writer = self.writer.lock().map_or(None, |mut writer| writer.take());
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the writer of the embedded store died");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Opens the storage and reads it; `now` is the time on the writer's clock.
fn load(
    options: Options,
    now: &dyn Fn() -> Moment,
) -> Result<(Engine, mpsc::Receiver<ToWriter>), OpenError> {
    let chosen = options.seed.unwrap_or_else(|| RandomState::new().hash_one("member"));
    let db = match (options.backend, &options.path) {
        (Some(backend), _) => Some(storage::open_backend(backend)?),
        (None, Some(path)) => Some(storage::open_file(path)?),
        (None, None) => None,
    };
    let mut leases = Lessor::new(options.lease_ttl_seconds_min, first_lease_id(options.seed));
    let (storage, state, member) = match db {
        None => (None, State::empty(), chosen),
        Some(db) => {
            let (storage, found) = Storage::load(db, chosen)?;
            let now = now();
            found.leases.iter().for_each(|(id, ttl)| leases.restore(*id, *ttl, now));
            (Some(storage), found.state, found.member)
        }
    };
    for kv in state.index.range(crate::mvcc::span::Span::From(&[]), state.revision) {
        if kv.lease != 0 {
            leases.attach(kv.lease, &kv.key);
        }
    }
    let (sender, inbox) = mpsc::sync_channel(options.queue_max.max(1));
    let identity = Identity {
        member_id: member,
        client_urls: options.client_urls,
        progress_interval: options.progress_interval,
        file: options.path.map(|path| path.join(storage::FILE)),
    };
    let shared = Arc::new(Shared::new(state, sender, identity));
    let history = HistoryBounds {
        revisions_max: options.history_revisions_max,
        bytes_max: options.history_bytes_max,
    };
    Ok((Engine { shared, leases, storage, history }, inbox))
}

/// Where chosen lease ids start: far apart for any two servers, positive, and with room above.
fn first_lease_id(seed: Option<u64>) -> i64 {
    let random = seed.unwrap_or_else(|| RandomState::new().hash_one("lease"));
    i64::try_from(random >> 2).unwrap_or(1)
}
