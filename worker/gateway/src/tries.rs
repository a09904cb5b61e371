//! One try of a call at one deployment: admission, sending, and what the beginning of its answer means.

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flyball_core::model::{OnError, Plan, Protocol, QuotaEnded, Step};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use crate::admit;
use crate::attempt::{Attempt, Used};
use crate::call::{Ask, UpstreamError};
use crate::config::{Config, ERROR_MAX, ERROR_TIME_MAX};
use crate::headers;
use crate::health::{Blow, Place};
use crate::link::Upstream;
use crate::quota::{NoRoom, Waiting};
use crate::relay::Reading;
use crate::run::OpenProvider;
use crate::upstream::{self, SendError, reasons};
use crate::wire::{self, Edits, Most, Refusal, Tap};

/// What became of a try.
pub(crate) enum Try {
    /// The answer has begun.
    Answered(Box<Begun>),
    /// A budget or a quota says no.
    Refused(Refusal),
    /// The deployment failed.
    Failed(Failure),
}

/// An answer that has begun.
pub(crate) struct Begun {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) upstream: Upstream,
    /// Its first bytes, for the client.
    pub(crate) first: Bytes,
    pub(crate) reading: Reading,
    pub(crate) attempt: Attempt,
    pub(crate) place: Place,
    pub(crate) on_error: OnError,
}

/// A deployment's failure.
pub(crate) struct Failure {
    /// Its answer, if it gave one.
    pub(crate) error: Option<UpstreamError>,
    pub(crate) why: String,
    /// Whether the same deployment may be asked again.
    pub(crate) same_again: bool,
    /// Whether nobody else need be asked: the request itself is wrong.
    pub(crate) terminal: bool,
    /// When the provider wants to be asked again, and whether it said that its account is at its limit.
    retry_after: Option<Duration>,
    pub(crate) limited: bool,
}

/// What an answer's status means for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Answer,
    /// It passes mostly: the same may be asked again.
    Transient,
    /// The account is at its limit.
    Limited,
    /// Not here, but perhaps elsewhere: a key, a model or an address is wrong.
    Elsewhere,
    /// The client's own fault.
    Terminal,
}

/// A redirect is a failure: following it would take the credentials along.
fn verdict(status: StatusCode) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::Answer,
        429 => Verdict::Limited,
        408 | 500.. => Verdict::Transient,
        // 402: its account has no money.
        100..=399 | 401..=404 => Verdict::Elsewhere,
        _ => Verdict::Terminal,
    }
}

/// How long a call may wait for a route's deployments to be asked again, where no account is at its limit.
pub(crate) fn pause_max(ask: &Ask, route: &str) -> Duration {
    let found = ask.now.models.routing.routes().find(|(name, _)| *name == route);
    found.map_or(Duration::ZERO, |(_, spec)| spec.on_error.pause_max.0)
}

/// Tries a step of the plan.
pub(crate) async fn attempt(ask: &mut Ask, plan: &Plan, step: &Step) -> Try {
    let models = Arc::clone(&ask.now.models);
    let Some(provider) = models.providers.get(&step.provider) else {
        return Try::Failed(Failure::elsewhere(format!(
            "provider {} does not exist",
            step.provider
        )));
    };
    let place = Place { provider: step.provider.clone(), model: step.model.clone() };
    let request = match request(ask, plan, step, provider) {
        Ok(request) => request,
        Err(error) => return Try::Failed(Failure::elsewhere(error.to_string())),
    };
    let known =
        provider.spec.prices.contains_key(&step.model) || models.prices.price_of(&step.model).known;
    let mut attempt = match admit(ask, plan, step, provider).await {
        Ok(attempt) => attempt,
        Err(refusal) => return Try::Refused(refusal),
    };
    ask.log.tries(&step.tier, &step.provider, &step.model, known, request.uri());
    ask.gate.shared.health().begins(&place, Instant::now());
    attempt.sent();
    // There it is settled too if nobody waits for the answer any more.
    ask.log.open = Some(attempt);
    let begun = begin(ask, &plan.on_error, request, place.clone()).await;
    match begun {
        Ok(begun) => {
            ask.gate.shared.health().served(&place);
            Try::Answered(Box::new(begun))
        }
        Err(failure) => {
            note(ask, &plan.on_error, &place, &failure);
            Try::Failed(failure)
        }
    }
}

/// Room in the budgets, and then in the provider's account: who has no money need not wait for quota.
async fn admit(
    ask: &mut Ask,
    plan: &Plan,
    step: &Step,
    provider: &OpenProvider,
) -> Result<Attempt, Refusal> {
    let (gate, call) = (&ask.gate, &ask.call);
    if let Some(ended) = gate.quota_of(&step.provider) {
        return Err(Refusal::QuotaEnded(ended));
    }
    let Config { budget_wait, .. } = gate.shared.config;
    let price = ask.now.models.price_of(provider, &step.model);
    let input = wire::input_bound(&ask.body, call);
    let output = call.max_output.unwrap_or(plan.max_output_tokens).saturating_mul(call.choices);
    let worst = price.worst_case(input, output, call.searches);
    let held = admit::reserve(gate, worst, budget_wait).await?;
    if let Some(ended) = gate.quota_of(&step.provider) {
        // Meanwhile another call has waited for it in vain.
        return Err(Refusal::QuotaEnded(ended));
    }
    let (quotas, desk, quota) = (&gate.quotas, &gate.shared.desk, &provider.spec.quota);
    let (waiting, since) = (Waiting::begin(gate, &step.provider), Instant::now());
    let taken = desk
        .take(quotas, &step.provider, quota, worst.tokens, gate.begun(), ask.quota_left())
        .await
        .map_err(|none| no_room(&step.provider, none));
    waiting.over();
    ask.quota_waited += since.elapsed();
    let taken = taken?;
    let most = Most {
        input,
        output,
        searches: call.searches,
        hidden_reasoning: price.hidden_reasoning,
        unread: provider.spec.bills_cut_streams,
    };
    Ok(Attempt::new(held, taken, price, most))
}

fn no_room(provider: &str, none: NoRoom) -> Refusal {
    match none {
        NoRoom::Before(left) => {
            Refusal::QuotaEnded(QuotaEnded { provider: provider.to_owned(), left })
        }
        NoRoom::Unanswered(why) => {
            Refusal::UpstreamGone(format!("no scheduler answered for quota: {why}"))
        }
    }
}

/// The request for a provider: the client's own bytes, with the model's name there, and a limit where the client set
/// none.
fn request(
    ask: &Ask,
    plan: &Plan,
    step: &Step,
    provider: &OpenProvider,
) -> Result<Request<Full<Bytes>>, SendError> {
    let (call, spec) = (&ask.call, &provider.spec);
    let edits = Edits {
        model: Some(&step.model),
        max_output: call.max_output.is_none().then_some(plan.max_output_tokens),
        both_limits: call.protocol == Protocol::Chat && wire::takes_both_limits(&spec.base_url),
        ask_usage: true,
    };
    let body = wire::edit(ask.body.clone(), call, &edits);
    let uri = upstream::target(spec, upstream::path(call.protocol), ask.head.uri.query())?;
    outgoing(&ask.head.headers, provider, uri, body)
}

/// A request with the provider's own headers and credentials.
///
/// # Errors
/// [`SendError::Definition`].
pub(crate) fn outgoing(
    client: &HeaderMap,
    provider: &OpenProvider,
    uri: http::Uri,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, SendError> {
    let mut sent = headers::upstream(client);
    for (name, value) in &provider.spec.headers {
        let pair = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
        let (name, value) =
            pair.ok_or_else(|| SendError::Definition(format!("header {name} cannot be sent")))?;
        sent.insert(name, value);
    }
    if let Some(auth) = &provider.spec.auth {
        let key = provider.key.as_ref().map(|key| key.expose_text());
        let header = key.and_then(|key| headers::credential(auth.scheme, key));
        let (name, value) = header.ok_or_else(|| {
            SendError::Definition("its key is absent, or no header can carry it".to_owned())
        })?;
        sent.insert(name, value);
    }
    let mut request = Request::new(Full::new(body));
    (*request.method_mut(), *request.uri_mut()) = (Method::POST, uri);
    *request.headers_mut() = sent;
    Ok(request)
}

/// Sends it, and waits for the first bytes of an answer.
async fn begin(
    ask: &mut Ask,
    on_error: &OnError,
    request: Request<Full<Bytes>>,
    place: Place,
) -> Result<Begun, Failure> {
    let limit = on_error.first_byte.0;
    let deadline = tokio::time::Instant::now() + limit;
    let sent = tokio::time::timeout_at(deadline, ask.gate.shared.upstreams.send(request)).await;
    let response = match sent {
        Ok(Ok(response)) => response,
        Ok(Err(
            error @ (SendError::Connect(_) | SendError::Certificate(_) | SendError::Definition(_)),
        )) => return Err(lost(ask, Attempt::failed, &error)),
        Ok(Err(error)) => return Err(lost(ask, Attempt::cut, &error)),
        Err(_) => return Err(lost(ask, Attempt::cut, &SendError::Silent(limit))),
    };
    let status = response.status();
    if verdict(status) != Verdict::Answer {
        let failure = refused(response).await;
        let settle = if failure.limited { Attempt::limited } else { Attempt::failed };
        failed(ask, settle, &failure.why);
        return Err(failure);
    }
    let (head, mut body) = response.into_parts();
    if let Some(coding) = headers::foreign_coding(&head.headers) {
        // It was asked not to; what cannot be read cannot be metered.
        let why = format!("the answer is encoded as {coding}");
        failed(ask, Attempt::cut, &why);
        return Err(Failure::elsewhere(why));
    }
    let mut reading = reading(ask, &head.headers);
    let first = match tokio::time::timeout_at(deadline, first_piece(&mut body)).await {
        Ok(Ok(Some(first))) => first,
        Ok(Ok(None)) => {
            let error = SendError::Gone("the answer is empty".to_owned());
            return Err(lost(ask, Attempt::cut, &error));
        }
        Ok(Err(error)) => return Err(lost(ask, Attempt::cut, &SendError::Gone(reasons(&error)))),
        Err(_) => return Err(lost(ask, Attempt::cut, &SendError::Silent(limit))),
    };
    let first = match reading {
        Reading::Stream(_) => {
            std::future::poll_fn(|cx| Poll::Ready(body.together(first.clone(), cx))).await
        }
        Reading::Plain(..) => first,
    };
    let first = reading.feed(&first);
    if let Some(why) = early_error(&reading) {
        failed(ask, Attempt::failed, &why);
        return Err(Failure { same_again: true, ..Failure::elsewhere(why) });
    }
    let Some(attempt) = ask.log.open.take() else {
        return Err(Failure::elsewhere("the try is settled already".to_owned()));
    };
    let headers = headers::downstream(&head.headers);
    let on_error = on_error.clone();
    Ok(Begun { status, headers, upstream: body, first, reading, attempt, place, on_error })
}

fn reading(ask: &Ask, headers: &HeaderMap) -> Reading {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("text/event-stream") {
        // The chunk with usage was asked for by the gateway, where the client did not.
        Reading::Stream(Box::new(Tap::new(&ask.call, !ask.call.asks_usage)))
    } else {
        Reading::Plain(Vec::new(), 0)
    }
}

async fn first_piece(body: &mut Upstream) -> Result<Option<Bytes>, hyper::Error> {
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data()
            && !piece.is_empty()
        {
            return Ok(Some(piece));
        }
    }
    Ok(None)
}

/// A stream that begins with an error has delivered nothing: it failed like any other try.
fn early_error(reading: &Reading) -> Option<String> {
    let Reading::Stream(tap) = reading else { return None };
    let seen = tap.seen();
    seen.error.clone().filter(|_| !seen.delivered)
}

/// Settles the try that is under way.
fn failed(ask: &mut Ask, settle: impl FnOnce(Attempt) -> Used, why: &str) {
    if let Some(attempt) = ask.log.open.take() {
        ask.log.failed(settle(attempt), why);
    }
}

fn lost(ask: &mut Ask, settle: impl FnOnce(Attempt) -> Used, error: &SendError) -> Failure {
    let why = error.to_string();
    failed(ask, settle, &why);
    let same_again = !matches!(error, SendError::Certificate(_) | SendError::Definition(_));
    Failure { same_again, ..Failure::elsewhere(why) }
}

/// A body that is read to its end, or as far as `most` bytes.
pub(crate) async fn whole(body: &mut Upstream, most: usize) -> Bytes {
    let mut text = BytesMut::new();
    while let Ok(Some(piece)) = first_piece(body).await {
        let room = most - text.len();
        text.extend_from_slice(&piece[..piece.len().min(room)]);
        if text.len() == most {
            break;
        }
    }
    text.freeze()
}

/// A provider's error, read as far as it is passed on.
async fn refused(response: Response<Upstream>) -> Failure {
    let (head, mut body) = response.into_parts();
    let read = tokio::time::timeout(ERROR_TIME_MAX, whole(&mut body, ERROR_MAX));
    let text = read.await.unwrap_or_default();
    let verdict = verdict(head.status);
    let status = if head.status.is_redirection() { StatusCode::BAD_GATEWAY } else { head.status };
    let error = UpstreamError { status, headers: headers::downstream(&head.headers), body: text };
    Failure {
        error: Some(error),
        why: head.status.as_u16().to_string(),
        same_again: matches!(verdict, Verdict::Transient | Verdict::Limited),
        terminal: verdict == Verdict::Terminal,
        retry_after: headers::retry_after(&head.headers),
        limited: verdict == Verdict::Limited,
    }
}

/// Remembers a failure, for all runs of the worker and, where the account is at its limit, for the whole fleet.
fn note(ask: &mut Ask, on_error: &OnError, place: &Place, failure: &Failure) {
    let shared = Arc::clone(&ask.gate.shared);
    if failure.terminal {
        // It answered, and is not to blame.
        return shared.health().served(place);
    }
    let Failure { retry_after, limited, why, .. } = failure;
    let blow = Blow { why, retry_after: *retry_after, limited: *limited };
    if shared.health().failed(place, Instant::now(), on_error, &blow) {
        ask.log.rests();
    }
    if *limited {
        let (quotas, provider, after) =
            (Arc::clone(&ask.gate.quotas), place.provider.clone(), *retry_after);
        tokio::spawn(async move { quotas.limited(provider, after).await });
    }
}

impl Failure {
    /// Of a deployment that is not asked again for this call.
    fn elsewhere(why: String) -> Self {
        let (error, retry_after) = (None, None);
        Self { error, why, same_again: false, terminal: false, retry_after, limited: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_who_may_be_asked_next() {
        let of = |code| verdict(StatusCode::from_u16(code).unwrap());
        for code in [500, 502, 503, 529, 408] {
            assert_eq!(of(code), Verdict::Transient, "{code}");
        }
        for code in [301, 302, 307, 308, 401, 402, 403, 404] {
            assert_eq!(of(code), Verdict::Elsewhere, "{code}");
        }
        for code in [400, 405, 409, 413, 422] {
            assert_eq!(of(code), Verdict::Terminal, "{code}");
        }
        assert_eq!(of(429), Verdict::Limited);
        assert_eq!(of(200), Verdict::Answer);
    }
}
