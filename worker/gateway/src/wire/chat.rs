//! Answers of OpenAI Chat Completions: chunks of the stream, whole answers, and their usage.

use flyball_core::model::Usage;

use super::json::{Kind, Value};
use super::seen::{Seen, count, note};

/// What ends a stream, as the data of an event.
pub(super) const DONE: &[u8] = b"[DONE]";

/// Reads one answer.
#[derive(Debug)]
pub(super) struct Reader {
    /// Whether a search of the web is billed with the request.
    searches: bool,
    /// Answers that have not told why they ended.
    choices: u64,
    ended: u64,
}

impl Reader {
    pub(super) fn new(searches: bool, choices: u64) -> Self {
        Self { searches, choices, ended: 0 }
    }

    /// A chunk of a stream.
    /// Returns whether it is the one that a server sends only to whoever asked for usage.
    pub(super) fn event(&mut self, chunk: Value<'_>, seen: &mut Seen) -> bool {
        let Common { told, choices, is_error } = self.common(chunk, seen);
        let mut any = false;
        for choice in choices.into_iter().flat_map(Value::items) {
            any = true;
            self.choice(choice, "delta", seen);
        }
        // Servers may tell usage with every chunk; it is final in or behind the last one that has a choice.
        seen.usage_final |= told && (!any || self.ended >= self.choices);
        // Servers that do not say when they are done have told everything after the usage.
        seen.finished |= seen.usage_final && self.ended >= self.choices;
        let is_empty = choices.is_some_and(|choices| choices.kind() == Kind::Array) && !any;
        is_empty && told && !is_error
    }

    /// A whole answer.
    pub(super) fn answer(&mut self, answer: Value<'_>, seen: &mut Seen) {
        let Common { told, choices, .. } = self.common(answer, seen);
        seen.usage_final = told;
        for choice in choices.into_iter().flat_map(Value::items) {
            self.choice(choice, "message", seen);
        }
        seen.block_done |= seen.delivered;
        seen.finished = seen.finish.is_some() || seen.usage.is_some();
    }

    /// What chunks and whole answers have in common.
    fn common<'a>(&mut self, chunk: Value<'a>, seen: &mut Seen) -> Common<'a> {
        let names = ["id", "model", "service_tier", "error", "usage", "choices"];
        let [id, model, tier, error, usage, choices] = chunk.fields(names);
        note(&mut seen.id, id.filter(|id| !id.is("")));
        note(&mut seen.model, model.filter(|model| !model.is("")));
        note(&mut seen.service_tier, tier);
        if let Some(error) = error {
            seen.fault(error);
        }
        let told = usage.filter(|usage| usage.kind() == Kind::Object);
        if let Some(told) = told {
            seen.usage = Some(counted(told, self.searches));
        }
        Common { told: told.is_some(), choices, is_error: error.is_some() }
    }

    fn choice(&mut self, choice: Value<'_>, part: &str, seen: &mut Seen) {
        let [delta, finish] = choice.fields([part, "finish_reason"]);
        if let Some(delta) = delta {
            said(delta, seen);
        }
        if finish.is_some() {
            note(&mut seen.finish, finish);
            self.ended = self.ended.saturating_add(1);
            seen.block_done |= seen.delivered;
        }
    }
}

/// What chunks and whole answers have in common.
struct Common<'a> {
    /// Whether usage was told.
    told: bool,
    choices: Option<Value<'a>>,
    is_error: bool,
}

/// What a delta or a message says.
fn said(delta: Value<'_>, seen: &mut Seen) {
    let texts = ["content", "reasoning_content", "reasoning", "refusal"];
    delta.fields(texts).into_iter().for_each(|text| seen.text(text));
    let [calls, call, audio] = delta.fields(["tool_calls", "function_call", "audio"]);
    for call in calls.into_iter().flat_map(Value::items) {
        tool_call(call, seen);
    }
    let inner = call.map(|call| call.fields(["name", "arguments"]));
    let heard = audio.map(|audio| audio.fields(["data", "transcript"]));
    [inner, heard].into_iter().flatten().flatten().for_each(|text| seen.text(text));
}

fn tool_call(call: Value<'_>, seen: &mut Seen) {
    let inner = call.get("function").or_else(|| call.get("custom"));
    let Some(inner) = inner else { return };
    if inner.get("name").is_some() {
        seen.block();
    }
    for name in ["name", "arguments", "input"] {
        seen.text(inner.get(name));
    }
}

/// The `usage` of a chunk or an answer.
fn counted(usage: Value<'_>, searches: bool) -> Usage {
    let input = count(usage, "prompt_tokens");
    let output = count(usage, "completion_tokens");
    let mut found = Usage {
        input_total: input,
        // A server whose output leaves reasoning out has it in the total only.
        output_total: output.max(count(usage, "total_tokens").saturating_sub(input)),
        web_searches: u64::from(searches),
        ..Usage::default()
    };
    found.cache_read = count(usage, "prompt_cache_hit_tokens");
    if let Some(details) = usage.get("prompt_tokens_details") {
        found.cache_read = found.cache_read.max(count(details, "cached_tokens"));
        let written = ["cache_write_tokens", "cache_creation_tokens"].map(|n| count(details, n));
        found.cache_write_5m = written[0].max(written[1]);
    }
    if let Some(details) = usage.get("completion_tokens_details") {
        found.reasoning = count(details, "reasoning_tokens");
    }
    settled(found)
}

/// Parts of more than the whole are cut to it, so that the whole is never charged at a part's lower price.
pub(super) fn settled(mut usage: Usage) -> Usage {
    let written = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
    usage.input_total = usage.input_total.max(written);
    usage.cache_read = usage.cache_read.min(usage.input_total - written);
    usage.output_total = usage.output_total.max(usage.reasoning);
    usage
}
