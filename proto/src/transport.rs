//! How clients and workers reach a scheduler: address forms, connection and credentials.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use flyball_pki::{LiveIdentity, Peer, PinnedRoot};
use hyper_util::rt::TokioIo;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Where a scheduler listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket: `unix:///run/flyball/scheduler.sock` or a bare absolute path.
    Unix(PathBuf),
    /// TCP without TLS, for this machine's loopback: `http://127.0.0.1:7420`.
    Http(String),
    /// TCP with TLS, both sides with certificates: `https://scheduler-1:7420`.
    Https(String),
}

/// An address that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not an address: use unix:///path/to/scheduler.sock, https://host:port or http://127.0.0.1:port"
)]
pub struct InvalidAddress {
    /// What was given.
    pub found: String,
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddress { found: text.to_owned() };
        let path = text.strip_prefix("unix://").or_else(|| text.starts_with('/').then_some(text));
        if let Some(path) = path {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Self::Unix(path)) } else { Err(invalid()) };
        }
        let (scheme, host) = text.split_once("://").ok_or_else(invalid)?;
        let host = host.trim_end_matches('/');
        let (name, port) = host.rsplit_once(':').ok_or_else(invalid)?;
        if name.is_empty() || port.parse::<u16>().is_err() || host.contains(['/', '@']) {
            return Err(invalid());
        }
        match scheme {
            "http" => Ok(Self::Http(format!("http://{host}"))),
            "https" => Ok(Self::Https(format!("https://{host}"))),
            _ => Err(invalid()),
        }
    }
}

impl Address {
    /// Host and port of a TCP address.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let (Self::Http(url) | Self::Https(url)) = self else { return None };
        let (host, port) = url.split_once("://")?.1.rsplit_once(':')?;
        Some((host, port.parse().ok()?))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Http(url) | Self::Https(url) => f.write_str(url),
        }
    }
}

/// What a client shows of itself: a bearer token, put into every request, and an identity for TLS.
#[derive(Clone, Default)]
pub struct Credential {
    bearer: Option<MetadataValue<Ascii>>,
    identity: Option<Arc<LiveIdentity>>,
}

/// A token that cannot be sent in a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the token is empty or has characters that a header cannot carry")]
pub struct InvalidToken;

impl Credential {
    /// Nothing: for Unix sockets, where the directory's permissions decide.
    pub const fn none() -> Self {
        Self { bearer: None, identity: None }
    }

    /// The same with an identity for TLS.
    #[must_use]
    pub fn with_identity(self, identity: Option<Arc<LiveIdentity>>) -> Self {
        Self { identity, ..self }
    }

    /// The identity for TLS.
    pub fn identity(&self) -> Option<&Arc<LiveIdentity>> {
        self.identity.as_ref()
    }

    /// A bearer token; white space around it is dropped.
    ///
    /// # Errors
    /// [`InvalidToken`] when it is empty or not printable ASCII.
    pub fn bearer(token: &str) -> Result<Self, InvalidToken> {
        if token.trim().is_empty() {
            return Err(InvalidToken);
        }
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {}", token.trim()).parse().map_err(|_| InvalidToken)?;
        value.set_sensitive(true);
        Ok(Self { bearer: Some(value), identity: None })
    }

    /// The token itself, for a process of ours that has to show it too.
    pub fn token(&self) -> Option<&str> {
        self.bearer.as_ref()?.to_str().ok()?.strip_prefix("Bearer ")
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bearer = self.bearer.as_ref().map(|_| "***");
        let identity = self.identity.as_ref().map(|identity| identity.dir());
        f.debug_struct("Credential").field("bearer", &bearer).field("identity", &identity).finish()
    }
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.bearer {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A connection that carries a credential; what the generated clients are made over.
pub type Connection = InterceptedService<Channel, Credential>;

/// Longest wait for a connection; a scheduler is on this machine or one network away.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Connects now, so that an error names the address at once.
///
/// # Errors
/// The transport's error when nobody answers there.
pub async fn connect(
    address: &Address,
    credential: Credential,
) -> Result<Connection, tonic::transport::Error> {
    let channel = match address {
        Address::Http(url) => endpoint(Endpoint::from_shared(url.clone())?).connect().await?,
        Address::Https(_) => encrypted(address, credential.identity.clone()).await?,
        Address::Unix(path) => {
            let path = path.clone();
            let dial = tower::service_fn(move |_| {
                let path = path.clone();
                async move {
                    let stream = tokio::net::UnixStream::connect(path).await?;
                    Ok::<_, std::io::Error>(TokioIo::new(stream))
                }
            });
            // The URI is only the authority header; the connector ignores it.
            endpoint(Endpoint::from_static("http://localhost")).connect_with_connector(dial).await?
        }
    };
    Ok(InterceptedService::new(channel, credential))
}

/// A channel over TLS. Each connection that it makes shows the identity as it is at that time.
async fn encrypted(
    address: &Address,
    identity: Option<Arc<LiveIdentity>>,
) -> Result<Channel, tonic::transport::Error> {
    over_tls(address, move |host, port| {
        let identity = identity.clone();
        async move {
            let Some(identity) = identity else {
                let why = "an https:// address needs an identity to show: --identity DIR";
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, why));
            };
            flyball_pki::connect((&host, port), &identity, Peer::Scheduler).await
        }
    })
    .await
}

/// A channel to a scheduler for whoever has no identity yet. Nothing secret may go over one without a
/// pinned authority: it only serves to ask which authority there is.
///
/// # Errors
/// The transport's error, e.g. that the other side is not of the pinned authority.
pub async fn connect_to_join(
    address: &Address,
    root: Option<PinnedRoot>,
) -> Result<Channel, tonic::transport::Error> {
    over_tls(address, move |host, port| {
        let root = root.clone();
        async move {
            match root {
                Some(root) => flyball_pki::connect_trusting((&host, port), &root).await,
                None => flyball_pki::connect_unverified((&host, port)).await,
            }
        }
    })
    .await
}

async fn over_tls<S, F>(
    address: &Address,
    dial: impl Fn(String, u16) -> F + Clone + Send + 'static,
) -> Result<Channel, tonic::transport::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = std::io::Result<S>> + Send + 'static,
{
    let (host, port) = address.host_and_port().unwrap_or_default();
    let host = host.to_owned();
    let connector = tower::service_fn(move |_| {
        let dialled = dial(host.clone(), port);
        async move { Ok::<_, std::io::Error>(TokioIo::new(dialled.await?)) }
    });
    // Plain to the library, because the connector encrypts.
    let plain = address.to_string().replacen("https://", "http://", 1);
    endpoint(Endpoint::from_shared(plain)?).connect_with_connector(connector).await
}

/// After so long without a word the other side is asked, and has as long again to answer: a worker
/// leaves a scheduler that stands still about when its standby has taken over.
const SILENCE_MAX: Duration = Duration::from_secs(3);

fn endpoint(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(SILENCE_MAX)
        .keep_alive_timeout(SILENCE_MAX)
        .keep_alive_while_idle(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        let texts =
            ["unix:///run/x.sock", "http://127.0.0.1:7420", "http://[::1]:80", "https://h:1"];
        for text in texts {
            assert_eq!(text.parse::<Address>().map(|a| a.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn wrong_addresses_are_refused() {
        for text in [
            "",
            "unix://relative",
            "http://host",
            "http://:80",
            "https://x",
            "ftp://x:1",
            "x:1",
            "http://a@b:1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn tokens_are_never_shown() {
        let credential = Credential::bearer(" secret");
        let shown = format!("{credential:?}");
        assert!(!shown.contains("secret"), "{shown}");
        let token = credential.as_ref().map(Credential::token);
        assert_eq!((token, Credential::none().token()), (Ok(Some("secret")), None));
        assert_eq!(Credential::bearer(" ").err(), Some(InvalidToken));
    }
}
