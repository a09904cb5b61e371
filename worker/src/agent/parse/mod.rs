//! One parser for each form of output: a line in, what it says out. Kinds of lines that a parser does not know
//! are no errors, as every release of these programs brings new ones.

mod builtin;
mod claude_code;
mod codex;
mod mini_swe_agent;

use flyball_core::model::{Money, Usage};
use serde_json::Value;

use super::event::AgentEvent;

/// Longest text of an agent that is kept, bytes: an iteration's note is a line.
const TEXT_BYTES_MAX: usize = 2000;
/// Longest id of a tool's run that is kept, bytes.
const ID_BYTES_MAX: usize = 200;

/// The parser of one attempt's output.
#[derive(Debug)]
pub(crate) enum Parser {
    /// Output of any form.
    Lines,
    /// JSON lines of `flyball agent builtin`.
    Builtin,
    /// Claude Code's `stream-json`.
    ClaudeCode,
    /// Codex' `exec --json`.
    Codex(codex::Codex),
    /// Lines for people, and a trajectory at the end.
    MiniSweAgent,
}

impl Parser {
    /// For an output of this name (`AgentDefinition::output`); a name that is not known is of any form.
    pub(crate) fn new(output: &str) -> Self {
        match output {
            "builtin" => Self::Builtin,
            "claude-code" => Self::ClaudeCode,
            "codex" => Self::Codex(codex::Codex::default()),
            "mini-swe-agent" => Self::MiniSweAgent,
            _ => Self::Lines,
        }
    }

    /// Whether its agent has a last word, so that one that ends without it broke off.
    pub(crate) fn speaks(&self) -> bool {
        !matches!(self, Self::Lines)
    }

    /// Takes one line, without its end.
    pub(crate) fn feed(&mut self, line: &[u8]) -> Vec<AgentEvent> {
        match self {
            Self::Lines | Self::MiniSweAgent => return vec![AgentEvent::Other],
            _ if line.iter().all(u8::is_ascii_whitespace) => return Vec::new(),
            _ => {}
        }
        let Ok(value) = serde_json::from_slice::<Value>(line) else {
            return vec![AgentEvent::Unread];
        };
        let Some(kind) = value.get("type").and_then(Value::as_str) else {
            return vec![AgentEvent::Unread];
        };
        let events = match self {
            Self::Builtin => builtin::events(kind, &value),
            Self::ClaudeCode => claude_code::events(kind, &value),
            Self::Codex(codex) => codex.events(kind, &value),
            Self::Lines | Self::MiniSweAgent => Vec::new(),
        };
        if events.is_empty() { vec![AgentEvent::Other] } else { events }
    }

    /// The file below the agent's home that says the rest when it has ended, if there is one.
    pub(crate) fn file(&self) -> Option<&'static str> {
        matches!(self, Self::MiniSweAgent).then_some("traj.json")
    }

    /// Takes that file.
    pub(crate) fn feed_file(&self, bytes: &[u8]) -> Vec<AgentEvent> {
        match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => mini_swe_agent::events(&value),
            Err(_) => vec![AgentEvent::Unread],
        }
    }
}

/// A text field, at most so many bytes of it.
fn text(value: &Value, field: &str, bytes_max: usize) -> String {
    let text = value.get(field).and_then(Value::as_str).unwrap_or_default();
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

/// The id of a tool's run.
fn id(value: &Value, field: &str) -> String {
    text(value, field, ID_BYTES_MAX)
}

/// A count; 0 if it is none.
fn count(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or(0)
}

/// A count of turns.
fn turns(value: &Value, field: &str) -> Option<u32> {
    value.get(field)?.as_u64()?.try_into().ok()
}

/// Money that a program counted in floating point dollars.
fn dollars(value: Option<&Value>) -> Option<Money> {
    let dollars = value?.as_f64().filter(|dollars| (0.0..1e9).contains(dollars))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded just above, and only for display"
    )]
    Some(Money((dollars * 1e6).round() as u64))
}

/// What OpenAI's protocols call usage, under either set of names.
fn openai_usage(value: &Value) -> Usage {
    let either = |a: &str, b: &str| count(value, a).max(count(value, b));
    let part = |outer: &[&str], name: &str| {
        let of = |outer: &&str| value.get(*outer).map_or(0, |inner| count(inner, name));
        outer.iter().map(of).max().unwrap_or(0)
    };
    let inputs = ["prompt_tokens_details", "input_tokens_details"];
    let outputs = ["completion_tokens_details", "output_tokens_details"];
    Usage {
        input_total: either("prompt_tokens", "input_tokens"),
        cache_read: part(&inputs, "cached_tokens").max(count(value, "cached_input_tokens")),
        cache_write_5m: part(&inputs, "cache_write_tokens")
            .max(count(value, "cache_write_input_tokens")),
        output_total: either("completion_tokens", "output_tokens"),
        reasoning: part(&outputs, "reasoning_tokens").max(count(value, "reasoning_output_tokens")),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests;
