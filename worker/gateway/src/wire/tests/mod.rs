//! Tests of the wire protocols.

mod answers;
mod estimates;
mod refusals;
mod requests;
mod scan;
mod splits;

use bytes::Bytes;
use flyball_core::model::Protocol;

use crate::wire::{Call, Outcome, Tap, parse};

/// Recorded answers by file name.
macro_rules! fixture {
    ($name:literal) => {
        ($name, include_str!(concat!("fixtures/", $name)))
    };
}
pub(crate) use fixture;

/// Every stream among the fixtures.
const STREAMS: [(&str, &str); 16] = [
    fixture!("anthropic_cached.sse"),
    fixture!("anthropic_overloaded.sse"),
    fixture!("anthropic_text.sse"),
    fixture!("anthropic_tool_use.sse"),
    fixture!("anthropic_web_search.sse"),
    fixture!("chat_azure.sse"),
    fixture!("chat_comments.sse"),
    fixture!("chat_error.sse"),
    fixture!("chat_text.sse"),
    fixture!("chat_tools.sse"),
    fixture!("chat_vllm.sse"),
    fixture!("responses_error.sse"),
    fixture!("responses_failed.sse"),
    fixture!("responses_incomplete.sse"),
    fixture!("responses_text.sse"),
    fixture!("responses_tools.sse"),
];

/// The call that a fixture answers.
fn call_of(name: &str) -> Call {
    let protocol = match name.split('_').next() {
        Some("anthropic") => Protocol::Anthropic,
        Some("chat") => Protocol::Chat,
        _ => Protocol::Responses,
    };
    parse(protocol, br#"{"model":"m","stream":true}"#).unwrap()
}

/// What a tap passes on, and what it has seen, of a stream that comes in these chunks.
fn tapped<'a>(
    call: &Call,
    strip: bool,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Outcome) {
    let mut tap = Tap::new(call, strip);
    let mut passed = Vec::new();
    for chunk in chunks {
        passed.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(chunk)));
    }
    let outcome = tap.end();
    passed.extend_from_slice(&outcome.rest);
    (passed, Outcome { rest: Bytes::new(), ..outcome })
}
