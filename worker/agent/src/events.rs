//! What the agent says while it works: JSON lines on its standard output, for the supervisor and for people.

use std::io::Write;

use flyball_core::model::Usage;
use serde_json::{Value, json};

use crate::speak::{ToolCall, Turn};
use crate::work::Ended;

/// Longest text of an event, bytes: what a person looks at; the work itself is in the repository.
const TEXT_BYTES_MAX: usize = 4000;

/// The stream of events.
pub(crate) struct Events<'a> {
    out: &'a mut dyn Write,
}

impl<'a> Events<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
        Self { out }
    }

    pub(crate) fn began(&mut self, model: &str, protocol: &str) {
        let version = env!("CARGO_PKG_VERSION");
        self.say(
            json!({"type": "began", "version": version, "model": model, "protocol": protocol}),
        );
    }

    /// An answer of the model, with the usage of all answers so far.
    pub(crate) fn turn(&mut self, number: u32, turn: &Turn, usage: &Usage) {
        self.say(json!({
            "type": "turn", "number": number, "text": short(&turn.text), "calls": turn.calls.len(),
            "usage": usage,
        }));
    }

    pub(crate) fn tool_began(&mut self, call: &ToolCall) {
        let input = short(&call.arguments);
        self.say(json!({"type": "toolBegan", "id": call.id, "name": call.name, "input": input}));
    }

    pub(crate) fn tool_ended(&mut self, call: &ToolCall, ok: bool, output: &str) {
        let output = short(output);
        self.say(json!({"type": "toolEnded", "id": call.id, "ok": ok, "output": output}));
    }

    pub(crate) fn retry(&mut self, why: &str) {
        self.say(json!({"type": "retry", "why": short(why)}));
    }

    pub(crate) fn ended(&mut self, ended: &Ended, turns: u32, usage: &Usage) {
        self.say(json!({
            "type": "ended", "ok": ended.ok, "reason": ended.reason, "message": short(&ended.message),
            "turns": turns, "usage": usage,
        }));
    }

    fn say(&mut self, event: Value) {
        // Nobody listens any more: the work goes on all the same, as its change is what counts.
        let _ = writeln!(self.out, "{event}").and_then(|()| self.out.flush());
    }
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
