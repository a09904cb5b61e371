//! Opening the store that was chosen: an embedded one or a real etcd cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flyball_embedded::{Listening, Options, Server};
use flyball_store::{Store, StoreError};

use crate::config::{RunError, StoreChoice};

/// How long a store that does not answer is waited for at the start: a cluster that starts at the
/// same time needs some seconds for its first election.
const PATIENCE: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(200);

/// An open store.
pub(crate) struct Opened {
    pub(crate) store: Store,
    /// `embedded` or `etcd <version>`.
    pub(crate) name: String,
    /// The embedded server, kept alive with what is open; it ends after its last commit.
    server: Option<Embedded>,
}

struct Embedded {
    /// Closed before the server ends.
    _listening: Option<Listening>,
    server: Server,
    dir: PathBuf,
}

impl Opened {
    /// Returns when an embedded store has ended by itself, because it could not write any more.
    pub(crate) async fn failed(&self) -> RunError {
        let Some(embedded) = &self.server else { return std::future::pending().await };
        embedded.server.ended().await;
        let message = "it could not write and has stopped; the log says why".to_owned();
        RunError::Embedded { dir: embedded.dir.clone(), message }
    }

    /// Ends an embedded store after its last commit.
    pub(crate) async fn close(self) {
        drop(self.store);
        // Ending waits for the disk.
        let ended = tokio::task::spawn_blocking(|| drop(self.server)).await;
        if let Err(error) = ended {
            tracing::error!(%error, "the embedded store did not end cleanly");
        }
    }
}

/// Opens or connects.
pub(crate) async fn open(choice: &StoreChoice) -> Result<Opened, RunError> {
    match choice {
        StoreChoice::Etcd { endpoints, identity } => {
            let store = Store::connect_as(endpoints, identity.clone()).await?;
            let version = version(&store, &endpoints.join(", ")).await?;
            crate::diagnose::warn_of_version(&version);
            Ok(Opened { store, name: format!("etcd {version}"), server: None })
        }
        StoreChoice::Embedded { dir, socket } => {
            embedded(Options::at(dir), dir, socket.as_deref()).await
        }
        StoreChoice::Memory => embedded(Options::in_memory(), Path::new("memory"), None).await,
    }
}

async fn embedded(options: Options, dir: &Path, socket: Option<&Path>) -> Result<Opened, RunError> {
    let failed = |message: String| RunError::Embedded { dir: dir.to_owned(), message };
    // Opening reads the whole store from the disk.
    let opened = tokio::task::spawn_blocking(|| Server::open(options)).await;
    let server = opened
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))?;
    let store = Store::from_channel(server.channel()).await?;
    // Whoever led on this store was the process that had its file open, and that was exclusive: it
    // is gone, so there is no need to wait for its lease to end.
    if let Some(leader) = store.leader().await? {
        store.revoke(leader.lease).await?;
    }
    let listening = socket.map(|path| server.listen(path)).transpose();
    let listening = listening.map_err(|error| failed(error.to_string()))?;
    let server = Some(Embedded { server, dir: dir.to_owned(), _listening: listening });
    Ok(Opened { store, name: "embedded".to_owned(), server })
}

/// Rhythm of the lines that say what is waited for.
const SAY_AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// The server's version, waited for a while.
async fn version(store: &Store, endpoints: &str) -> Result<String, StoreError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut said = None;
    loop {
        match store.status().await {
            Ok(status) => return Ok(status.version),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            Err(error) => {
                let now = tokio::time::Instant::now();
                if said.is_none_or(|said| now.duration_since(said) > SAY_AGAIN) {
                    tracing::warn!(%error, "waiting for etcd at {endpoints}");
                    said = Some(now);
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
