//! The way to a scheduler: a Unix socket or HTTP with a bearer token, and one client per service.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use flyball_proto::v1::events_client::EventsClient;
use flyball_proto::v1::logs_client::LogsClient;
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::nodes_client::NodesClient;
use flyball_proto::v1::server_client::ServerClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::paths;

/// Longest wait for a connection to be made: beyond it the scheduler is as good as not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Rhythm of the pings that tell a dead connection from a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Largest answer that is accepted: a list of 10,000 loops of some KiB each.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where a scheduler listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket, written `unix:///path` or as a bare absolute path.
    Unix(PathBuf),
    /// `http://host:port`.
    Http(String),
}

/// Text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address: use unix:///path/to/scheduler.sock or http://host:port")]
pub struct InvalidAddress(pub String);

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddress(text.to_owned());
        if let Some(path) =
            text.strip_prefix("unix://").or_else(|| text.starts_with('/').then_some(text))
        {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Self::Unix(path)) } else { Err(invalid()) };
        }
        let host = text.strip_prefix("http://").ok_or_else(invalid)?.trim_end_matches('/');
        let (name, port) = host.rsplit_once(':').ok_or_else(invalid)?;
        if name.is_empty() || port.parse::<u16>().is_err() || host.contains(['/', '@']) {
            return Err(invalid());
        }
        Ok(Self::Http(format!("http://{host}")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Http(url) => f.write_str(url),
        }
    }
}

impl Address {
    /// The socket of `flyball up` for this user; `None` when no home directory is known.
    pub fn of_this_user() -> Option<Self> {
        paths::data_dir().map(|dir| Self::Unix(paths::scheduler_socket(&dir)))
    }
}

/// Adds the bearer token to every request.
#[derive(Debug, Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A connection that carries the token.
pub type Transport = InterceptedService<Channel, Bearer>;

/// One client per service, all over one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Loops and claims.
    pub loops: LoopsClient<Transport>,
    /// Nodes.
    pub nodes: NodesClient<Transport>,
    /// Events.
    pub events: EventsClient<Transport>,
    /// Output of agents and checks.
    pub logs: LogsClient<Transport>,
    /// The server itself.
    pub server: ServerClient<Transport>,
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers; may be tried again.
    #[error("no scheduler answers at {address}: {cause}")]
    Unreachable {
        /// The address that was tried.
        address: Address,
        /// What the operating system said.
        cause: String,
    },
    /// The token has characters that no header may carry; trying again does not help.
    #[error("the token is not usable: it must be printable ASCII")]
    InvalidToken,
}

/// Connects to a scheduler.
///
/// # Errors
/// [`ConnectError`] when nobody answers within 5 seconds or the token cannot be sent.
pub async fn connect(address: &Address, token: Option<&str>) -> Result<Clients, ConnectError> {
    let bearer = bearer(token)?;
    let unreachable = |error: tonic::transport::Error| ConnectError::Unreachable {
        address: address.clone(),
        cause: root_cause(&error),
    };
    let endpoint = Endpoint::from_shared(address.to_string()).map_err(unreachable)?;
    let channel = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .connect()
        .await
        .map_err(unreachable)?;
    Ok(Clients::over(channel, bearer))
}

impl Clients {
    fn over(channel: Channel, bearer: Bearer) -> Self {
        let transport = InterceptedService::new(channel, bearer);
        let loops = LoopsClient::new(transport.clone());
        Self {
            loops: loops.max_decoding_message_size(ANSWER_BYTES_MAX),
            nodes: NodesClient::new(transport.clone()).max_decoding_message_size(ANSWER_BYTES_MAX),
            events: EventsClient::new(transport.clone()),
            logs: LogsClient::new(transport.clone()),
            server: ServerClient::new(transport),
        }
    }
}

fn bearer(token: Option<&str>) -> Result<Bearer, ConnectError> {
    let Some(token) = token else { return Ok(Bearer(None)) };
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {token}").parse().map_err(|_| ConnectError::InvalidToken)?;
    value.set_sensitive(true);
    Ok(Bearer(Some(value)))
}

/// The innermost error: transports wrap "no such file" in layers that say nothing.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    // Bounded against an error that is its own source.
    for _ in 0..16 {
        let Some(inner) = cause.source() else { break };
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for text in ["unix:///run/x.sock", "http://10.0.0.1:7070", "http://[::1]:7070"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("/run/x".parse::<Address>().unwrap(), Address::Unix("/run/x".into()));
        assert_eq!("http://a:1/".parse::<Address>().unwrap(), Address::Http("http://a:1".into()));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", "unix://rel", "http://host", "https://a:1", "a:1", "http://:1", "http://a:1/x"]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_with_a_newline_is_refused() {
        assert!(matches!(bearer(Some("a\nb")), Err(ConnectError::InvalidToken)));
        assert!(bearer(Some("abc")).is_ok());
    }
}
