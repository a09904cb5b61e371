//! OpenAI Responses, as published: events, plain answers.

use flyball_core::model::Usage;
use serde_json::{Value, json};

use super::reply::pieces;
use super::{Asked, Block, Reply};

/// Numbers the events as it collects them.
struct Events(Vec<Vec<u8>>);

impl Events {
    fn push(&mut self, kind: &str, mut data: Value) {
        data["type"] = json!(kind);
        data["sequence_number"] = json!(self.0.len());
        self.0.push(format!("event: {kind}\ndata: {data}\n\n").into_bytes());
    }
}

fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input_total,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m,
        },
        "output_tokens": usage.output_total,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning },
        "total_tokens": usage.tokens(),
    })
}

fn item(asked: &Asked, at: usize, block: &Block, status: &str) -> Value {
    let id = |kind: &str| format!("{kind}_{:06}{at:02}", asked.number);
    match block {
        Block::Text(text) => json!({
            "id": id("msg"), "type": "message", "status": status, "role": "assistant",
            "content": [{ "type": "output_text", "text": text, "annotations": [], "logprobs": [] }],
        }),
        Block::Thinking(text) => json!({
            "id": id("rs"), "type": "reasoning",
            "summary": [{ "type": "summary_text", "text": text }],
        }),
        Block::Tool { name, arguments } => json!({
            "id": id("fc"), "type": "function_call", "status": status, "call_id": id("call"),
            "name": name, "arguments": arguments.to_string(),
        }),
        Block::Custom { name, input } => json!({
            "id": id("ctc"), "type": "custom_tool_call", "status": status, "call_id": id("call"),
            "name": name, "input": input,
        }),
    }
}

fn response(asked: &Asked, reply: &Reply, status: &str) -> Value {
    let done = status == "completed";
    let output: Vec<Value> = match done {
        true => reply.blocks.iter().enumerate().map(|(at, b)| item(asked, at, b, status)).collect(),
        false => Vec::new(),
    };
    json!({
        "id": format!("resp_{:08}", asked.number),
        "object": "response",
        "created_at": 1_790_000_000,
        "status": status,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": asked.max_output(),
        "model": asked.model(),
        "output": output,
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "store": false,
        "tool_choice": "auto",
        "tools": [],
        "usage": if done { usage(&reply.usage_for(asked)) } else { Value::Null },
        "metadata": {},
    })
}

/// The events of a stream.
pub(super) fn events(asked: &Asked, reply: &Reply) -> Vec<Vec<u8>> {
    let mut events = Events(Vec::new());
    let begun = response(asked, reply, "in_progress");
    events.push("response.created", json!({ "response": begun }));
    events.push("response.in_progress", json!({ "response": begun }));
    for (at, block) in reply.blocks.iter().enumerate() {
        one_item(&mut events, asked, reply, at, block);
    }
    let done = response(asked, reply, "completed");
    events.push("response.completed", json!({ "response": done }));
    events.0
}

fn one_item(events: &mut Events, asked: &Asked, reply: &Reply, at: usize, block: &Block) {
    let whole = item(asked, at, block, "completed");
    let mut begun = item(asked, at, block, "in_progress");
    let id = whole["id"].clone();
    let field = match block {
        Block::Text(_) => "content",
        Block::Thinking(_) => "summary",
        Block::Tool { .. } => "arguments",
        Block::Custom { .. } => "input",
    };
    begun[field] = if begun[field].is_array() { json!([]) } else { json!("") };
    events.push("response.output_item.added", json!({ "output_index": at, "item": begun }));
    let (text, delta, end, part) = match block {
        Block::Text(text) => (
            text.clone(),
            "response.output_text.delta",
            "response.output_text.done",
            Some(("response.content_part", "content_index", "output_text")),
        ),
        Block::Thinking(text) => (
            text.clone(),
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            Some(("response.reasoning_summary_part", "summary_index", "summary_text")),
        ),
        Block::Tool { arguments, .. } => (
            arguments.to_string(),
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            None,
        ),
        Block::Custom { input, .. } => (
            input.clone(),
            "response.custom_tool_call_input.delta",
            "response.custom_tool_call_input.done",
            None,
        ),
    };
    let place = |mut data: Value| {
        data["item_id"] = id.clone();
        data["output_index"] = json!(at);
        if let Some((_, index, _)) = part {
            data[index] = json!(0);
        }
        data
    };
    let shown = |kind: &str, text: &str| json!({ "part": { "type": kind, "text": text, "annotations": [] } });
    if let Some((name, _, kind)) = part {
        events.push(&format!("{name}.added"), place(shown(kind, "")));
    }
    for piece in pieces(&text, reply.delta) {
        events.push(delta, place(json!({ "delta": piece })));
    }
    let named = if field == "arguments" || field == "input" { field } else { "text" };
    events.push(end, place(json!({ named: text })));
    if let Some((name, _, kind)) = part {
        events.push(&format!("{name}.done"), place(shown(kind, &text)));
    }
    events.push("response.output_item.done", json!({ "output_index": at, "item": whole }));
}

/// A plain answer.
pub(super) fn plain(asked: &Asked, reply: &Reply) -> Value {
    response(asked, reply, "completed")
}

/// A failure in a stream that began well.
pub(super) fn error_event(asked: &Asked, reply: &Reply) -> Vec<u8> {
    let mut failed = response(asked, reply, "failed");
    failed["error"] = json!({ "code": "server_error", "message": "scripted failure" });
    let mut events = Events(Vec::new());
    events.push("response.failed", json!({ "response": failed }));
    events.0.remove(0)
}
