//! Requests of a run's agents: who asks, for what, and the answers that need no model.

use std::sync::Arc;

use bytes::Bytes;
use flyball_core::model::{Features, Protocol, classify};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, request};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use crate::attempt::tier_factor;
use crate::body::{Body, Waiting, Work};
use crate::call::{self, Ask, Outcome};
use crate::capture::Capture;
use crate::config::BODY_MAX;
use crate::gate::Gate;
use crate::headers::foreign_coding;
use crate::log::CallLog;
use crate::wire::{self, BadCall, Call, Client, Endpoint, Refusal};

/// Longest name of a session that is used.
const SESSION_MAX: usize = 256;

/// Room for a body.
pub(crate) type Room = tokio::sync::OwnedSemaphorePermit;

/// A request, before anything is known of its content.
pub(crate) struct Asking {
    pub(crate) gate: Arc<Gate>,
    pub(crate) head: request::Parts,
    protocol: Protocol,
    client: Client,
    pub(crate) id: String,
}

/// Answers a request.
pub(crate) async fn answer(gate: Arc<Gate>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let endpoint = wire::endpoint(&head.method, head.uri.path());
    let protocol = match &endpoint {
        Some(Endpoint::Call(protocol)) => *protocol,
        Some(Endpoint::CountTokens) => Protocol::Anthropic,
        _ if head.headers.contains_key("anthropic-version") => Protocol::Anthropic,
        _ => Protocol::Chat,
    };
    let (client, id) = (wire::client(&head.headers), gate.request_id());
    let asking = Asking { gate, head, protocol, client, id };
    if endpoint == Some(Endpoint::Hello) {
        // Clients see whether anybody is there before they show a key.
        return Response::new(Body::Whole(Bytes::new()));
    }
    if !keys(&asking.head.headers).any(|key| asking.gate.is_key(key)) {
        return asking.refuse(&Refusal::Unauthorized);
    }
    if asking.gate.fence.left().is_none() {
        return asking.refuse(&Refusal::Fenced);
    }
    match endpoint {
        Some(Endpoint::Call(_)) => asking.call(body).await,
        Some(Endpoint::CountTokens) => asking.count_tokens(body).await,
        Some(Endpoint::ListModels) => json(wire::list_models(&asking.gate.now().models.names())),
        Some(Endpoint::GetModel(model)) => json(wire::get_model(&model)),
        Some(Endpoint::Hello) => Response::new(Body::Whole(Bytes::new())),
        None => asking.refuse(&Refusal::NotFound(asking.head.uri.path().to_owned())),
    }
}

/// Every key that the request shows; both headers may come.
fn keys(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key)
    });
    let named = ["x-api-key", "api-key"].into_iter().flat_map(|name| headers.get_all(name));
    bearer.chain(named.map(HeaderValue::as_bytes))
}

pub(crate) fn json(text: String) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Bytes::from(text)));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", kind);
    response
}

impl Asking {
    pub(crate) fn refuse(&self, refusal: &Refusal) -> Response<Body> {
        refused(self.protocol, self.client, refusal, &self.id)
    }

    /// The body, within its bound.
    pub(crate) async fn body(&self, body: Incoming) -> Result<(Bytes, Room), Refusal> {
        if let Some(coding) = foreign_coding(&self.head.headers) {
            return Err(Refusal::Encoded(coding));
        }
        let too_large = Refusal::TooLarge { most: BODY_MAX as u64 };
        let length = self.head.headers.get("content-length");
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > BODY_MAX as u64) {
            return Err(too_large);
        }
        // A body whose length is not told may be the largest.
        let mib = length.unwrap_or(BODY_MAX as u64).div_ceil(1024 * 1024);
        let mib = u32::try_from(mib).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.gate.bodies).acquire_many_owned(mib).await;
        let room = room.map_err(|_| Refusal::Fenced)?;
        match Limited::new(body, BODY_MAX).collect().await {
            Ok(whole) => Ok((whole.to_bytes(), room)),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large),
            // Nobody is there any more to read this.
            Err(_) => Err(Refusal::Fenced),
        }
    }

    async fn call(self, body: Incoming) -> Response<Body> {
        let gate = Arc::clone(&self.gate);
        let Ok(permit) = Arc::clone(&gate.calls).acquire_owned().await else {
            return self.refuse(&Refusal::Fenced);
        };
        let traceparent = header(&self.head.headers, "traceparent").map(str::to_owned);
        let mut log =
            CallLog::new(Arc::clone(&gate), gate.now(), self.id.clone(), traceparent, permit);
        let parsed = match self.body(body).await {
            Ok((body, room)) => parse(self.protocol, &body).map(|call| (body, room, call)),
            Err(refusal) => Err(refusal),
        };
        let (body, room, parsed) = match parsed {
            Ok(parsed) => parsed,
            Err(refusal) => {
                log.refused(call::label(&refusal));
                return self.refuse(&refusal);
            }
        };
        if let Some(dir) = &gate.shared.config.capture {
            log.capture = Some(Capture::new(dir, &self.id, body.clone()));
        }
        let (protocol, client, id, streams) =
            (self.protocol, self.client, self.id.clone(), parsed.stream);
        let ask = self.ask((body, room), parsed, log);
        if !streams {
            return respond(call::run(ask).await, protocol, client, &id);
        }
        let mut work: Work = Box::pin(call::run(ask));
        let config = &gate.shared.config;
        match tokio::time::timeout(config.head_after, work.as_mut()).await {
            Ok(outcome) => respond(outcome, protocol, client, &id),
            Err(_) => {
                let ping = wire::ping(protocol, client);
                let waiting = Waiting::new(work, protocol, id.clone(), ping, config.ping_after);
                begun_early(waiting, &id)
            }
        }
    }

    fn ask(self, (body, room): (Bytes, Room), parsed: Call, mut log: CallLog) -> Ask {
        let headers = &self.head.headers;
        let features = Features { tools: parsed.tools, max_output: parsed.max_output };
        let subtask = classify(header(headers, "x-flyball-subtask"), &parsed.model, features);
        let names = ["x-claude-code-session-id", "session-id", "session_id"];
        let session = names.into_iter().find_map(|name| header(headers, name));
        let session =
            session.or(parsed.session.as_deref()).filter(|name| name.len() <= SESSION_MAX);
        let session = session.map(str::to_owned);
        let run = &self.gate.run;
        let sticky =
            format!("{}/{}/{}", run.uid, run.token, session.as_deref().unwrap_or_default());
        log.asked(&parsed, subtask.class.as_str(), session);
        Ask {
            now: self.gate.now(),
            gate: self.gate,
            head: self.head,
            body,
            _room: room,
            call: Arc::new(parsed),
            client: self.client,
            subtask,
            sticky,
            quota_waited: std::time::Duration::ZERO,
            log,
        }
    }
}

/// Reads a call, and refuses what could cost more than the price table says.
fn parse(protocol: Protocol, body: &[u8]) -> Result<Call, Refusal> {
    let call = wire::parse(protocol, body).map_err(Refusal::BadCall)?;
    if tier_factor(call.service_tier.as_deref()) > 1 {
        let why = "the price table has no prices of this class of service";
        return Err(Refusal::BadCall(BadCall::Unmetered { field: "service_tier", why }));
    }
    Ok(call)
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn refused(protocol: Protocol, client: Client, refusal: &Refusal, id: &str) -> Response<Body> {
    let mut response = wire::refuse(protocol, client, refusal, id).map(Body::Whole);
    name(&mut response, id);
    response
}

/// Every answer names the request as the run's records do.
fn name(response: &mut Response<Body>, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert("x-flyball-request-id", value);
    }
}

fn respond(outcome: Outcome, protocol: Protocol, client: Client, id: &str) -> Response<Body> {
    let (status, headers, body) = match outcome {
        Outcome::Refused(refusal) => return refused(protocol, client, &refusal, id),
        Outcome::Error(error) => (error.status, error.headers, Body::Whole(error.body)),
        Outcome::Answer(answer) => (answer.status, answer.headers, Body::Relay(answer.relay)),
    };
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    name(&mut response, id);
    response
}

fn begun_early(waiting: Waiting, id: &str) -> Response<Body> {
    let mut response = Response::new(Body::Waiting(Box::new(waiting)));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert("cache-control", HeaderValue::from_static("no-cache"));
    name(&mut response, id);
    response
}
