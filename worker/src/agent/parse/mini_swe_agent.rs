//! mini-swe-agent's trajectory file: how it ended, and every answer with its usage.

use flyball_core::model::{LastWord, Usage};
use serde_json::Value;

use super::{TEXT_BYTES_MAX, dollars, openai_usage, text};
use crate::agent::event::AgentEvent;

pub(super) fn events(value: &Value) -> Vec<AgentEvent> {
    let Some(info) = value.get("info") else { return vec![AgentEvent::Unread] };
    let began = AgentEvent::Began { version: text(info, "mini_version", 100) };
    let mut usage = Usage::default();
    let messages = value.get("messages").and_then(Value::as_array).into_iter().flatten();
    for message in messages {
        let response = message.get("extra").and_then(|extra| extra.get("response"));
        if let Some(one) = response.and_then(|response| response.get("usage")) {
            usage.add(&openai_usage(one));
        }
    }
    let stats = info.get("model_stats");
    let calls = stats.and_then(|stats| stats.get("api_calls")).and_then(Value::as_u64);
    // With cost tracking off, nothing is what it does not know.
    let cost = dollars(stats.and_then(|stats| stats.get("instance_cost")));
    let cost = cost.filter(|cost| cost.0 > 0);
    let kind = text(info, "exit_status", 100);
    let message = text(info, "submission", TEXT_BYTES_MAX);
    let word = LastWord { ok: kind == "Submitted", kind, message };
    let turns = calls.and_then(|calls| calls.try_into().ok());
    vec![began, AgentEvent::Used { usage, cost }, AgentEvent::Ended { word, turns }]
}
