//! Which headers pass: as few as possible are touched, in either direction.

use std::time::Duration;

use flyball_core::model::AuthScheme;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, EXPECT,
    HOST, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RETRY_AFTER, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Of one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION];

/// A client's headers that do not go to a provider: credentials of the run, what is set anew, and what would tell a
/// provider about this installation.
const NOT_UPSTREAM: [HeaderName; 6] =
    [HOST, CONTENT_LENGTH, EXPECT, ACCEPT_ENCODING, AUTHORIZATION, COOKIE];

/// The same by names that have no constants.
const NOT_UPSTREAM_NAMES: [&str; 9] = [
    "x-api-key",
    "api-key",
    "keep-alive",
    "proxy-connection",
    "traceparent",
    "tracestate",
    "baggage",
    // They would choose who is billed at the account.
    "openai-organization",
    "openai-project",
];

/// Names of our own begin so.
const OURS: &str = "x-flyball-";

fn is_hop_by_hop(name: &HeaderName, headers: &HeaderMap) -> bool {
    let listed = |value: &HeaderValue| {
        let names = value.to_str().unwrap_or_default().split(',');
        names.map(str::trim).any(|listed| listed.eq_ignore_ascii_case(name.as_str()))
    };
    HOP_BY_HOP.contains(name)
        || name == "keep-alive"
        || headers.get_all(CONNECTION).iter().any(listed)
}

/// The headers of a request to a provider: all of the client's but those that may not pass.
pub(crate) fn upstream(client: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(client.len() + 4);
    for (name, value) in client {
        let dropped = NOT_UPSTREAM.contains(name)
            || NOT_UPSTREAM_NAMES.contains(&name.as_str())
            || name.as_str().starts_with(OURS)
            || is_hop_by_hop(name, client);
        if !dropped {
            headers.append(name, value.clone());
        }
    }
    // A compressed answer could not be metered as it passes.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// The header that carries a provider's key. `None` for a key that no header can carry.
pub(crate) fn credential(scheme: AuthScheme, key: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, text) = match scheme {
        AuthScheme::Bearer => (AUTHORIZATION, format!("Bearer {key}")),
        AuthScheme::XApiKey => (HeaderName::from_static("x-api-key"), key.to_owned()),
        AuthScheme::ApiKey => (HeaderName::from_static("api-key"), key.to_owned()),
    };
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// The headers of an answer to the client: all of the provider's but those of its connection, the limits of an
/// account that is not the client's, cookies, and where it would have been sent.
pub(crate) fn downstream(provider: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(provider.len() + 2);
    for (name, value) in provider {
        let text = name.as_str();
        let dropped = is_hop_by_hop(name, provider)
            || text.starts_with("anthropic-ratelimit-")
            || text.starts_with("x-ratelimit-")
            || name == SET_COOKIE
            || name == LOCATION
            || name == CONTENT_LENGTH;
        if !dropped {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// The coding of a body that is not plain: what cannot be read cannot be metered.
pub(crate) fn foreign_coding(headers: &HeaderMap) -> Option<String> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let foreign = codings.find(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))?;
    Some(foreign.to_str().unwrap_or("something").to_owned())
}

/// When a provider wants to be asked again: `retry-after-ms`, or `retry-after` in seconds. (A date is a wall
/// clock's word, and no provider here sends one.)
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0);
    let seconds = seconds.or_else(|| number(RETRY_AFTER.as_str()))?;
    // At most a day: beyond it the deployment is asked again, and says so again.
    Duration::try_from_secs_f64(seconds.clamp(0.0, 86_400.0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn credentials_and_connection_stay_here_and_the_rest_passes_unchanged() {
        let passed = upstream(&map(&[
            ("host", "127.0.0.1:1"),
            ("authorization", "Bearer run-key"),
            ("x-api-key", "run-key"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("cookie", "a=b"),
            ("traceparent", "00-1-2-01"),
            ("x-flyball-subtask", "small"),
            ("openai-organization", "org-1"),
            ("openai-project", "proj-1"),
            ("accept-encoding", "gzip, br"),
            ("content-length", "12"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a-2026,b-2026"),
            ("anthropic-unheard-of", "1"),
            ("x-stainless-lang", "js"),
        ]));
        let expected = map(&[
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a-2026,b-2026"),
            ("anthropic-unheard-of", "1"),
            ("x-stainless-lang", "js"),
            ("accept-encoding", "identity"),
        ]);
        assert_eq!(passed, expected);
    }

    #[test]
    fn limits_of_the_account_and_redirects_stay_here() {
        let passed = downstream(&map(&[
            ("content-type", "text/event-stream"),
            ("request-id", "req_1"),
            ("retry-after", "3"),
            ("anthropic-ratelimit-tokens-limit", "9"),
            ("x-ratelimit-remaining-requests", "9"),
            ("set-cookie", "a=b"),
            ("location", "http://elsewhere.example"),
            ("transfer-encoding", "chunked"),
        ]));
        let expected = map(&[
            ("content-type", "text/event-stream"),
            ("request-id", "req_1"),
            ("retry-after", "3"),
        ]);
        assert_eq!(passed, expected);
    }

    #[test]
    fn a_key_goes_where_the_provider_looks_for_it() {
        let said = |scheme| {
            let (name, value) = credential(scheme, "k").unwrap();
            (name.to_string(), value.to_str().unwrap().to_owned(), value.is_sensitive())
        };
        let expected = |name: &str, value: &str| (name.to_owned(), value.to_owned(), true);
        assert_eq!(said(AuthScheme::Bearer), expected("authorization", "Bearer k"));
        assert_eq!(said(AuthScheme::XApiKey), expected("x-api-key", "k"));
        assert_eq!(said(AuthScheme::ApiKey), expected("api-key", "k"));
        assert!(credential(AuthScheme::Bearer, "a\nb").is_none());
    }

    #[test]
    fn a_retry_after_is_read_in_seconds_and_bounded() {
        let read = |pairs: &[_]| retry_after(&map(pairs));
        assert_eq!(read(&[("retry-after", "3")]), Some(Duration::from_secs(3)));
        assert_eq!(read(&[("retry-after", "0.5")]), Some(Duration::from_millis(500)));
        assert_eq!(
            read(&[("retry-after", "3"), ("retry-after-ms", "250")]),
            Some(Duration::from_millis(250))
        );
        assert_eq!(read(&[("retry-after", "1e300")]), Some(Duration::from_secs(86_400)));
        for junk in ["-1", "nan", "Fri, 31 Dec 1999 23:59:59 GMT", ""] {
            let read = read(&[("retry-after", junk)]);
            assert!(read.is_none_or(|after| after.is_zero()), "{junk}: {read:?}");
        }
    }
}
