//! Changes to a request's body: single values are replaced where they stand, and nothing else is touched, because
//! signatures and caches of the provider rest on the bytes.

use std::ops::Range;

use bytes::Bytes;
use flyball_core::model::Protocol;

use super::call::{Call, own_limits};
use super::json::quoted;

/// What is to be changed; nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Edits<'a> {
    /// Another model.
    pub model: Option<&'a str>,
    /// Another output limit, in place of every one that is there.
    pub max_output: Option<u64>,
    /// Whether the limit is to stand under both of Chat's names: OpenAI's own servers take `max_completion_tokens`
    /// and refuse the two together, others know both or only the older `max_tokens`.
    pub both_limits: bool,
    /// Whether usage is to be asked for in a stream (Chat only).
    pub ask_usage: bool,
}

/// The body with the changes made, and with a bound for searches of the web where it has none. `body` must be the one
/// that `call` was read from. Without anything to change it is the same bytes.
pub fn edit(body: Bytes, call: &Call, edits: &Edits<'_>) -> Bytes {
    let mut pieces: Vec<(Range<usize>, String)> = Vec::new();
    if let Some(model) = edits.model.filter(|model| *model != call.model) {
        pieces.push((call.spans.model.clone(), quoted(model)));
    }
    set_limit(call, edits, &mut pieces);
    pieces.extend(call.spans.searches.iter().cloned());
    if edits.ask_usage && call.protocol == Protocol::Chat && call.stream && !call.asks_usage {
        pieces.push(ask_usage(call));
    }
    if pieces.is_empty() { body } else { spliced(&body, pieces) }
}

fn set_limit(call: &Call, edits: &Edits<'_>, pieces: &mut Vec<(Range<usize>, String)>) {
    if let Some(limit) = edits.max_output {
        for (_, span) in &call.spans.limits {
            pieces.push((span.clone(), limit.to_string()));
        }
    }
    let Some(limit) = edits.max_output.or(call.max_output) else { return };
    let own = own_limits(call.protocol);
    let has = |name: &&str| call.spans.limits.iter().any(|(found, _)| found == name);
    let missing: &[&str] = if edits.both_limits {
        own
    } else if own.iter().any(has) {
        &[]
    } else {
        &own[..1]
    };
    let start = call.spans.start;
    for name in missing.iter().filter(|name| !has(name)) {
        // There is always a member after it: the model.
        pieces.push((start..start, format!("\"{name}\":{limit},")));
    }
}

fn ask_usage(call: &Call) -> (Range<usize>, String) {
    let start = call.spans.start;
    let Some(options) = &call.spans.stream_options else {
        return (start..start, r#""stream_options":{"include_usage":true},"#.to_owned());
    };
    if let Some(span) = &options.include_usage {
        return (span.clone(), "true".to_owned());
    }
    if !options.is_object {
        return (options.value.clone(), r#"{"include_usage":true}"#.to_owned());
    }
    let comma = if options.has_members { "," } else { "" };
    let inside = options.value.start + 1;
    (inside..inside, format!(r#""include_usage":true{comma}"#))
}

/// Whether a Chat server at this URL takes both names of the limit: all but OpenAI's own, and Azure's.
pub fn takes_both_limits(base_url: &str) -> bool {
    let host = base_url.split_once("://").map_or(base_url, |(_, rest)| rest);
    let host = host.split(['/', ':', '?']).next().unwrap_or_default();
    let is_of = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
    !is_of("openai.com") && !is_of("azure.com")
}

/// Puts pieces in the place of ranges that do not overlap.
fn spliced(body: &[u8], mut pieces: Vec<(Range<usize>, String)>) -> Bytes {
    pieces.sort_by_key(|(span, _)| span.start);
    let added: usize = pieces.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + added);
    let mut from = 0;
    for (span, text) in pieces {
        out.extend_from_slice(body.get(from..span.start).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        from = span.end;
    }
    out.extend_from_slice(body.get(from..).unwrap_or_default());
    Bytes::from(out)
}
