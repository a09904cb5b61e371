//! What an answer has told so far, whatever its protocol.

use flyball_core::model::Usage;

use super::json::Value;

/// Longest word of a provider (an id, a model, an error) that is kept, in bytes.
const WORD_MAX: usize = 1024;

/// What was seen of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The last usage that was told; cumulative, so never to be summed. In a stream that was cut it may lack output.
    pub usage: Option<Usage>,
    /// Whether that usage is the final one, and can be true: servers that do not count tell zeros. Settled once the
    /// answer has ended.
    pub usage_final: bool,
    /// Whether the answer is complete: its protocol's last event has come.
    pub finished: bool,
    /// Whether a part of an answer (text, thinking, a tool's call) was passed on.
    pub delivered: bool,
    /// Whether a whole block was; from then on clients do not repeat the call.
    pub block_done: bool,
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
    /// The provider's id of the answer.
    pub id: Option<String>,
    /// Why it ended: `end_turn`, `stop`, `completed` and so on.
    pub finish: Option<String>,
    /// An error told within the answer: its type or code, and its message.
    pub error: Option<String>,
    /// Class of service that was used, where the provider tells.
    pub service_tier: Option<String>,
    /// Bytes of text, thinking and tools' arguments so far: no fewer than their tokens.
    pub output_bytes: u64,
    /// Blocks of output begun so far.
    pub blocks: u64,
    /// Searches of the web begun so far, of those that are announced.
    pub searches: u64,
    /// Whether output was billed that is not shown: reasoning, or its summary only.
    pub hidden: bool,
    /// Whether an event could not be read: not JSON, or larger than is kept.
    pub unread: u64,
}

impl Seen {
    /// The answer has ended: a final usage without input, or without output although there was some, is none.
    pub(super) fn end(&mut self) {
        let can_be = |usage: Usage| {
            usage.input_total > 0 && (usage.output_total > 0 || self.output_bytes == 0)
        };
        self.usage_final &= self.usage.is_some_and(can_be);
    }

    /// Text of an answer was passed on.
    pub(super) fn text(&mut self, text: Option<Value<'_>>) {
        let Some(inner) = text.and_then(Value::inner).filter(|inner| !inner.is_empty()) else {
            return;
        };
        self.delivered = true;
        self.output_bytes = self.output_bytes.saturating_add(inner.len() as u64);
    }

    /// A block of an answer has begun.
    pub(super) fn block(&mut self) {
        self.delivered = true;
        self.blocks = self.blocks.saturating_add(1);
    }

    /// An error object: `type` or `code`, and `message`.
    pub(super) fn fault(&mut self, error: Value<'_>) {
        let of = |name| error.get(name).and_then(word);
        let kind = of("code").or_else(|| of("type")).unwrap_or_else(|| "error".to_owned());
        let message = of("message").or_else(|| word(error)).unwrap_or_default();
        self.error = Some(format!("{kind}: {message}"));
    }
}

/// A string of the provider's, cut where it is too long.
pub(super) fn word(value: Value<'_>) -> Option<String> {
    let text = value.string()?;
    let mut end = text.len().min(WORD_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Some(text[..end].to_owned())
}

/// Sets a word if there is one.
pub(super) fn note(place: &mut Option<String>, value: Option<Value<'_>>) {
    if let Some(found) = value.and_then(word) {
        *place = Some(found);
    }
}

/// A count in an object; 0 if it is not there or not a count.
pub(super) fn count(object: Value<'_>, name: &str) -> u64 {
    object.get(name).and_then(Value::count).unwrap_or(0)
}
