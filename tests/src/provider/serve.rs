//! Connections of the scripted provider: requests in, answers and faults out, what was served counted.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flyball_core::model::{Protocol, Usage};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::http::{LAST_CHUNK, Request, chunk, head, read};
use super::{Asked, Fault, Reply, Script, Served, anthropic, chat, responses};

/// What all connections share.
#[derive(Clone)]
pub(super) struct State {
    pub(super) script: Script,
    pub(super) served: Arc<Mutex<Vec<Served>>>,
    pub(super) open: Arc<AtomicUsize>,
}

/// Accepts until the runtime ends.
pub(super) async fn accept(listener: TcpListener, state: State) {
    let numbers = Arc::new(AtomicUsize::new(0));
    while let Ok((stream, _)) = listener.accept().await {
        // A stream's small writes must not wait for delayed acknowledgements.
        let _ = stream.set_nodelay(true);
        let (state, numbers) = (state.clone(), Arc::clone(&numbers));
        tokio::spawn(async move {
            // A client that goes away in the middle is part of the play.
            let _ = connection(stream, &state, &numbers).await;
        });
    }
}

async fn connection(mut stream: TcpStream, state: &State, numbers: &AtomicUsize) -> io::Result<()> {
    let mut rest = Vec::new();
    while let Some(request) = read(&mut stream, &mut rest).await? {
        let number = numbers.fetch_add(1, Ordering::SeqCst);
        let Request { method, path, headers, body } = request;
        let last =
            headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let asked = Arc::new(Asked::new(number, method, path, headers, body));
        state.open.fetch_add(1, Ordering::SeqCst);
        let answered = answer(&mut stream, state, asked).await;
        state.open.fetch_sub(1, Ordering::SeqCst);
        if !answered? || last {
            return Ok(());
        }
    }
    Ok(())
}

/// Writes one answer; false ends the connection.
async fn answer(stream: &mut TcpStream, state: &State, asked: Arc<Asked>) -> io::Result<bool> {
    let Some(protocol) = asked.protocol else {
        return aside(stream, state, asked).await;
    };
    let reply = (state.script)(&asked);
    match &reply.fault {
        Some(Fault::HangUp) => {
            note(state, &asked, 0, Usage::default(), true);
            return Ok(false);
        }
        Some(Fault::Status { code, retry_after, body }) => {
            let usual = || match protocol {
                Protocol::Anthropic => anthropic::error(*code, asked.number).to_string(),
                Protocol::Chat | Protocol::Responses => chat::error(*code).to_string(),
            };
            let body = body.clone().unwrap_or_else(usual);
            let mut headers = headers(&asked, protocol, "application/json");
            headers.extend(retry_after.map(|after| ("retry-after".to_owned(), after.to_string())));
            headers.extend(reply.headers.iter().cloned());
            note(state, &asked, *code, Usage::default(), true);
            return whole(stream, *code, &headers, body.as_bytes()).await;
        }
        _ => {}
    }
    if asked.stream() {
        return stream_events(stream, state, &asked, protocol, &reply).await;
    }
    let body = match protocol {
        Protocol::Anthropic => anthropic::plain(&asked, &reply),
        Protocol::Chat => chat::plain(&asked, &reply),
        Protocol::Responses => responses::plain(&asked, &reply),
    };
    if !reply.pace.is_zero() {
        tokio::time::sleep(reply.pace).await;
    }
    let mut headers = headers(&asked, protocol, "application/json");
    headers.extend(reply.headers.iter().cloned());
    // Before the last byte: a client that has it must find it counted.
    note(state, &asked, 200, reply.usage_for(&asked), true);
    whole(stream, 200, &headers, body.to_string().as_bytes()).await
}

async fn stream_events(
    stream: &mut TcpStream,
    state: &State,
    asked: &Arc<Asked>,
    protocol: Protocol,
    reply: &Reply,
) -> io::Result<bool> {
    let (events, error) = match protocol {
        Protocol::Anthropic => (anthropic::events(asked, reply), anthropic::error_event()),
        Protocol::Chat => (chat::events(asked, reply), chat::error_event()),
        Protocol::Responses => {
            (responses::events(asked, reply), responses::error_event(asked, reply))
        }
    };
    let (mut headers, total) = (headers(asked, protocol, "text/event-stream"), events.len());
    headers.extend(reply.headers.iter().cloned());
    let usage = reply.usage_for(asked);
    // Of a stream that does not end the share that was sent.
    let partly = |sent: usize| Usage {
        output_total: (usage.output_total * sent as u64).div_ceil(total as u64),
        reasoning: 0,
        ..usage
    };
    let written = async {
        stream.write_all(&head(200, &headers, None)).await.map_err(|e| (0, e))?;
        for (at, event) in events.iter().enumerate() {
            if !reply.pace.is_zero() {
                tokio::time::sleep(reply.pace).await;
            }
            match &reply.fault {
                Some(Fault::Cut(after)) if *after == at => {
                    let half = &event[..event.len() / 2];
                    stream.write_all(&chunk(half)).await.map_err(|e| (at, e))?;
                    return Ok(Some(at));
                }
                Some(Fault::Silence(after, pause)) if *after == at => {
                    tokio::time::sleep(*pause).await;
                }
                Some(Fault::Malformed(after)) if *after == at => {
                    let junk = b"event: junk\ndata: {\"type\": nonsense\n\n";
                    stream.write_all(&chunk(junk)).await.map_err(|e| (at, e))?;
                }
                Some(Fault::ErrorEvent(after)) if *after == at => {
                    stream.write_all(&chunk(&error)).await.map_err(|e| (at, e))?;
                    return Ok(Some(at));
                }
                _ => {}
            }
            if at + 1 == total {
                // Before the last event: a client that has it must find it counted.
                note(state, asked, 200, usage, true);
            }
            let size = if reply.split == 0 { event.len() } else { reply.split };
            for piece in event.chunks(size.max(1)) {
                stream.write_all(&chunk(piece)).await.map_err(|e| (at, e))?;
            }
        }
        Ok(None)
    };
    match written.await {
        Ok(None) => stream.write_all(LAST_CHUNK).await.map(|()| true),
        Ok(Some(sent)) => {
            note(state, asked, 200, partly(sent), false);
            if matches!(reply.fault, Some(Fault::ErrorEvent(_))) {
                return stream.write_all(LAST_CHUNK).await.map(|()| true);
            }
            Ok(false)
        }
        Err((sent, error)) => {
            if sent + 1 < total {
                note(state, asked, 200, partly(sent), false);
            }
            Err(error)
        }
    }
}

/// What is not a model call: tokens to be counted, models to be listed, a greeting.
async fn aside(stream: &mut TcpStream, state: &State, asked: Arc<Asked>) -> io::Result<bool> {
    let path = asked.path.split('?').next().unwrap_or_default().to_owned();
    let json_headers = [("content-type".to_owned(), "application/json".to_owned())];
    let (status, body) = match asked.method.as_str() {
        "POST" if path.ends_with("/count_tokens") => {
            (200, json!({ "input_tokens": asked.raw.len().div_ceil(4) }))
        }
        "GET" if path.ends_with("/models") => (200, json!({ "object": "list", "data": [] })),
        _ => (404, anthropic::error(404, asked.number)),
    };
    note(state, &asked, status, Usage::default(), true);
    let body = if asked.method == "HEAD" { Value::Null } else { body };
    let text = if body.is_null() { String::new() } else { body.to_string() };
    whole(stream, status, &json_headers, text.as_bytes()).await
}

async fn whole(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> io::Result<bool> {
    let mut bytes = head(status, headers, Some(body.len()));
    bytes.extend_from_slice(body);
    stream.write_all(&bytes).await.map(|()| true)
}

fn headers(asked: &Asked, protocol: Protocol, kind: &str) -> Vec<(String, String)> {
    let id = format!("req_{:08}", asked.number);
    let limits: &[(&str, &str)] = match protocol {
        Protocol::Anthropic => &[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2026-11-28T12:00:00Z"),
            ("anthropic-ratelimit-tokens-limit", "100000"),
            ("anthropic-ratelimit-tokens-remaining", "99000"),
        ],
        Protocol::Chat | Protocol::Responses => &[
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
        ],
    };
    let name = if protocol == Protocol::Anthropic { "request-id" } else { "x-request-id" };
    let own = [("content-type", kind), (name, id.as_str())];
    own.iter().chain(limits).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

fn note(state: &State, asked: &Arc<Asked>, status: u16, usage: Usage, complete: bool) {
    let served = Served { asked: Arc::clone(asked), status, usage, complete };
    state.served.lock().unwrap_or_else(PoisonError::into_inner).push(served);
}
