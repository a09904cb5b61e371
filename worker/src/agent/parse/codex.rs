//! Codex' `exec --json`: a thread begins, items come and go, and every turn ends as completed or failed.

use flyball_core::model::LastWord;
use serde_json::Value;

use super::{TEXT_BYTES_MAX, id, openai_usage, text};
use crate::agent::event::AgentEvent;

/// Kinds of items that are tools which run for a while.
const TOOLS: [&str; 4] = ["command_execution", "mcp_tool_call", "web_search", "collab_tool_call"];

/// What has to be kept between lines.
#[derive(Debug, Default)]
pub(crate) struct Codex {
    said: String,
    turns: u32,
}

impl Codex {
    pub(super) fn events(&mut self, kind: &str, value: &Value) -> Vec<AgentEvent> {
        let item = value.get("item");
        let of = item.and_then(|item| item.get("type")).and_then(Value::as_str).unwrap_or_default();
        match (kind, item) {
            ("thread.started", _) => vec![AgentEvent::Began { version: String::new() }],
            ("item.started", Some(item)) if TOOLS.contains(&of) => {
                vec![AgentEvent::ToolBegan { id: id(item, "id") }]
            }
            ("item.completed", Some(item)) if TOOLS.contains(&of) => {
                vec![AgentEvent::ToolEnded { id: id(item, "id") }]
            }
            ("item.completed", Some(item)) if of == "agent_message" => {
                self.said = text(item, "text", TEXT_BYTES_MAX);
                self.turns = self.turns.saturating_add(1);
                vec![AgentEvent::Turn, AgentEvent::Said(self.said.clone())]
            }
            ("turn.completed", _) => {
                // Of the whole thread, so the last one told is all of it.
                let usage = value.get("usage").map(openai_usage).unwrap_or_default();
                vec![
                    AgentEvent::Used { usage, cost: None },
                    self.ended(true, "turn.completed", self.said.clone()),
                ]
            }
            ("turn.failed", _) => {
                let message =
                    value.get("error").map(|error| text(error, "message", TEXT_BYTES_MAX));
                vec![self.ended(false, "turn.failed", message.unwrap_or_default())]
            }
            // Also told of a connection that is tried again; what ends a turn is said by the turn.
            ("error", _) => vec![AgentEvent::Retries],
            _ => Vec::new(),
        }
    }

    fn ended(&self, ok: bool, kind: &str, message: String) -> AgentEvent {
        let word = LastWord { ok, kind: kind.to_owned(), message };
        AgentEvent::Ended { word, turns: (self.turns > 0).then_some(self.turns) }
    }
}
