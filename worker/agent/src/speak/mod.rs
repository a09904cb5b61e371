//! A conversation with tools, and how each of the three wire protocols writes and answers it.

mod anthropic;
mod chat;
mod responses;

use std::io;

use flyball_core::model::{Protocol, Usage};
use serde_json::Value;

/// A tool that the model may call.
#[derive(Debug, Clone)]
pub(crate) struct ToolSpec {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    /// JSON Schema of its arguments.
    pub(crate) parameters: Value,
}

/// One contribution to the conversation.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    User(String),
    Assistant(Turn),
    Results(Vec<ToolResult>),
}

/// An answer of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) text: String,
    pub(crate) calls: Vec<ToolCall>,
    /// The answer in its protocol's own form, where that has to be given back as it came.
    pub(crate) raw: Vec<Value>,
    pub(crate) usage: Usage,
    /// It ended at its limit of tokens.
    pub(crate) cut_off: bool,
}

/// A tool that the model wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON, if the model wrote it well.
    pub(crate) arguments: String,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct ToolResult {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) ok: bool,
}

/// A question to the model: the whole conversation.
pub(crate) struct Question<'a> {
    pub(crate) model: &'a str,
    pub(crate) system: &'a str,
    pub(crate) items: &'a [Item],
    pub(crate) tools: &'a [ToolSpec],
    pub(crate) output_tokens_max: u64,
}

/// Puts an answer together from the events of its stream.
pub(crate) trait Fold {
    /// The next event; false when there will be no more.
    ///
    /// # Errors
    /// The provider said that it failed.
    fn feed(&mut self, event: &Value) -> io::Result<bool>;

    /// The answer, if it is whole.
    fn finish(self: Box<Self>) -> Option<Turn>;
}

/// The name of a protocol, as it stands in events.
pub(crate) fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Anthropic => "anthropic",
        Protocol::Chat => "chat",
        Protocol::Responses => "responses",
    }
}

/// The path of a call.
pub(crate) fn path(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Anthropic => "/v1/messages",
        Protocol::Chat => "/v1/chat/completions",
        Protocol::Responses => "/v1/responses",
    }
}

/// The headers of a call: who asks, and in which version.
pub(crate) fn headers(protocol: Protocol, key: &str) -> Vec<(&'static str, String)> {
    match protocol {
        Protocol::Anthropic => {
            vec![("x-api-key", key.to_owned()), ("anthropic-version", "2023-06-01".to_owned())]
        }
        Protocol::Chat | Protocol::Responses => {
            vec![("authorization", format!("Bearer {key}"))]
        }
    }
}

/// The body of a call.
pub(crate) fn body(protocol: Protocol, question: &Question<'_>) -> Value {
    match protocol {
        Protocol::Anthropic => anthropic::body(question),
        Protocol::Chat => chat::body(question),
        Protocol::Responses => responses::body(question),
    }
}

/// What takes the answer.
pub(crate) fn fold(protocol: Protocol) -> Box<dyn Fold> {
    match protocol {
        Protocol::Anthropic => Box::<anthropic::Answer>::default(),
        Protocol::Chat => Box::<chat::Answer>::default(),
        Protocol::Responses => Box::<responses::Answer>::default(),
    }
}

/// Arguments as the JSON object that protocols want back; an empty one where the model did not write one.
fn object(arguments: &str) -> Value {
    let value = serde_json::from_str(arguments).ok().filter(Value::is_object);
    value.unwrap_or_else(|| Value::Object(serde_json::Map::new()))
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn count(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

/// A failure that the provider told of in the stream.
fn failed(why: &str) -> io::Error {
    io::Error::other(format!("the model's provider failed: {why}"))
}

#[cfg(test)]
mod tests;
