//! OpenAI Chat Completions, as published: chunks, plain answers, errors.

use flyball_core::model::Usage;
use serde_json::{Value, json};

use super::reply::pieces;
use super::{Asked, Block, Reply};

fn event(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_total,
        "completion_tokens": usage.output_total,
        "total_tokens": usage.tokens(),
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m,
            "audio_tokens": 0,
        },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning, "audio_tokens": 0 },
    })
}

fn call(block: &Block) -> Option<(&str, String)> {
    match block {
        Block::Tool { name, arguments } => Some((name, arguments.to_string())),
        Block::Custom { name, input } => Some((name, json!({ "input": input }).to_string())),
        Block::Text(_) | Block::Thinking(_) => None,
    }
}

fn calls(reply: &Reply) -> Vec<(&str, String)> {
    reply.blocks.iter().filter_map(call).collect()
}

fn finish(reply: &Reply) -> &'static str {
    if calls(reply).is_empty() { "stop" } else { "tool_calls" }
}

fn id(asked: &Asked, at: usize) -> String {
    format!("call_{:06}{at:02}", asked.number)
}

/// The chunks of a stream, the last `[DONE]`.
pub(super) fn events(asked: &Asked, reply: &Reply) -> Vec<Vec<u8>> {
    let asks = asked.asks_usage();
    let chunk = |choices: Value, used: Value| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{:08}", asked.number),
            "object": "chat.completion.chunk",
            "created": 1_790_000_000,
            "model": asked.model(),
            "system_fingerprint": "fp_scripted",
            "choices": choices,
        });
        if asks {
            chunk["usage"] = used;
        }
        event(&chunk)
    };
    let choice = |delta: Value, finish: Value| {
        let choice =
            json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish });
        chunk(json!([choice]), Value::Null)
    };
    let mut events = vec![choice(json!({ "role": "assistant", "content": "" }), Value::Null)];
    for block in &reply.blocks {
        if let Block::Text(text) = block {
            let deltas = pieces(text, reply.delta);
            events.extend(deltas.iter().map(|t| choice(json!({ "content": t }), Value::Null)));
        }
    }
    for (at, (name, arguments)) in calls(reply).into_iter().enumerate() {
        let begun = json!({
            "index": at, "id": id(asked, at), "type": "function",
            "function": { "name": name, "arguments": "" },
        });
        events.push(choice(json!({ "tool_calls": [begun] }), Value::Null));
        for piece in pieces(&arguments, reply.delta) {
            let more = json!({ "index": at, "function": { "arguments": piece } });
            events.push(choice(json!({ "tool_calls": [more] }), Value::Null));
        }
    }
    events.push(choice(json!({}), json!(finish(reply))));
    if asks {
        events.push(chunk(json!([]), usage(&reply.usage_for(asked))));
    }
    events.push(b"data: [DONE]\n\n".to_vec());
    events
}

/// A plain answer.
pub(super) fn plain(asked: &Asked, reply: &Reply) -> Value {
    let texts = reply.blocks.iter().filter_map(|block| match block {
        Block::Text(text) => Some(text.as_str()),
        Block::Thinking(_) | Block::Tool { .. } | Block::Custom { .. } => None,
    });
    let text = texts.collect::<String>();
    let mut message = json!({
        "role": "assistant",
        "content": if text.is_empty() { Value::Null } else { json!(text) },
        "refusal": null,
    });
    let calls: Vec<Value> = calls(reply)
        .into_iter()
        .enumerate()
        .map(|(at, (name, arguments))| {
            json!({
                "id": id(asked, at), "type": "function",
                "function": { "name": name, "arguments": arguments },
            })
        })
        .collect();
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    json!({
        "id": format!("chatcmpl-{:08}", asked.number),
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": asked.model(),
        "choices": [{
            "index": 0, "message": message, "logprobs": null, "finish_reason": finish(reply),
        }],
        "usage": usage(&reply.usage_for(asked)),
        "system_fingerprint": "fp_scripted",
    })
}

/// An error's body; Responses has the same.
pub(super) fn error(status: u16) -> Value {
    let (kind, code) = match status {
        400 => ("invalid_request_error", Value::Null),
        401 => ("invalid_request_error", json!("invalid_api_key")),
        404 => ("invalid_request_error", json!("model_not_found")),
        429 => ("requests", json!("rate_limit_exceeded")),
        _ => ("server_error", Value::Null),
    };
    json!({
        "error": { "message": format!("scripted {status}"), "type": kind, "param": null, "code": code },
    })
}

/// An error in a stream that began well.
pub(super) fn error_event() -> Vec<u8> {
    event(&error(500))
}
