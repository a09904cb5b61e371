//! The JSON lines of `flyball agent builtin`.

use flyball_core::model::{LastWord, Usage};
use serde_json::Value;

use super::{TEXT_BYTES_MAX, id, text, turns};
use crate::agent::event::AgentEvent;

pub(super) fn events(kind: &str, value: &Value) -> Vec<AgentEvent> {
    match kind {
        "began" => vec![AgentEvent::Began { version: text(value, "version", 100) }],
        "turn" => {
            let mut events = vec![AgentEvent::Turn];
            let said = text(value, "text", TEXT_BYTES_MAX);
            events.extend((!said.is_empty()).then_some(AgentEvent::Said(said)));
            events.extend(used(value));
            events
        }
        "toolBegan" => vec![AgentEvent::ToolBegan { id: id(value, "id") }],
        "toolEnded" => vec![AgentEvent::ToolEnded { id: id(value, "id") }],
        "retry" => vec![AgentEvent::Retries],
        "ended" => {
            let ok = value.get("ok").and_then(Value::as_bool).unwrap_or(false);
            let message = text(value, "message", TEXT_BYTES_MAX);
            let word = LastWord { ok, kind: text(value, "reason", 100), message };
            let mut events: Vec<AgentEvent> = used(value).into_iter().collect();
            events.push(AgentEvent::Ended { word, turns: turns(value, "turns") });
            events
        }
        _ => Vec::new(),
    }
}

/// The sum so far, in our own form.
fn used(value: &Value) -> Option<AgentEvent> {
    let usage: Usage = serde_json::from_value(value.get("usage")?.clone()).ok()?;
    Some(AgentEvent::Used { usage, cost: None })
}
