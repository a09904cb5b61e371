//! Answers of OpenAI Responses: events of the stream, whole answers, and their usage.

use flyball_core::model::Usage;

use super::chat::settled;
use super::json::{Kind, Value};
use super::seen::{Seen, count, note};

/// Reads one answer.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Searches of the web that were told as items.
    searches: u64,
}

impl Reader {
    pub(super) fn event(&mut self, event: Value<'_>, seen: &mut Seen) {
        let names = ["type", "delta", "item", "response", "error"];
        let [kind, delta, item, response, error] = event.fields(names);
        let kind = kind.and_then(Value::string).unwrap_or_default();
        match &*kind {
            "response.output_item.added" => {
                seen.block();
                item_begun(item, seen);
            }
            "response.output_item.done" => {
                seen.block_done = true;
                self.item_done(item);
            }
            "response.completed"
            | "response.incomplete"
            | "response.failed"
            | "response.cancelled" => {
                seen.finished = true;
                if let Some(response) = response {
                    self.response(response, seen);
                }
                seen.usage_final = seen.usage.is_some();
            }
            "error" => seen.fault(error.unwrap_or(event)),
            kind if kind.ends_with(".delta") => seen.text(delta),
            kind if kind.starts_with("response.") => {
                if let Some(response) = response {
                    self.response(response, seen);
                }
            }
            _ => {}
        }
    }

    /// A whole answer.
    pub(super) fn answer(&mut self, answer: Value<'_>, seen: &mut Seen) {
        if answer.get("object").is_none() && answer.get("error").is_some() {
            return seen.fault(answer.get("error").unwrap_or(answer));
        }
        for item in answer.get("output").into_iter().flat_map(Value::items) {
            seen.block();
            item_begun(Some(item), seen);
            self.item_done(Some(item));
            seen.output_bytes = seen.output_bytes.saturating_add(item.raw().len() as u64);
        }
        seen.block_done |= seen.blocks > 0;
        self.response(answer, seen);
        seen.usage_final = seen.usage.is_some();
        seen.finished = seen.usage_final || seen.finish.is_some();
    }

    /// The object that the first and the last events hold.
    fn response(&mut self, response: Value<'_>, seen: &mut Seen) {
        note(&mut seen.id, response.get("id"));
        note(&mut seen.model, response.get("model"));
        note(&mut seen.service_tier, response.get("service_tier"));
        if seen.finished || response.get("usage").is_some() {
            note(&mut seen.finish, response.get("status"));
        }
        let details = response.get("incomplete_details");
        note(&mut seen.finish, details.and_then(|details| details.get("reason")));
        if let Some(error) = response.get("error") {
            seen.fault(error);
        }
        if let Some(found) = response.get("usage").filter(|usage| usage.kind() == Kind::Object) {
            let told = response
                .get("tool_usage")
                .and_then(|tools| tools.get("web_search"))
                .map_or(0, |search| count(search, "num_requests"));
            let mut usage = usage(found);
            usage.web_searches = self.searches.max(told);
            seen.usage = Some(usage);
        }
    }

    fn item_done(&mut self, item: Option<Value<'_>>) {
        let Some(item) = item.filter(|item| is_kind(*item, "web_search_call")) else { return };
        // Opening a page that was found is not a search; what does not say counts as one.
        let action = item.get("action").and_then(|action| action.get("type"));
        if action.is_none_or(|kind| kind.is("search")) {
            self.searches = self.searches.saturating_add(1);
        }
    }
}

fn is_kind(item: Value<'_>, name: &str) -> bool {
    item.get("type").is_some_and(|kind| kind.is(name))
}

fn item_begun(item: Option<Value<'_>>, seen: &mut Seen) {
    let Some(item) = item else { return };
    seen.text(item.get("name"));
    seen.searches = seen.searches.saturating_add(u64::from(is_kind(item, "web_search_call")));
    seen.hidden |= is_kind(item, "reasoning") || is_kind(item, "compaction");
}

/// The `usage` of a response.
fn usage(usage: Value<'_>) -> Usage {
    let input = count(usage, "input_tokens");
    let output = count(usage, "output_tokens");
    let mut found = Usage {
        input_total: input,
        output_total: output.max(count(usage, "total_tokens").saturating_sub(input)),
        ..Usage::default()
    };
    if let Some(details) = usage.get("input_tokens_details") {
        found.cache_read = count(details, "cached_tokens");
        found.cache_write_5m = count(details, "cache_write_tokens");
    }
    if let Some(details) = usage.get("output_tokens_details") {
        found.reasoning = count(details, "reasoning_tokens");
    }
    settled(found)
}
