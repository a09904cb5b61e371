//! What one model call used, in tokens, the same for every wire protocol.

use serde::{Deserialize, Serialize};

/// Tokens of one call or of several together. Cache reads and writes are parts of `input_total`, reasoning is a
/// part of `output_total`: OpenAI's protocols report it so, and Anthropic's, whose `input_tokens` leave the
/// cached ones out, is converted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// All input tokens.
    pub input_total: u64,
    /// Of these, read from the provider's cache.
    pub cache_read: u64,
    /// Of these, written to its cache for five minutes (or for its usual time).
    pub cache_write_5m: u64,
    /// Of these, written to its cache for one hour.
    pub cache_write_1h: u64,
    /// All output tokens.
    pub output_total: u64,
    /// Of these, reasoning that is not shown.
    pub reasoning: u64,
    /// Searches of the web that the provider made, billed apart.
    pub web_searches: u64,
}

impl Usage {
    /// Input that is neither read from nor written to a cache. A provider that reports more cached tokens than
    /// tokens is taken at its word for the parts.
    pub fn input_plain(&self) -> u64 {
        self.input_total
            .saturating_sub(self.cache_read)
            .saturating_sub(self.cache_write_5m)
            .saturating_sub(self.cache_write_1h)
    }

    /// Input and output together, as budgets count them.
    pub fn tokens(&self) -> u64 {
        self.input_total.saturating_add(self.output_total)
    }

    /// Adds another call's.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.input_total, other.input_total),
            (&mut self.cache_read, other.cache_read),
            (&mut self.cache_write_5m, other.cache_write_5m),
            (&mut self.cache_write_1h, other.cache_write_1h),
            (&mut self.output_total, other.output_total),
            (&mut self.reasoning, other.reasoning),
            (&mut self.web_searches, other.web_searches),
        ];
        for (mine, more) in pairs {
            *mine = mine.saturating_add(more);
        }
    }
}
