//! Listeners: a socket of this user alone, TCP behind a bearer token, or TLS with certificates on both
//! sides. Nothing listens without one of the three.

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;

use flyball_core::identity::Identity;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::service::Routes;
use tonic::service::interceptor::InterceptorLayer;
use tonic::transport::Server;
use tonic::{Request, Status};

use crate::access::AsOwner;
use crate::config::{Listen, RunError};
use crate::plain::Incoming;
use crate::tls::{Admission, Tls};

/// Bound and not serving yet.
pub(crate) enum Listener {
    Unix { listener: UnixListener, address: String },
    Tcp { listener: TcpListener, address: String, token: Token },
    Tls { listener: TcpListener, address: String, tls: Tls },
}

impl Listener {
    /// Binds. `admission`: who is let in over TLS.
    pub(crate) async fn bind(listen: &Listen, admission: &Admission) -> Result<Self, RunError> {
        match listen {
            Listen::Unix(path) => {
                let address = format!("unix://{}", path.display());
                let failed = |source| RunError::Listen { address: address.clone(), source };
                let listener = bind_unix(path).map_err(failed)?;
                Ok(Self::Unix { listener, address })
            }
            Listen::Tcp { addr, token } => {
                let token = Token::new(token)?;
                let (listener, bound) = bind_tcp(*addr).await?;
                Ok(Self::Tcp { listener, address: format!("http://{bound}"), token })
            }
            Listen::Tls { addr, identity } => {
                let who =
                    identity.identity().map_err(|error| RunError::Config(error.to_string()))?;
                if !matches!(who, Identity::Scheduler(_)) {
                    let why = format!(
                        "{} is {who}, and only a scheduler may serve",
                        identity.dir().display()
                    );
                    return Err(RunError::Config(why));
                }
                let (listener, bound) = bind_tcp(*addr).await?;
                let tls = Tls::new(identity.clone(), admission);
                Ok(Self::Tls { listener, address: format!("https://{bound}"), tls })
            }
        }
    }

    /// The address as clients write it.
    pub(crate) fn address(&self) -> &str {
        match self {
            Self::Unix { address, .. } | Self::Tcp { address, .. } | Self::Tls { address, .. } => {
                address
            }
        }
    }

    /// Serves until `stop` resolves.
    pub(crate) async fn serve(
        self,
        routes: Routes,
        stop: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let served = match self {
            Self::Unix { listener, .. } => {
                let incoming = UnixListenerStream::new(listener);
                server()
                    .layer(AsOwner)
                    .add_routes(routes)
                    .serve_with_incoming_shutdown(incoming, stop)
                    .await
            }
            Self::Tcp { listener, token, .. } => {
                let check = InterceptorLayer::new(move |request| token.check(request));
                let server = server().layer(check).layer(AsOwner).add_routes(routes);
                server.serve_with_incoming_shutdown(Incoming(listener), stop).await
            }
            Self::Tls { listener, tls, .. } => {
                let incoming = ReceiverStream::new(tls.clone().incoming(listener));
                let name = InterceptorLayer::new(move |request| tls.name(request));
                let server = server().layer(name).add_routes(routes);
                server.serve_with_incoming_shutdown(incoming, stop).await
            }
        };
        served.map_err(|error| RunError::Serve(error.to_string()))
    }
}

fn server() -> Server {
    // Finds clients that are gone without a word, so that their streams end.
    let interval = std::time::Duration::from_secs(10);
    Server::builder()
        .http2_keepalive_interval(Some(interval))
        .http2_keepalive_timeout(Some(interval / 2))
}

async fn bind_tcp(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let failed = |source| RunError::Listen { address: addr.to_string(), source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Binds in a directory that only this user can enter, and replaces a socket that nobody listens
/// on any more.
fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(dir) = path.parent()
        && !dir.exists()
    {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    if path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let message = "another process listens on this socket";
            return Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, message));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The bearer token that every request over TCP must carry.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    fn new(token: &str) -> Result<Self, RunError> {
        let token = token.trim();
        if token.is_empty() {
            let message = "listening on TCP needs a token; there is no anonymous mode";
            return Err(RunError::Config(message.to_owned()));
        }
        Ok(Self(token.to_owned()))
    }

    fn check(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let given = request.metadata().get("authorization").map(|value| value.as_bytes());
        let given = given.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
        if equal_in_constant_time(given, self.0.as_bytes()) {
            Ok(request)
        } else {
            Err(Status::unauthenticated("a valid bearer token is needed"))
        }
    }
}

/// Takes the same time wherever the texts differ, so that a token cannot be guessed byte by byte.
fn equal_in_constant_time(given: &[u8], expected: &[u8]) -> bool {
    let mut difference = u8::from(given.len() != expected.len());
    for (index, byte) in expected.iter().enumerate() {
        difference |= byte ^ given.get(index).copied().unwrap_or_default();
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_whole() {
        let token = Token::new(" secret\n").unwrap();
        let with = |value: &str| {
            let mut request = Request::new(());
            request.metadata_mut().insert("authorization", value.parse().unwrap());
            token.check(request).is_ok()
        };
        assert!(with("Bearer secret"));
        for wrong in ["Bearer secre", "Bearer secrets", "Bearer ", "secret", "bearer secret"] {
            assert!(!with(wrong), "{wrong}");
        }
        assert!(token.check(Request::new(())).is_err());
        assert!(Token::new(" ").is_err(), "there is no anonymous mode");
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own").join("s.sock");
        let first = bind_unix(&path).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(bind_unix(&path).is_err());
        drop(first);
        bind_unix(&path).unwrap();
    }
}
