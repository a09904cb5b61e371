//! What a call is charged whose usage was never told, because its answer was cut off or could not be read.

use flyball_core::model::Protocol;
use flyball_core::model::Usage;

use super::call::Call;
use super::seen::Seen;

/// Tokens that are made but not yet seen when a stream is cut that was read as it came: what is on its way, and what is
/// made until the provider learns that nobody listens. 256 are two seconds of a quick model.
const IN_FLIGHT: u64 = 256;
/// Tokens around one block that no byte of it shows.
const BLOCK: u64 = 32;

/// What bounds an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Most input tokens of the request.
    pub input: u64,
    /// Most output tokens, over all choices.
    pub output: u64,
    /// Most searches of the web that are billed apart.
    pub searches: u64,
    /// Whether output may be billed that is not shown, by what is known of the model; `None`: wherever the protocol
    /// allows it.
    pub hidden_reasoning: Option<bool>,
    /// Whether the provider may have made much more than was read: nobody read for a while before the cut, or it works
    /// on when its connection is closed.
    pub unread: bool,
}

/// Usage of an answer that told no final one: no less than the provider can have counted by the protocol, under these
/// assumptions: a token of output is at least one byte of what is shown, and a provider whose connection is closed
/// stops within [`IN_FLIGHT`] tokens, unless its definition says that it does not.
///
/// - Input: what was told, else `most.input`.
/// - Output: a token for each byte that was shown, and for what was on its way; the whole of `most.output` if
///   something may have been billed that is not shown, such as reasoning. Never less than was told so far.
/// - A provider that says it failed before it answered anything is taken at its word: what it told, else nothing.
pub fn estimate(call: &Call, seen: &Seen, most: &Most) -> Usage {
    let mut usage = seen.usage.unwrap_or_default();
    if seen.error.is_some() && !seen.delivered && seen.blocks == 0 && seen.unread == 0 {
        return usage;
    }
    if usage.input_total == 0 {
        usage.input_total = most.input;
    }
    let shown = seen
        .output_bytes
        .saturating_add(seen.blocks.saturating_mul(BLOCK))
        .saturating_add(IN_FLIGHT.saturating_mul(call.choices));
    let cut_off = most.unread && !seen.finished;
    let whole = cut_off || !is_heard(seen) || may_hide(call, seen, most);
    let output = if whole { most.output } else { shown.min(most.output) };
    usage.output_total = usage.output_total.max(output);
    // Chat bills a search with the request; the others announce each.
    let searches = if whole || call.protocol == Protocol::Chat { most.searches } else { 0 };
    usage.web_searches = usage.web_searches.max(searches).max(seen.searches);
    usage
}

/// Whether anything of the answer was understood, and nothing was not.
fn is_heard(seen: &Seen) -> bool {
    let any = seen.delivered || seen.usage.is_some() || seen.id.is_some() || seen.model.is_some();
    any && seen.unread == 0
}

/// Whether output may have been billed that was not shown.
fn may_hide(call: &Call, seen: &Seen, most: &Most) -> bool {
    if call.prediction {
        // What was predicted and not taken is billed like output.
        return true;
    }
    match (most.hidden_reasoning, call.protocol) {
        (Some(false), _) => false,
        _ if seen.hidden => true,
        // Thinking comes first, as a block that is announced. Without the first event nothing was understood.
        (_, Protocol::Anthropic) => seen.usage.is_none() || (call.thinking && seen.blocks == 0),
        (_, Protocol::Responses) => seen.blocks == 0,
        // Chat never shows the reasoning of OpenAI's models.
        (_, Protocol::Chat) => true,
    }
}
