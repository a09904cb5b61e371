//! Listening on a Unix socket, for `etcdctl --endpoints=unix:///…/etcd.sock`. Only on request: the
//! control plane itself uses the in-process channel.

mod authority;
mod filter;

use crate::server::Server;
use filter::Filtered;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;

/// Why a socket could not be listened on. Not retryable without a change from outside.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {}: {source}", path.display())]
pub struct ListenError {
    /// The socket.
    pub path: PathBuf,
    /// What the operating system answered.
    pub source: std::io::Error,
}

/// An open socket; dropping it closes and removes it.
#[derive(Debug)]
pub struct Listening {
    path: PathBuf,
    _until: oneshot::Sender<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Whoever removed it first was right too.
        let _gone = std::fs::remove_file(&self.path);
    }
}

impl Server {
    /// Listens on a Unix socket of this user alone (mode 0600). There is no other authentication:
    /// whoever can open the socket can do everything, so its directory should be private as well.
    /// A socket that an earlier process left behind is replaced; the store's own lock has made
    /// sure that there is no such process any more. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn listen(&self, path: &Path) -> Result<Listening, ListenError> {
        let failed = |source| ListenError { path: path.to_owned(), source };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, private).map_err(failed)?;
        let incoming = UnixListenerStream::new(listener).map(|stream| stream.map(Filtered::new));
        let (until, closed) = oneshot::channel::<()>();
        let routes = self.routes();
        tokio::spawn(async move {
            let ended = async {
                // Resolves when `until` is dropped.
                let _dropped = closed.await;
            };
            let serving = tonic::transport::Server::builder().add_routes(routes);
            if let Err(error) = serving.serve_with_incoming_shutdown(incoming, ended).await {
                tracing::warn!(%error, "the embedded store's socket ended");
            }
        });
        Ok(Listening { path: path.to_owned(), _until: until })
    }
}
