//! OpenAI Responses, without anything kept at the provider: what it answered is given back as it came, encrypted
//! reasoning included.

use std::io;

use flyball_core::model::Usage;
use serde_json::{Value, json};

use super::{Fold, Item, Question, ToolCall, Turn, count, failed, text};

pub(super) fn body(question: &Question<'_>) -> Value {
    let input: Vec<Value> = question.items.iter().flat_map(input_of).collect();
    let tools: Vec<Value> = question
        .tools
        .iter()
        .map(|tool| {
            json!({
                "type": "function", "name": tool.name, "description": tool.description,
                "parameters": tool.parameters, "strict": false,
            })
        })
        .collect();
    json!({
        "model": question.model,
        "instructions": question.system,
        "input": input,
        "tools": tools,
        "max_output_tokens": question.output_tokens_max,
        "store": false,
        "include": ["reasoning.encrypted_content"],
        "stream": true,
    })
}

fn input_of(item: &Item) -> Vec<Value> {
    match item {
        Item::User(text) => {
            let content = [json!({"type": "input_text", "text": text})];
            vec![json!({"type": "message", "role": "user", "content": content})]
        }
        Item::Assistant(turn) => turn.raw.clone(),
        Item::Results(results) => results
            .iter()
            .map(|one| {
                json!({"type": "function_call_output", "call_id": one.id, "output": one.text})
            })
            .collect(),
    }
}

/// An answer that is being streamed.
#[derive(Default)]
pub(super) struct Answer {
    items: Vec<Value>,
    last: Value,
    cut_off: bool,
}

impl Fold for Answer {
    fn feed(&mut self, event: &Value) -> io::Result<bool> {
        match text(event, "/type") {
            "response.output_item.done" => self.items.extend(event.get("item").cloned()),
            kind @ ("response.completed" | "response.incomplete") => {
                self.cut_off = kind == "response.incomplete";
                self.last = event.get("response").cloned().unwrap_or_default();
                return Ok(false);
            }
            "response.failed" => return Err(failed(text(event, "/response/error/message"))),
            "error" => {
                let inner = text(event, "/error/message");
                return Err(failed(if inner.is_empty() { text(event, "/message") } else { inner }));
            }
            _ => {}
        }
        Ok(true)
    }

    fn finish(self: Box<Self>) -> Option<Turn> {
        let Self { mut items, last, cut_off } = *self;
        if last.is_null() {
            return None;
        }
        if items.is_empty() {
            items = last.get("output").and_then(Value::as_array).cloned().unwrap_or_default();
        }
        let mut turn = Turn { cut_off, usage: usage(&last), ..Turn::default() };
        for item in &items {
            match text(item, "/type") {
                "message" => {
                    let parts = item.get("content").and_then(Value::as_array);
                    for part in parts.into_iter().flatten() {
                        turn.text += text(part, "/text");
                    }
                }
                "function_call" => turn.calls.push(ToolCall {
                    id: text(item, "/call_id").to_owned(),
                    name: text(item, "/name").to_owned(),
                    arguments: text(item, "/arguments").to_owned(),
                }),
                _ => {}
            }
        }
        turn.raw = items;
        Some(turn)
    }
}

fn usage(response: &Value) -> Usage {
    Usage {
        input_total: count(response, "/usage/input_tokens"),
        cache_read: count(response, "/usage/input_tokens_details/cached_tokens"),
        cache_write_5m: count(response, "/usage/input_tokens_details/cache_write_tokens"),
        output_total: count(response, "/usage/output_tokens"),
        reasoning: count(response, "/usage/output_tokens_details/reasoning_tokens"),
        ..Usage::default()
    }
}
