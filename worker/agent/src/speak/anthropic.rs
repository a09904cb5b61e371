//! Anthropic Messages.

use std::io;

use flyball_core::model::Usage;
use serde_json::{Value, json};

use super::{Fold, Item, Question, ToolCall, Turn, count, failed, object, text};

pub(super) fn body(question: &Question<'_>) -> Value {
    let mut messages: Vec<Value> = question.items.iter().map(message).collect();
    // Everything up to here is the same in the next question, so it may be read from a cache then.
    let cache = json!({"type": "ephemeral"});
    if let Some(last) = messages.last_mut().and_then(|last| last.pointer_mut("/content"))
        && let Some(block) = last.as_array_mut().and_then(|blocks| blocks.last_mut())
    {
        block["cache_control"] = cache.clone();
    }
    let tools: Vec<Value> = question
        .tools
        .iter()
        .map(|tool| {
            json!({"name": tool.name, "description": tool.description, "input_schema": tool.parameters})
        })
        .collect();
    json!({
        "model": question.model,
        "max_tokens": question.output_tokens_max,
        "system": [{"type": "text", "text": question.system, "cache_control": cache}],
        "tools": tools,
        "messages": messages,
        "stream": true,
    })
}

fn message(item: &Item) -> Value {
    match item {
        Item::User(text) => json!({"role": "user", "content": [{"type": "text", "text": text}]}),
        Item::Assistant(turn) => {
            let mut content = Vec::new();
            if !turn.text.is_empty() {
                content.push(json!({"type": "text", "text": turn.text}));
            }
            content.extend(turn.calls.iter().map(|call| {
                let input = object(&call.arguments);
                json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
            }));
            if content.is_empty() {
                // The protocol takes no empty turn.
                content.push(json!({"type": "text", "text": "(nothing)"}));
            }
            json!({"role": "assistant", "content": content})
        }
        Item::Results(results) => {
            let content: Vec<Value> = results
                .iter()
                .map(|result| {
                    json!({
                        "type": "tool_result", "tool_use_id": result.id, "content": result.text,
                        "is_error": !result.ok,
                    })
                })
                .collect();
            json!({"role": "user", "content": content})
        }
    }
}

/// An answer that is being streamed.
#[derive(Default)]
pub(super) struct Answer {
    turn: Turn,
    /// The tool of the open block.
    open: Option<ToolCall>,
    usage: Value,
    whole: bool,
}

impl Fold for Answer {
    fn feed(&mut self, event: &Value) -> io::Result<bool> {
        match text(event, "/type") {
            "message_start" => {
                self.usage = event.pointer("/message/usage").cloned().unwrap_or_default()
            }
            "content_block_start" if text(event, "/content_block/type") == "tool_use" => {
                self.open = Some(ToolCall {
                    id: text(event, "/content_block/id").to_owned(),
                    name: text(event, "/content_block/name").to_owned(),
                    arguments: String::new(),
                });
            }
            "content_block_delta" => {
                self.turn.text += text(event, "/delta/text");
                if let Some(open) = &mut self.open {
                    open.arguments += text(event, "/delta/partial_json");
                }
            }
            "content_block_stop" => self.turn.calls.extend(self.open.take()),
            "message_delta" => {
                self.turn.cut_off = text(event, "/delta/stop_reason") == "max_tokens";
                self.take_usage(event.get("usage"));
            }
            "message_stop" => {
                self.whole = true;
                return Ok(false);
            }
            "error" => return Err(failed(text(event, "/error/message"))),
            _ => {}
        }
        Ok(true)
    }

    fn finish(mut self: Box<Self>) -> Option<Turn> {
        let (read, write) = (
            count(&self.usage, "/cache_read_input_tokens"),
            count(&self.usage, "/cache_creation_input_tokens"),
        );
        let hour = count(&self.usage, "/cache_creation/ephemeral_1h_input_tokens").min(write);
        self.turn.usage = Usage {
            input_total: count(&self.usage, "/input_tokens") + read + write,
            cache_read: read,
            cache_write_5m: write - hour,
            cache_write_1h: hour,
            output_total: count(&self.usage, "/output_tokens"),
            ..Usage::default()
        };
        self.whole.then_some(self.turn)
    }
}

impl Answer {
    /// What is told later replaces what was told before: it is the sum so far.
    fn take_usage(&mut self, later: Option<&Value>) {
        let Some(later) = later.and_then(Value::as_object) else { return };
        if !self.usage.is_object() {
            self.usage = json!({});
        }
        for (name, value) in later.iter().filter(|(_, value)| !value.is_null()) {
            self.usage[name] = value.clone();
        }
    }
}
