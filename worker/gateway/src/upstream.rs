//! Connections to providers: pooled HTTP/1.1, plain or under TLS with the host's own roots.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use flyball_core::model::{Protocol, ProviderSpec};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// Most connections to one provider that are kept without use: as many as a run's calls.
const IDLE_MAX: usize = 64;

/// How long they are kept. Servers close idle connections after 60 to 75 s mostly; being earlier avoids the race.
const IDLE_TIME_MAX: Duration = Duration::from_secs(50);

type Body = Full<Bytes>;

/// Why a provider could not be asked, or did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// No connection: the provider has seen nothing.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection ended before an answer; what the provider did is not known.
    #[error("no answer: {0}")]
    Gone(String),
    /// No byte of an answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The address or a header of the provider's definition is none.
    #[error("the provider's definition cannot be used: {0}")]
    Definition(String),
}

/// Clients of all providers; connections are shared by all runs of a worker.
#[derive(Debug)]
pub(crate) struct Upstreams {
    plain: Client<HttpConnector, Body>,
    connect_max: Duration,
    /// Made when the first provider with https is asked: a host without root certificates can still use others.
    secured: OnceLock<Result<Client<HttpsConnector<HttpConnector>, Body>, String>>,
}

impl Upstreams {
    pub(crate) fn new(connect_max: Duration) -> Self {
        let plain = client(connector(connect_max));
        Self { plain, connect_max, secured: OnceLock::new() }
    }

    fn secured(&self) -> Result<&Client<HttpsConnector<HttpConnector>, Body>, SendError> {
        let made = self.secured.get_or_init(|| {
            let roots = HttpsConnectorBuilder::new().with_native_roots();
            let roots =
                roots.map_err(|error| format!("no root certificates on this host: {error}"))?;
            let mut tcp = connector(self.connect_max);
            tcp.enforce_http(false);
            Ok(client(roots.https_only().enable_http1().wrap_connector(tcp)))
        });
        made.as_ref().map_err(|error| SendError::Connect(error.clone()))
    }

    /// Sends a request and waits for the head of the answer. Redirects are not followed. Dropped, it ends the
    /// connection, so that the provider stops.
    ///
    /// # Errors
    /// [`SendError::Connect`] and [`SendError::Gone`].
    pub(crate) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, SendError> {
        let secured = request.uri().scheme_str() == Some("https");
        let sent =
            if secured { self.secured()?.request(request) } else { self.plain.request(request) };
        sent.await.map_err(|error| {
            let text = reasons(&error);
            if error.is_connect() { SendError::Connect(text) } else { SendError::Gone(text) }
        })
    }
}

fn connector(connect_max: Duration) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    // Small writes must not wait for delayed acknowledgements.
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_max));
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    tcp
}

fn client<C>(connector: C) -> Client<C, Body>
where
    C: hyper_util::client::legacy::connect::Connect + Clone,
{
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME_MAX)
        .pool_max_idle_per_host(IDLE_MAX)
        .build(connector)
}

/// An error with what caused it, on one line.
pub(crate) fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// Where a call goes: the provider's base, the protocol's path, the client's query and the provider's own.
///
/// # Errors
/// [`SendError::Definition`] when that is no address.
pub(crate) fn target(
    provider: &ProviderSpec,
    path: &str,
    client_query: Option<&str>,
) -> Result<Uri, SendError> {
    let base = provider.base_url.trim_end_matches('/');
    let mut address = String::with_capacity(base.len() + path.len() + 32);
    address.push_str(base);
    address.push_str(path);
    let queries = [client_query, provider.query.as_deref()];
    for (at, query) in queries.into_iter().flatten().filter(|query| !query.is_empty()).enumerate() {
        address.push(if at == 0 { '?' } else { '&' });
        address.push_str(query);
    }
    address.parse().map_err(|error| SendError::Definition(format!("{address}: {error}")))
}

/// A protocol's path behind the base URL, as the vendor's own clients put it.
pub(crate) const fn path(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Anthropic => "/v1/messages",
        Protocol::Chat => "/chat/completions",
        Protocol::Responses => "/responses",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_put_together_as_the_vendors_clients_do() {
        let at = |base: &str, protocol, query: Option<&str>, own: Option<&str>| {
            let spec: ProviderSpec = serde_json::from_value(serde_json::json!({
                "baseUrl": base, "protocols": ["chat"], "query": own,
            }))
            .unwrap();
            target(&spec, path(protocol), query).map(|uri| uri.to_string())
        };
        let api = "https://api.anthropic.com";
        for (found, expected) in [
            (at(api, Protocol::Anthropic, None, None), "https://api.anthropic.com/v1/messages"),
            (
                at("http://h:1/", Protocol::Anthropic, Some("beta=true"), None),
                "http://h:1/v1/messages?beta=true",
            ),
            (
                at("http://h:1/v1", Protocol::Chat, Some(""), Some("api-version=1")),
                "http://h:1/v1/chat/completions?api-version=1",
            ),
            (
                at("http://h:1/v1", Protocol::Responses, Some("a=b"), Some("c=d")),
                "http://h:1/v1/responses?a=b&c=d",
            ),
        ] {
            assert_eq!(found.as_deref(), Ok(expected));
        }
        assert!(at("http://not a host", Protocol::Chat, None, None).is_err());
    }
}
