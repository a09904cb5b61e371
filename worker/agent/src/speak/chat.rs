//! OpenAI Chat Completions.

use std::io;

use flyball_core::model::Usage;
use serde_json::{Value, json};

use super::{Fold, Item, Question, ToolCall, Turn, count, failed, text};

pub(super) fn body(question: &Question<'_>) -> Value {
    let mut messages = vec![json!({"role": "system", "content": question.system})];
    messages.extend(question.items.iter().flat_map(messages_of));
    let tools: Vec<Value> = question
        .tools
        .iter()
        .map(|tool| {
            json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.parameters,
            }})
        })
        .collect();
    json!({
        "model": question.model,
        "max_completion_tokens": question.output_tokens_max,
        "messages": messages,
        "tools": tools,
        "stream": true,
        "stream_options": {"include_usage": true},
    })
}

fn messages_of(item: &Item) -> Vec<Value> {
    match item {
        Item::User(text) => vec![json!({"role": "user", "content": text})],
        Item::Assistant(turn) => {
            let mut message = json!({"role": "assistant", "content": turn.text});
            let calls: Vec<Value> = turn
                .calls
                .iter()
                .map(|call| {
                    json!({"id": call.id, "type": "function", "function": {
                        "name": call.name, "arguments": super::object(&call.arguments).to_string(),
                    }})
                })
                .collect();
            if !calls.is_empty() {
                message["tool_calls"] = calls.into();
            }
            vec![message]
        }
        Item::Results(results) => results
            .iter()
            .map(|one| json!({"role": "tool", "tool_call_id": one.id, "content": one.text}))
            .collect(),
    }
}

/// Most tools in one answer; an index beyond it is junk.
const CALLS_MAX: usize = 128;

/// An answer that is being streamed.
#[derive(Default)]
pub(super) struct Answer {
    turn: Turn,
    whole: bool,
}

impl Fold for Answer {
    fn feed(&mut self, event: &Value) -> io::Result<bool> {
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            return Err(failed(text(error, "/message")));
        }
        if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
            self.turn.usage = Usage {
                input_total: count(usage, "/prompt_tokens"),
                cache_read: count(usage, "/prompt_tokens_details/cached_tokens"),
                cache_write_5m: count(usage, "/prompt_tokens_details/cache_write_tokens"),
                output_total: count(usage, "/completion_tokens"),
                reasoning: count(usage, "/completion_tokens_details/reasoning_tokens"),
                ..Usage::default()
            };
        }
        self.turn.text += text(event, "/choices/0/delta/content");
        let calls = event.pointer("/choices/0/delta/tool_calls").and_then(Value::as_array);
        for call in calls.into_iter().flatten() {
            self.take_call(call);
        }
        match text(event, "/choices/0/finish_reason") {
            "" => {}
            reason => {
                self.whole = true;
                self.turn.cut_off = reason == "length";
            }
        }
        // The usage comes after the reason, so the stream is read to its end.
        Ok(true)
    }

    fn finish(mut self: Box<Self>) -> Option<Turn> {
        self.turn.calls.retain(|call| !call.name.is_empty());
        for (number, call) in self.turn.calls.iter_mut().enumerate() {
            if call.id.is_empty() {
                call.id = format!("call_{number}");
            }
        }
        self.whole.then_some(self.turn)
    }
}

impl Answer {
    fn take_call(&mut self, call: &Value) {
        let calls = &mut self.turn.calls;
        // Some servers leave the index out and send every call whole.
        let index = call.get("index").and_then(Value::as_u64).map(usize::try_from);
        let index = index.and_then(Result::ok).unwrap_or(calls.len());
        if index >= CALLS_MAX {
            return;
        }
        if calls.len() <= index {
            calls.resize(index + 1, ToolCall::default());
        }
        let one = &mut calls[index];
        one.id += text(call, "/id");
        one.name += text(call, "/function/name");
        one.arguments += text(call, "/function/arguments");
    }
}
