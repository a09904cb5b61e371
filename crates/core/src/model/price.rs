//! What model calls cost: the price table, and the arithmetic of one call. Every rounding is up, so that a sum
//! of costs is never less than the bill.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::amount::Amount;
use super::money::{Money, PerMillion};
use super::provider::{LongContext, ModelPrice};
use super::usage::Usage;

mod import;
#[cfg(test)]
mod tests;

pub use import::{Imported, NotAPriceList, import_litellm};

/// Version of the table's own format.
pub const PRICE_TABLE_VERSION: u32 = 1;

/// What a model costs that no table knows, in dollars a million tokens: never nothing, or a budget would never
/// end. The figures that Claude Code's own gateway takes.
pub const DEFAULT_PRICE: ModelPrice = ModelPrice {
    input: Money::from_dollars(5),
    output: Money::from_dollars(25),
    cache_read: None,
    cache_write: None,
    cache_write_1h: None,
    reasoning: None,
    web_search: None,
    long: None,
    hidden_reasoning: None,
};

/// What a search of the web costs where no table says it: the most that a vendor in the public list asks for one.
pub const DEFAULT_WEB_SEARCH: Money = Money(50_000);

static BUILT_IN: std::sync::LazyLock<PriceTable> = std::sync::LazyLock::new(|| {
    // A test reads it, so it is never the empty one.
    PriceTable::parse(include_str!("price/builtin.json")).unwrap_or_default()
});

/// Prices by model name, in a versioned format of our own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PriceTable {
    /// Of the format: [`PRICE_TABLE_VERSION`].
    pub version: u32,
    /// As of which day, `YYYY-MM-DD`.
    pub date: String,
    /// Where the prices come from.
    pub source: String,
    /// What an unknown model costs. Not free.
    #[serde(default = "default_price")]
    pub default: ModelPrice,
    /// By name, as requests carry it.
    pub models: BTreeMap<String, ModelPrice>,
}

fn default_price() -> ModelPrice {
    DEFAULT_PRICE
}

impl Default for PriceTable {
    fn default() -> Self {
        Self {
            version: PRICE_TABLE_VERSION,
            date: String::new(),
            source: String::new(),
            default: DEFAULT_PRICE,
            models: BTreeMap::new(),
        }
    }
}

/// A price table that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPriceTable {
    /// Not of this form.
    #[error("the price table cannot be read: {0}")]
    Malformed(String),
    /// Made by a newer version.
    #[error(
        "the price table has version {found}; this program knows version {PRICE_TABLE_VERSION}"
    )]
    Version {
        /// What it says.
        found: u32,
    },
    /// A model nobody knows would cost nothing.
    #[error(
        "default: input and output must cost more than 0; a model without a price would never end a budget"
    )]
    FreeDefault,
}

/// A price, and how it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priced {
    /// The price.
    pub price: ModelPrice,
    /// False when the model is in no table and costs the default.
    pub known: bool,
}

impl PriceTable {
    /// The one that is shipped.
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// Reads a table from JSON text.
    ///
    /// # Errors
    /// [`BadPriceTable`].
    pub fn parse(json: &str) -> Result<Self, BadPriceTable> {
        let malformed = |error: serde_json::Error| BadPriceTable::Malformed(error.to_string());
        Self::from_json(serde_json::from_str(json).map_err(malformed)?)
    }

    /// Reads a table from a JSON document.
    ///
    /// # Errors
    /// [`BadPriceTable`].
    pub fn from_json(json: serde_json::Value) -> Result<Self, BadPriceTable> {
        // Before the fields, which a newer version may have changed.
        let version = json.get("version").and_then(serde_json::Value::as_u64);
        if let Some(found) = version.filter(|found| *found != u64::from(PRICE_TABLE_VERSION)) {
            return Err(BadPriceTable::Version { found: u32::try_from(found).unwrap_or(u32::MAX) });
        }
        let table: Self = serde_json::from_value(json)
            .map_err(|error| BadPriceTable::Malformed(error.to_string()))?;
        if table.default.input == Money::ZERO || table.default.output == Money::ZERO {
            return Err(BadPriceTable::FreeDefault);
        }
        Ok(table)
    }

    /// What a model costs: by its name, by its name without the date of its release or the name of a vendor
    /// in front, or else the default.
    pub fn price_of(&self, model: &str) -> Priced {
        let found = names_of(model).into_iter().find_map(|name| self.models.get(name));
        Priced { price: found.copied().unwrap_or(self.default), known: found.is_some() }
    }

    /// Prices of the other table over those of this one.
    pub fn extend(&mut self, newer: Self) {
        self.models.extend(newer.models);
        (self.date, self.source, self.default) = (newer.date, newer.source, newer.default);
    }
}

/// The names under which a model may stand in a table, the most exact first.
fn names_of(model: &str) -> Vec<&str> {
    let mut names = vec![model, without_release(model)];
    if let Some((_, name)) = model.rsplit_once('/') {
        names.extend([name, without_release(name)]);
    }
    names
}

/// `gpt-5-2025-08-07`, `claude-opus-4-5-20251101` and `x-latest` without their ends.
fn without_release(model: &str) -> &str {
    if let Some(name) = model.strip_suffix("-latest") {
        return name;
    }
    // Also the numbers of a version are digits: only what is as long as a date is one.
    let split = |digits: &[usize]| -> Option<&str> {
        let mut rest = model;
        for count in digits {
            let (name, part) = rest.rsplit_once('-')?;
            (part.len() == *count && part.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
            rest = name;
        }
        Some(rest)
    };
    split(&[8]).or_else(|| split(&[2, 2, 4])).unwrap_or(model)
}

impl ModelPrice {
    /// What a call cost, rounded up to a whole micro-dollar.
    pub fn cost(&self, usage: &Usage) -> Money {
        let rates = self.rates(usage.input_total);
        let parts = [
            (usage.input_plain(), rates.input),
            (usage.cache_read, rates.cache_read),
            (usage.cache_write_5m, rates.cache_write),
            (usage.cache_write_1h, rates.cache_write_1h),
            (usage.output_total.saturating_sub(usage.reasoning), rates.output),
            (usage.reasoning, rates.reasoning),
        ];
        let tokens = sum(&parts);
        Money(tokens.0.saturating_add(self.searches(usage.web_searches).0))
    }

    fn searches(&self, count: u64) -> Money {
        Money(self.web_search.unwrap_or(DEFAULT_WEB_SEARCH).0.saturating_mul(count))
    }

    /// The most that a call can use: `input` tokens of it, each at the dearest way to be billed, `output` tokens
    /// of its answer, `searches` of the web, and one call.
    pub fn worst_case(&self, input: u64, output: u64, searches: u64) -> Amount {
        let rates = self.rates(input);
        // A shorter input than the bound may be billed at the short price, where that is the higher one.
        let short = self.rates(0);
        let dearest = |rates: &Rates| {
            let writes = rates.cache_write.max(rates.cache_write_1h);
            (rates.input.max(rates.cache_read).max(writes), rates.output.max(rates.reasoning))
        };
        let ((in_long, out_long), (in_short, out_short)) = (dearest(&rates), dearest(&short));
        let tokens = sum(&[(input, in_long.max(in_short)), (output, out_long.max(out_short))]);
        Amount {
            tokens: input.saturating_add(output),
            money: Money(tokens.0.saturating_add(self.searches(searches).0)),
            calls: 1,
        }
    }

    /// The prices that hold for a request with this much input.
    fn rates(&self, input_total: u64) -> Rates {
        match &self.long {
            Some(long) if input_total > long.above => self.long_rates(long),
            _ => {
                let cache_write = self.cache_write.unwrap_or(self.input);
                Rates {
                    input: self.input,
                    output: self.output,
                    cache_read: self.cache_read.unwrap_or(self.input),
                    cache_write,
                    cache_write_1h: self.cache_write_1h.unwrap_or(cache_write),
                    reasoning: self.reasoning.unwrap_or(self.output),
                }
            }
        }
    }

    /// Long prices say nothing of cache writes and reasoning: these rise as input and output do.
    fn long_rates(&self, long: &LongContext) -> Rates {
        let scaled = |part: Option<PerMillion>, of: PerMillion, to: PerMillion| match part {
            Some(part) if of.0 > 0 => {
                let exact = (u128::from(part.0) * u128::from(to.0)).div_ceil(u128::from(of.0));
                Money(u64::try_from(exact).unwrap_or(u64::MAX))
            }
            Some(part) => part.max(to),
            None => to,
        };
        let cache_write = scaled(self.cache_write, self.input, long.input);
        Rates {
            input: long.input,
            output: long.output,
            cache_read: long
                .cache_read
                .unwrap_or_else(|| scaled(self.cache_read, self.input, long.input)),
            cache_write,
            cache_write_1h: self
                .cache_write_1h
                .map_or(cache_write, |part| scaled(Some(part), self.input, long.input)),
            reasoning: scaled(self.reasoning, self.output, long.output),
        }
    }
}

/// Every price of one request.
#[derive(Debug, Clone, Copy)]
struct Rates {
    input: PerMillion,
    output: PerMillion,
    cache_read: PerMillion,
    cache_write: PerMillion,
    cache_write_1h: PerMillion,
    reasoning: PerMillion,
}

/// Exact until the one rounding at the end.
fn sum(parts: &[(u64, PerMillion)]) -> Money {
    let exact = parts.iter().fold(0_u128, |sum, (units, price)| {
        sum.saturating_add(u128::from(*units) * u128::from(price.0))
    });
    Money(u64::try_from(exact.div_ceil(1_000_000)).unwrap_or(u64::MAX))
}
