//! Claude Code's `--output-format stream-json`: `system/init` first, messages between, `result` last.

use flyball_core::model::{LastWord, Usage};
use serde_json::Value;

use super::{TEXT_BYTES_MAX, count, dollars, id, text, turns};
use crate::agent::event::AgentEvent;

pub(super) fn events(kind: &str, value: &Value) -> Vec<AgentEvent> {
    match (kind, value.get("subtype").and_then(Value::as_str).unwrap_or_default()) {
        ("system", "init") => {
            vec![AgentEvent::Began { version: text(value, "claude_code_version", 100) }]
        }
        ("system", "api_retry") => vec![AgentEvent::Retries],
        ("assistant", _) => assistant(value),
        ("user", _) => results(value),
        ("result", subtype) => result(value, subtype),
        _ => Vec::new(),
    }
}

fn content(value: &Value) -> impl Iterator<Item = &Value> {
    let content = value.get("message").and_then(|message| message.get("content"));
    content.and_then(Value::as_array).into_iter().flatten()
}

fn is(block: &Value, kind: &str) -> bool {
    block.get("type").and_then(Value::as_str) == Some(kind)
}

fn assistant(value: &Value) -> Vec<AgentEvent> {
    // Those of subagents are not its own turns, but their tools run all the same.
    let own = value.get("parent_tool_use_id").is_none_or(Value::is_null);
    let mut events = if own { vec![AgentEvent::Turn] } else { Vec::new() };
    for block in content(value) {
        if is(block, "tool_use") {
            events.push(AgentEvent::ToolBegan { id: id(block, "id") });
        } else if own && is(block, "text") {
            events.push(AgentEvent::Said(text(block, "text", TEXT_BYTES_MAX)));
        }
    }
    events
}

fn results(value: &Value) -> Vec<AgentEvent> {
    let results = content(value).filter(|block| is(block, "tool_result"));
    results.map(|block| AgentEvent::ToolEnded { id: id(block, "tool_use_id") }).collect()
}

fn result(value: &Value, subtype: &str) -> Vec<AgentEvent> {
    let mut events = Vec::new();
    // Of the whole tree of agents; `usage` is of the outermost only.
    let usage = match value.get("modelUsage").and_then(Value::as_object) {
        Some(models) => models.values().fold(Usage::default(), |mut sum, model| {
            sum.add(&of_model(model));
            sum
        }),
        None => value.get("usage").map(of_usage).unwrap_or_default(),
    };
    events.push(AgentEvent::Used { usage, cost: dollars(value.get("total_cost_usd")) });
    let failed = value.get("is_error").and_then(Value::as_bool).unwrap_or(false);
    let message = match text(value, "result", TEXT_BYTES_MAX) {
        empty if empty.is_empty() => errors(value),
        message => message,
    };
    let word = LastWord { ok: !failed && subtype == "success", kind: subtype.to_owned(), message };
    events.push(AgentEvent::Ended { word, turns: turns(value, "num_turns") });
    events
}

fn errors(value: &Value) -> String {
    let errors = value.get("errors").and_then(Value::as_array).into_iter().flatten();
    let errors: Vec<&str> = errors.filter_map(Value::as_str).collect();
    let text = errors.join("; ");
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

fn of_model(model: &Value) -> Usage {
    let (read, write) =
        (count(model, "cacheReadInputTokens"), count(model, "cacheCreationInputTokens"));
    Usage {
        input_total: count(model, "inputTokens").saturating_add(read).saturating_add(write),
        cache_read: read,
        cache_write_5m: write,
        output_total: count(model, "outputTokens"),
        web_searches: count(model, "webSearchRequests"),
        ..Usage::default()
    }
}

fn of_usage(usage: &Value) -> Usage {
    let (read, write) =
        (count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens"));
    Usage {
        input_total: count(usage, "input_tokens").saturating_add(read).saturating_add(write),
        cache_read: read,
        cache_write_5m: write,
        output_total: count(usage, "output_tokens"),
        ..Usage::default()
    }
}
