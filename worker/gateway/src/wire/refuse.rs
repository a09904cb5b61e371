//! "No" in the words that each client understands: whether to stop, to wait, or to ask otherwise.

use bytes::Bytes;
use flyball_core::model::{BudgetEnded, Limits, Protocol, QuotaEnded};
use http::{HeaderValue, Response, StatusCode};

use super::bad::BadCall;
use super::endpoint::Client;
use super::json::{self, Kind, Value, quoted};

/// When a client that insists may ask about an ended budget or quota again: long enough that it does no harm.
const LATER_SECONDS: u64 = 3600;
/// Most characters of a provider's error that is not in the protocol's form.
const FOREIGN_MAX: usize = 500;

/// Why the gateway does not answer a call with a model's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A budget has no room for it.
    BudgetEnded(BudgetEnded),
    /// The run does not own its loop any more, or its time is over.
    Fenced,
    /// No route takes it, or none of its deployments can be asked; the reason.
    NoRoute(String),
    /// The provider's account has no room for longer than a call waits: the run is going to end, and its loop waits.
    QuotaEnded(QuotaEnded),
    /// The request cannot be taken.
    BadCall(BadCall),
    /// No key, or not this gateway's.
    Unauthorized,
    /// The route's provider speaks other protocols.
    ProtocolMismatch {
        /// The provider.
        provider: String,
        /// What it speaks.
        speaks: Vec<Protocol>,
    },
    /// No provider answered; the last reason.
    UpstreamGone(String),
    /// The body is larger than the gateway takes, in bytes.
    TooLarge {
        /// The most it takes.
        most: u64,
    },
    /// The body is coded, by this `content-encoding`.
    Encoded(String),
    /// Nothing is at this path; the path.
    NotFound(String),
}

/// A refusal in one protocol's words.
struct Words {
    status: StatusCode,
    /// Anthropic's `error.type`.
    anthropic: &'static str,
    /// OpenAI's `error.type` and `error.code`.
    openai: (&'static str, &'static str),
    message: String,
    /// Whether clients should come again.
    again: bool,
    /// Whether those that come all the same are to do so much later.
    later: bool,
}

/// The refusal as an answer in the client's own dialect.
pub fn refuse(
    protocol: Protocol,
    client: Client,
    refusal: &Refusal,
    request_id: &str,
) -> Response<Bytes> {
    let words = words(protocol, client, refusal);
    let body = match protocol {
        Protocol::Anthropic => anthropic(&words, request_id),
        Protocol::Chat | Protocol::Responses => format!("{{\"error\":{}}}", openai(&words)),
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = words.status;
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let name = if protocol == Protocol::Anthropic { "request-id" } else { "x-request-id" };
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(name, id);
    }
    if !words.again {
        // The vendors' SDKs retry some of these otherwise.
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    if words.later {
        headers.insert("retry-after", HeaderValue::from(LATER_SECONDS));
    }
    response
}

/// The refusal inside a stream whose 200 has gone out, and the stream's end. It ends whatever event was cut before
/// it.
pub fn refusal_event(protocol: Protocol, refusal: &Refusal, request_id: &str) -> Bytes {
    let words = words(protocol, Client::Other, refusal);
    match protocol {
        Protocol::Anthropic => last_event(protocol, &anthropic(&words, request_id)),
        Protocol::Chat => last_event(protocol, &format!("{{\"error\":{}}}", openai(&words))),
        Protocol::Responses => {
            last_event(protocol, &failed(words.openai.1, &words.message, request_id))
        }
    }
}

/// A provider's error answer (not 200) inside a stream whose own 200 has gone out already: its words unchanged, if
/// they are the protocol's.
pub fn error_event(protocol: Protocol, status: u16, body: &[u8], request_id: &str) -> Bytes {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let error = json::document(body).ok().and_then(|document| document.get("error"));
    let Some(error) = error.filter(|error| error.kind() == Kind::Object) else {
        let short: String = text.chars().take(FOREIGN_MAX).collect();
        let why = format!("the provider answered {status}: {short}");
        return refusal_event(protocol, &Refusal::UpstreamGone(why), request_id);
    };
    if protocol != Protocol::Responses {
        // One line, as an event's data has to be: JSON means the same with spaces for line ends.
        return last_event(protocol, &text.trim().replace(['\r', '\n'], " "));
    }
    let of = |name| error.get(name).and_then(Value::string);
    let code = of("code").or_else(|| of("type")).unwrap_or_else(|| "server_error".into());
    last_event(protocol, &failed(&code, &of("message").unwrap_or_default(), request_id))
}

/// The data of Responses' last event when it failed.
fn failed(code: &str, message: &str, request_id: &str) -> String {
    let (id, code, message) = (quoted(request_id), quoted(code), quoted(message));
    format!(
        r#"{{"type":"response.failed","sequence_number":0,"response":{{"id":{id},"object":"response","status":"failed","output":[],"error":{{"code":{code},"message":{message}}}}}}}"#
    )
}

fn last_event(protocol: Protocol, data: &str) -> Bytes {
    Bytes::from(match protocol {
        Protocol::Anthropic => format!("\n\nevent: error\ndata: {data}\n\n"),
        Protocol::Chat => format!("\n\ndata: {data}\n\ndata: [DONE]\n\n"),
        Protocol::Responses => format!("\n\nevent: response.failed\ndata: {data}\n\n"),
    })
}

/// Bytes that keep a silent stream alive, to be put in between events.
pub fn ping(protocol: Protocol, client: Client) -> Bytes {
    Bytes::from_static(match (protocol, client) {
        (Protocol::Anthropic, _) => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
        // Comments do not reach the clock by which Codex gives a stream up; events it does not know do.
        (Protocol::Responses, Client::Codex) => {
            b"event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n"
        }
        (Protocol::Chat | Protocol::Responses, _) => b": ping\n\n",
    })
}

fn anthropic(words: &Words, request_id: &str) -> String {
    let (kind, message, id) = (quoted(words.anthropic), quoted(&words.message), quoted(request_id));
    format!(r#"{{"type":"error","error":{{"type":{kind},"message":{message}}},"request_id":{id}}}"#)
}

fn openai(words: &Words) -> String {
    let (kind, code) = words.openai;
    let (kind, code, message) = (quoted(kind), quoted(code), quoted(&words.message));
    format!(r#"{{"message":{message},"type":{kind},"param":null,"code":{code}}}"#)
}

fn words(protocol: Protocol, client: Client, refusal: &Refusal) -> Words {
    match refusal {
        Refusal::BudgetEnded(ended) => {
            let message = format!("spend limit reached ({ended}: {})", used(ended));
            stop(protocol, client, message)
        }
        Refusal::QuotaEnded(ended) => {
            stop(protocol, client, format!("{ended}; the loop waits for it"))
        }
        Refusal::Fenced => Words::of(
            StatusCode::FORBIDDEN,
            "permission_error",
            ("invalid_request_error", "run_ended"),
            "this run has ended or does not own its loop any more".to_owned(),
        ),
        Refusal::NoRoute(why) => Words::of(
            StatusCode::NOT_FOUND,
            "not_found_error",
            ("invalid_request_error", "model_not_found"),
            format!("no model serves this call: {why}"),
        ),
        Refusal::BadCall(bad) => Words::of(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            ("invalid_request_error", "invalid_request"),
            bad.to_string(),
        ),
        Refusal::Unauthorized => Words::of(
            StatusCode::UNAUTHORIZED,
            "authentication_error",
            ("invalid_request_error", "invalid_api_key"),
            "the key is not one of this run's gateway".to_owned(),
        ),
        Refusal::ProtocolMismatch { provider, speaks } => Words::of(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            ("invalid_request_error", "capability_rejected"),
            mismatch(protocol, provider, speaks),
        ),
        Refusal::UpstreamGone(why) => Words {
            again: true,
            ..Words::of(
                StatusCode::BAD_GATEWAY,
                "api_error",
                ("server_error", "server_error"),
                format!("no provider answered: {why}"),
            )
        },
        Refusal::TooLarge { most } => Words::of(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_too_large",
            ("invalid_request_error", "request_too_large"),
            format!("the body is larger than {most} bytes"),
        ),
        Refusal::Encoded(coding) => Words::of(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            ("invalid_request_error", "unsupported_content_encoding"),
            format!(
                "content-encoding {coding:?} is not read; allowed: identity, or no such header"
            ),
        ),
        Refusal::NotFound(path) => Words::of(
            StatusCode::NOT_FOUND,
            "not_found_error",
            ("invalid_request_error", "unknown_url"),
            format!("{path}: the gateway has nothing there"),
        ),
    }
}

impl Words {
    /// A refusal that is final.
    fn of(
        status: StatusCode,
        anthropic: &'static str,
        openai: (&'static str, &'static str),
        message: String,
    ) -> Self {
        Self { status, anthropic, openai, message, again: false, later: false }
    }
}

/// "Stop, and do not come again". Clients of the OpenAI kind retry any 429 in layers that know no header (LiteLLM's,
/// tenacity's), and none retries a 403.
fn stop(protocol: Protocol, client: Client, message: String) -> Words {
    let (status, openai) = match (protocol, client) {
        (Protocol::Anthropic, _) => (StatusCode::TOO_MANY_REQUESTS, ("", "")),
        (Protocol::Responses, Client::Codex) => {
            (StatusCode::TOO_MANY_REQUESTS, ("usage_limit_reached", "insufficient_quota"))
        }
        _ => (StatusCode::FORBIDDEN, ("insufficient_quota", "insufficient_quota")),
    };
    Words { later: true, ..Words::of(status, "billing_error", openai, message) }
}

fn mismatch(protocol: Protocol, provider: &str, speaks: &[Protocol]) -> String {
    let speaks: Vec<&str> = speaks.iter().map(|protocol| title(*protocol)).collect();
    format!(
        "capability_rejected: the provider {provider} speaks {}, not {}; calls are not translated",
        speaks.join(" and "),
        title(protocol)
    )
}

fn title(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Anthropic => "Anthropic Messages",
        Protocol::Chat => "OpenAI Chat Completions",
        Protocol::Responses => "OpenAI Responses",
    }
}

/// What is used of the bounds that there are.
fn used(ended: &BudgetEnded) -> String {
    let Limits { tokens, money, calls } = ended.limits;
    let mut parts = Vec::new();
    if let Some(most) = money {
        parts.push(format!("{} of {most}", ended.used.money));
    }
    if let Some(most) = tokens {
        parts.push(format!("{} of {most} tokens", ended.used.tokens));
    }
    if let Some(most) = calls {
        parts.push(format!("{} of {most} calls", ended.used.calls));
    }
    if parts.is_empty() { "nothing is left".to_owned() } else { parts.join(", ") }
}
