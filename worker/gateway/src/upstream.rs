//! Asking providers: HTTP/1.1 over connections that are kept, plain or under TLS with the host's own roots.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use flyball_core::model::{Protocol, ProviderSpec};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tower::Service as _;

use crate::link::{Idle, Unsent, Upstream};

type Body = Full<Bytes>;

/// Why a provider could not be asked, or did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// No connection: the provider has seen nothing.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Whoever is there does not prove to be the provider: it has seen nothing.
    #[error(
        "its certificate is refused: {0} (trusted are the authorities of the worker's host, or those in SSL_CERT_FILE \
         or SSL_CERT_DIR of its environment)"
    )]
    Certificate(String),
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

/// Connections to all providers; they are shared by all runs of a worker.
#[derive(Debug)]
pub(crate) struct Upstreams {
    idle: Arc<Idle>,
    plain: HttpConnector,
    /// Made when the first provider with https is asked: a host without root certificates can still use others.
    secured: OnceLock<Result<HttpsConnector<HttpConnector>, String>>,
}

impl Upstreams {
    pub(crate) fn new(connect_max: Duration) -> Self {
        let mut plain = HttpConnector::new();
        // Small writes must not wait for delayed acknowledgements.
        plain.set_nodelay(true);
        plain.set_connect_timeout(Some(connect_max));
        plain.set_keepalive(Some(Duration::from_secs(60)));
        plain.enforce_http(false);
        Self { idle: Arc::default(), plain, secured: OnceLock::new() }
    }

    fn secured(&self) -> Result<HttpsConnector<HttpConnector>, SendError> {
        let made = self.secured.get_or_init(|| {
            let roots = HttpsConnectorBuilder::new().with_native_roots();
            let roots =
                roots.map_err(|error| format!("no root certificates on this host: {error}"))?;
            Ok(roots.https_only().enable_http1().wrap_connector(self.plain.clone()))
        });
        made.clone().map_err(SendError::Connect)
    }

    /// Sends a request and waits for the head of the answer. Redirects are not followed. Dropped, it ends the
    /// connection, so that the provider stops.
    ///
    /// # Errors
    /// All but [`SendError::Silent`].
    pub(crate) async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Upstream>, SendError> {
        let uri = request.uri().clone();
        let (scheme, authority) = uri
            .scheme_str()
            .zip(uri.authority())
            .ok_or_else(|| SendError::Definition(format!("{uri} is no address")))?;
        let host = format!("{scheme}://{authority}");
        origin_form(&mut request, &uri)?;
        let request = match self.idle.send(&host, request).await {
            Ok(response) => return Ok(response),
            Err(Unsent::Gone(error)) => return Err(SendError::Gone(reasons(&error))),
            Err(Unsent::Before(request)) => *request,
        };
        let sent = if scheme == "https" {
            let stream = self.secured()?.call(uri.clone()).await;
            let stream = stream.map_err(|error| unsecured(reasons(error.as_ref())))?;
            self.idle.send_new(stream, &host, request).await
        } else {
            let stream = self.plain.clone().call(uri.clone()).await;
            let stream = stream.map_err(|error| SendError::Connect(reasons(&error)))?;
            self.idle.send_new(stream, &host, request).await
        };
        sent.map_err(|unsent| match unsent {
            Unsent::Before(_) => SendError::Connect("the connection was closed at once".to_owned()),
            Unsent::Gone(error) => SendError::Gone(reasons(&error)),
        })
    }
}

/// Why no secured connection came to be, by the words of rustls: its types are behind those of the connector.
fn unsecured(why: String) -> SendError {
    match why.split_once("invalid peer certificate: ") {
        Some((_, what)) => SendError::Certificate(what.to_owned()),
        None => SendError::Connect(why),
    }
}

/// A request as an origin server takes it: the host in a header, path and query in the first line.
fn origin_form(request: &mut Request<Body>, uri: &Uri) -> Result<(), SendError> {
    let bad = |what: &str| SendError::Definition(format!("{uri}: {what}"));
    let authority = uri.authority().ok_or_else(|| bad("no host"))?;
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    let host = http::HeaderValue::from_str(host).map_err(|_| bad("no host"))?;
    request.headers_mut().insert(http::header::HOST, host);
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    *request.uri_mut() = path.parse().map_err(|_| bad("no path"))?;
    Ok(())
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
