//! A request to the scripted provider, as scripts look at it.

use std::collections::BTreeMap;

use flyball_core::model::Protocol;
use serde_json::Value;

/// One request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its number among all requests to the provider, from 0.
    pub number: usize,
    /// `GET`, `POST`...
    pub method: String,
    /// Path and query as they came.
    pub path: String,
    /// The protocol of a model call; absent for all else.
    pub protocol: Option<Protocol>,
    /// Headers by lower-case name; of several with one name the last.
    pub headers: BTreeMap<String, String>,
    /// The body's bytes, exactly as they came.
    pub raw: Vec<u8>,
    /// The body as JSON, or null.
    pub body: Value,
}

impl Asked {
    pub(super) fn new(
        number: usize,
        method: String,
        path: String,
        headers: BTreeMap<String, String>,
        raw: Vec<u8>,
    ) -> Self {
        let body = serde_json::from_slice(&raw).unwrap_or(Value::Null);
        let protocol = match path.split('?').next().unwrap_or_default() {
            _ if method != "POST" => None,
            path if path.ends_with("/messages") => Some(Protocol::Anthropic),
            path if path.ends_with("/chat/completions") => Some(Protocol::Chat),
            path if path.ends_with("/responses") => Some(Protocol::Responses),
            _ => None,
        };
        Self { number, method, path, protocol, headers, raw, body }
    }

    /// The model that was asked for.
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    /// Whether a stream was asked for.
    pub fn stream(&self) -> bool {
        self.body["stream"].as_bool().unwrap_or(false)
    }

    /// Whether a chat client asked for the usage of its stream.
    pub fn asks_usage(&self) -> bool {
        self.body["stream_options"]["include_usage"].as_bool().unwrap_or(false)
    }

    /// The limit of output tokens it sets, by whichever name its protocol has.
    pub fn max_output(&self) -> Option<u64> {
        ["max_tokens", "max_completion_tokens", "max_output_tokens"]
            .iter()
            .find_map(|name| self.body[*name].as_u64())
    }

    /// Names of the tools it offers.
    pub fn tools(&self) -> Vec<&str> {
        let tools = self.body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
        let name = |tool: &'_ Value| tool["function"]["name"].as_str().is_some();
        tools
            .iter()
            .filter_map(|tool| match name(tool) {
                true => tool["function"]["name"].as_str(),
                false => tool["name"].as_str().or_else(|| tool["type"].as_str()),
            })
            .collect()
    }

    /// How many answers of the model the conversation has already: the turn that is asked for, from 0. With
    /// Responses, where an answer is several items, it is the number of tool results.
    pub fn turn(&self) -> usize {
        let count = |list: &Value, is: &dyn Fn(&Value) -> bool| {
            list.as_array().map_or(0, |items| items.iter().filter(|item| is(item)).count())
        };
        match self.protocol {
            Some(Protocol::Responses) => count(&self.body["input"], &|item| {
                item["type"].as_str().is_some_and(|kind| kind.ends_with("_call_output"))
            }),
            _ => count(&self.body["messages"], &|message| message["role"] == "assistant"),
        }
    }

    /// Every text in the conversation, one after the other: what a script may look for.
    pub fn text(&self) -> String {
        let mut found = String::new();
        collect(&self.body, &mut found);
        found
    }

    /// The key it came with, from whichever header.
    pub fn key(&self) -> Option<&str> {
        let bearer = self.headers.get("authorization").and_then(|v| v.strip_prefix("Bearer "));
        bearer
            .or_else(|| self.headers.get("x-api-key").map(String::as_str))
            .or_else(|| self.headers.get("api-key").map(String::as_str))
    }
}

fn collect(value: &Value, into: &mut String) {
    match value {
        Value::String(text) => {
            into.push_str(text);
            into.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Object(fields) => fields.values().for_each(|item| collect(item, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
