//! What a call is charged whose usage was never told, because its answer was cut off or could not be read.

use flyball_core::model::Protocol;
use flyball_core::model::Usage;

use super::call::Call;
use super::seen::Seen;

/// Tokens that are made but not yet sent when a stream is cut.
const IN_FLIGHT: u64 = 256;
/// Tokens around one block that no byte of it shows.
const BLOCK: u64 = 32;

/// Usage of an answer that told no final one: never less than the provider can have counted by the protocol.
///
/// - Input: what was told, else `input_bound`.
/// - Output: a token for each byte that was shown, and for what was on its way; the whole of `output_bound` (tokens,
///   over all choices) if something may have been billed that is not shown, such as reasoning.
/// - A provider that says it failed before it answered anything is taken at its word: what it told, else nothing.
pub fn estimate(call: &Call, seen: &Seen, input_bound: u64, output_bound: u64) -> Usage {
    let mut usage = seen.usage.unwrap_or_default();
    if seen.error.is_some() && !seen.delivered && seen.blocks == 0 && seen.unread == 0 {
        return usage;
    }
    if usage.input_total == 0 {
        usage.input_total = input_bound;
    }
    let shown = seen
        .output_bytes
        .saturating_add(seen.blocks.saturating_mul(BLOCK))
        .saturating_add(IN_FLIGHT.saturating_mul(call.choices));
    let most = if may_hide(call, seen) { output_bound } else { shown.min(output_bound) };
    usage.output_total = usage.output_total.max(most);
    if call.searches {
        usage.web_searches = usage.web_searches.max(1);
    }
    usage
}

/// Whether output may have been billed that was not shown.
fn may_hide(call: &Call, seen: &Seen) -> bool {
    if seen.hidden || seen.unread > 0 {
        return true;
    }
    match call.protocol {
        // Thinking comes first, as a block that is announced. Without the first event nothing was understood.
        Protocol::Anthropic => seen.usage.is_none() || (call.thinking && seen.blocks == 0),
        Protocol::Responses => seen.blocks == 0,
        // Chat never shows the reasoning of OpenAI's models.
        Protocol::Chat => true,
    }
}
