//! Anthropic Messages, as published: events, plain answers, errors.

use flyball_core::model::Usage;
use serde_json::{Value, json};

use super::reply::pieces;
use super::{Asked, Block, Reply};

fn event(data: &Value) -> Vec<u8> {
    let name = data["type"].as_str().unwrap_or("message");
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

/// `input_tokens` leave out what was read from or written to the cache.
fn usage(usage: &Usage, output: u64) -> Value {
    json!({
        "input_tokens": usage.input_plain(),
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": output,
        "service_tier": "standard",
    })
}

fn content(block: &Block, at: usize, number: usize) -> Value {
    match block {
        Block::Text(text) => json!({ "type": "text", "text": text }),
        Block::Thinking(text) => {
            json!({ "type": "thinking", "thinking": text, "signature": "c2lnbmF0dXJl" })
        }
        Block::Tool { name, arguments } => json!({
            "type": "tool_use", "id": format!("toolu_{number:06}{at:02}"), "name": name, "input": arguments,
        }),
        Block::Custom { name, input } => json!({
            "type": "tool_use", "id": format!("toolu_{number:06}{at:02}"), "name": name,
            "input": { "input": input },
        }),
    }
}

fn stop_reason(reply: &Reply) -> &'static str {
    let tool = |block: &Block| matches!(block, Block::Tool { .. } | Block::Custom { .. });
    if reply.blocks.iter().any(tool) { "tool_use" } else { "end_turn" }
}

fn message(asked: &Asked, contents: &[Value], stop: Value, usage: &Value) -> Value {
    json!({
        "id": format!("msg_{:08}", asked.number),
        "type": "message",
        "role": "assistant",
        "model": asked.model(),
        "content": contents,
        "stop_reason": stop,
        "stop_sequence": null,
        "usage": usage,
    })
}

/// The events of a stream, each with its own bytes.
pub(super) fn events(asked: &Asked, reply: &Reply) -> Vec<Vec<u8>> {
    let used = reply.usage_for(asked);
    let start = message(asked, &[], Value::Null, &usage(&used, used.output_total.min(1)));
    let mut events = vec![event(&json!({ "type": "message_start", "message": start }))];
    events.extend((0..reply.pings).map(|_| event(&json!({ "type": "ping" }))));
    for (at, block) in reply.blocks.iter().enumerate() {
        let mut begun = content(block, at, asked.number);
        let (deltas, field): (Vec<Value>, _) = match block {
            Block::Text(text) => (deltas(text, reply, "text_delta", "text"), "text"),
            Block::Thinking(text) => {
                let mut deltas = deltas(text, reply, "thinking_delta", "thinking");
                deltas.push(json!({ "type": "signature_delta", "signature": "c2lnbmF0dXJl" }));
                (deltas, "thinking")
            }
            Block::Tool { .. } | Block::Custom { .. } => {
                let text = begun["input"].to_string();
                (deltas(&text, reply, "input_json_delta", "partial_json"), "input")
            }
        };
        begun[field] = if field == "input" { json!({}) } else { json!("") };
        if field == "thinking" {
            begun["signature"] = json!("");
        }
        let start = json!({ "type": "content_block_start", "index": at, "content_block": begun });
        events.push(event(&start));
        for delta in deltas {
            let delta = json!({ "type": "content_block_delta", "index": at, "delta": delta });
            events.push(event(&delta));
        }
        events.push(event(&json!({ "type": "content_block_stop", "index": at })));
    }
    events.push(event(&json!({
        "type": "message_delta",
        "delta": { "stop_reason": stop_reason(reply), "stop_sequence": null },
        "usage": usage(&used, used.output_total),
    })));
    events.push(event(&json!({ "type": "message_stop" })));
    events
}

fn deltas(text: &str, reply: &Reply, kind: &str, field: &str) -> Vec<Value> {
    pieces(text, reply.delta).iter().map(|piece| json!({ "type": kind, field: piece })).collect()
}

/// A plain answer.
pub(super) fn plain(asked: &Asked, reply: &Reply) -> Value {
    let used = reply.usage_for(asked);
    let contents: Vec<Value> = reply
        .blocks
        .iter()
        .enumerate()
        .map(|(at, block)| content(block, at, asked.number))
        .collect();
    message(asked, &contents, json!(stop_reason(reply)), &usage(&used, used.output_total))
}

/// An error's body.
pub(super) fn error(status: u16, number: usize) -> Value {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({
        "type": "error",
        "error": { "type": kind, "message": format!("scripted {kind}") },
        "request_id": format!("req_{number:08}"),
    })
}

/// An error in a stream that began well.
pub(super) fn error_event() -> Vec<u8> {
    event(&json!({
        "type": "error",
        "error": { "type": "overloaded_error", "message": "Overloaded" },
    }))
}
