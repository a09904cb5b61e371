//! Answers of Anthropic Messages: events of the stream, whole answers, and their usage.

use flyball_core::model::Usage;

use super::json::Value;
use super::seen::{Seen, count, note};

/// Reads one answer.
#[derive(Debug)]
pub(super) struct Reader {
    counts: Counts,
    /// Whether the request wrote to the cache of an hour, for answers that do not say to which they wrote.
    hour_cache: bool,
    /// Whether usage was told after the beginning.
    told_late: bool,
}

/// What usage objects have told so far. A later object replaces what it tells, as its numbers are cumulative.
#[derive(Debug, Default)]
struct Counts {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    /// Of the writes, those for five minutes and for an hour, where it is told.
    five_minutes: u64,
    hour: u64,
    output: u64,
    thinking: u64,
    web_searches: u64,
    /// All that was sampled, where it is told step by step.
    steps: Option<Usage>,
}

impl Reader {
    pub(super) fn new(hour_cache: bool) -> Self {
        Self { counts: Counts::default(), hour_cache, told_late: false }
    }

    pub(super) fn event(&mut self, event: Value<'_>, seen: &mut Seen) {
        let names = ["type", "message", "content_block", "delta", "usage", "error"];
        let [kind, message, block, delta, usage, error] = event.fields(names);
        let kind = kind.and_then(Value::string).unwrap_or_default();
        match &*kind {
            "message_start" => {
                if let Some(message) = message {
                    self.message(message, seen);
                }
            }
            "content_block_start" => {
                seen.block();
                if let Some(block) = block {
                    self.block(block, seen);
                }
            }
            "content_block_delta" => {
                if let Some(delta) = delta {
                    delta_text(delta, seen);
                }
            }
            "content_block_stop" => seen.block_done = true,
            "message_delta" => {
                note(&mut seen.finish, delta.and_then(|delta| delta.get("stop_reason")));
                if let Some(usage) = usage {
                    self.usage(usage, seen);
                    self.told_late = true;
                }
                // Another one may follow until it is said why the answer ended.
                seen.usage_final = self.told_late && seen.finish.is_some();
            }
            "message_stop" => {
                seen.finished = true;
                seen.usage_final = self.told_late;
            }
            "error" => {
                if let Some(error) = error {
                    seen.fault(error);
                }
            }
            _ => {}
        }
    }

    /// A whole answer.
    pub(super) fn answer(&mut self, answer: Value<'_>, seen: &mut Seen) {
        if answer.get("type").is_some_and(|kind| kind.is("error")) {
            return self.event(answer, seen);
        }
        self.message(answer, seen);
        note(&mut seen.finish, answer.get("stop_reason"));
        for block in answer.get("content").into_iter().flat_map(Value::items) {
            seen.block();
            self.block(block, seen);
            delta_text(block, seen);
        }
        seen.block_done |= seen.blocks > 0;
        seen.usage_final = seen.usage.is_some();
        seen.finished = seen.finish.is_some() || seen.usage_final;
    }

    fn message(&mut self, message: Value<'_>, seen: &mut Seen) {
        note(&mut seen.id, message.get("id"));
        note(&mut seen.model, message.get("model"));
        if let Some(usage) = message.get("usage") {
            self.usage(usage, seen);
        }
    }

    fn block(&self, block: Value<'_>, seen: &mut Seen) {
        let kind = block.get("type").and_then(Value::string).unwrap_or_default();
        let name = block.get("name");
        let is_search = &*kind == "server_tool_use" && name.is_some_and(|n| n.is("web_search"));
        seen.searches = seen.searches.saturating_add(u64::from(is_search));
        seen.text(name);
        // Thinking is billed whole, and shown whole, as a summary, sealed, or not at all.
        seen.hidden |= matches!(&*kind, "thinking" | "redacted_thinking" | "compaction");
        if let Some(input) = block.get("input") {
            seen.output_bytes = seen.output_bytes.saturating_add(input.raw().len() as u64);
        }
    }

    fn usage(&mut self, usage: Value<'_>, seen: &mut Seen) {
        self.counts.take(usage);
        let tier = usage.get("speed").filter(|speed| speed.is("fast"));
        note(&mut seen.service_tier, tier.or_else(|| usage.get("service_tier")));
        seen.usage = Some(self.counts.usage(self.hour_cache));
    }
}

/// Text of a delta, or of a block of a whole answer.
fn delta_text(delta: Value<'_>, seen: &mut Seen) {
    let texts = delta.fields(["text", "partial_json", "thinking"]);
    texts.into_iter().for_each(|text| seen.text(text));
}

impl Counts {
    fn take(&mut self, usage: Value<'_>) {
        let told = |name: &str| usage.get(name).and_then(Value::count);
        // A later 0 does not take back input: some servers only know it at one end of the stream.
        let replace = |place: &mut u64, found: Option<u64>| {
            *place = found.filter(|count| *count > 0).unwrap_or(*place);
        };
        replace(&mut self.input, told("input_tokens"));
        replace(&mut self.cache_read, told("cache_read_input_tokens"));
        replace(&mut self.cache_write, told("cache_creation_input_tokens"));
        if let Some(parts) = usage.get("cache_creation") {
            let told = |name: &str| parts.get(name).and_then(Value::count);
            replace(&mut self.five_minutes, told("ephemeral_5m_input_tokens"));
            replace(&mut self.hour, told("ephemeral_1h_input_tokens"));
        }
        self.output = told("output_tokens").unwrap_or(self.output);
        if let Some(details) = usage.get("output_tokens_details") {
            self.thinking = self.thinking.max(count(details, "thinking_tokens"));
        }
        if let Some(tools) = usage.get("server_tool_use") {
            self.web_searches = self.web_searches.max(count(tools, "web_search_requests"));
        }
        if let Some(steps) = usage.get("iterations") {
            self.steps = Some(summed(steps));
        }
    }

    fn usage(&self, hour_cache: bool) -> Usage {
        let told = self.five_minutes.saturating_add(self.hour);
        let write = self.cache_write.max(told);
        // What is told of neither is counted where it costs more, if it can have been there.
        let rest = write - told;
        let (five, hour) = if hour_cache {
            (self.five_minutes, self.hour.saturating_add(rest))
        } else {
            (self.five_minutes.saturating_add(rest), self.hour)
        };
        let input = self.input.saturating_add(self.cache_read).saturating_add(write);
        let mut usage = Usage {
            input_total: input,
            cache_read: self.cache_read,
            cache_write_5m: five,
            cache_write_1h: hour,
            output_total: self.output.max(self.thinking),
            reasoning: self.thinking,
            web_searches: self.web_searches,
        };
        if let Some(steps) = self.steps {
            // The numbers above leave out steps such as compaction, which are billed all the same.
            usage = more(usage, steps);
        }
        usage
    }
}

/// The sum over an answer's steps (`usage.iterations`).
fn summed(steps: Value<'_>) -> Usage {
    let mut sum = Usage::default();
    for step in steps.items() {
        let mut counts = Counts::default();
        counts.take(step);
        counts.steps = None;
        sum.add(&counts.usage(false));
    }
    sum
}

/// The larger of two usages in each part. A larger input that is not told to be cached is plain.
fn more(one: Usage, two: Usage) -> Usage {
    Usage {
        input_total: one.input_total.max(two.input_total),
        cache_read: one.cache_read.max(two.cache_read),
        cache_write_5m: one.cache_write_5m.max(two.cache_write_5m),
        cache_write_1h: one.cache_write_1h.max(two.cache_write_1h),
        output_total: one.output_total.max(two.output_total),
        reasoning: one.reasoning.max(two.reasoning),
        web_searches: one.web_searches.max(two.web_searches),
    }
}
