//! The importer for the common public price list, LiteLLM's `model_prices_and_context_window.json`: dollars per
//! token as decimal numbers, a field for each kind of token, and long-context prices in fields with the bound in
//! their names.

use serde_json::{Map, Value};

use super::{DEFAULT_PRICE, PRICE_TABLE_VERSION, PriceTable};
use crate::model::money::{Money, PerMillion};
use crate::model::provider::{LongContext, ModelPrice};

/// The list's own example, which is no model.
const SAMPLE: &str = "sample_spec";

/// Kinds of models that agents call; the others are priced per picture, second or character.
const MODES: [&str; 3] = ["chat", "completion", "responses"];

/// What an import found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The table.
    pub table: PriceTable,
    /// Models of other kinds, or without prices per token.
    pub skipped: usize,
}

/// The document is not the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a price list: it must be an object with one entry per model, some with input_cost_per_token"
)]
pub struct NotAPriceList;

/// Reads the list. `date` and `source` are written into the table.
///
/// # Errors
/// [`NotAPriceList`] when no entry of it has a price.
pub fn import_litellm(list: &Value, date: &str, source: &str) -> Result<Imported, NotAPriceList> {
    let entries = list.as_object().ok_or(NotAPriceList)?;
    let mut table = PriceTable {
        version: PRICE_TABLE_VERSION,
        date: date.to_owned(),
        source: source.to_owned(),
        default: DEFAULT_PRICE,
        models: std::collections::BTreeMap::new(),
    };
    let models = entries.iter().filter(|(name, _)| *name != SAMPLE);
    let mut skipped = 0;
    for (name, entry) in models {
        match entry.as_object().filter(|entry| is_called(entry)).and_then(price) {
            Some(price) => drop(table.models.insert(name.clone(), price)),
            None => skipped += 1,
        }
    }
    if table.models.is_empty() { Err(NotAPriceList) } else { Ok(Imported { table, skipped }) }
}

fn is_called(entry: &Map<String, Value>) -> bool {
    entry.get("mode").and_then(Value::as_str).is_none_or(|mode| MODES.contains(&mode))
}

fn price(entry: &Map<String, Value>) -> Option<ModelPrice> {
    let of = |field: &str| entry.get(field).and_then(per_million);
    Some(ModelPrice {
        input: of("input_cost_per_token")?,
        output: of("output_cost_per_token")?,
        cache_read: of("cache_read_input_token_cost"),
        cache_write: of("cache_creation_input_token_cost"),
        cache_write_1h: of("cache_creation_input_token_cost_above_1hr"),
        reasoning: of("output_cost_per_reasoning_token"),
        web_search: entry.get("search_context_cost_per_query").and_then(dearest_search),
        long: long(entry),
        // Only where it is said: of most models that do not reason the list says nothing, as of some that do.
        hidden_reasoning: entry
            .get("supports_reasoning")
            .and_then(Value::as_bool)
            .filter(|may| !may),
    })
}

/// The long-context prices with the lowest bound: from there on nothing is cheaper than they say.
fn long(entry: &Map<String, Value>) -> Option<LongContext> {
    let bound = |field: &String| {
        let thousands = field.strip_prefix("input_cost_per_token_above_")?;
        let thousands: u64 = thousands.strip_suffix("k_tokens")?.parse().ok()?;
        thousands.checked_mul(1000)
    };
    let above = entry.keys().filter_map(bound).min()?;
    let end = format!("_above_{}k_tokens", above / 1000);
    let of = |field: &str| entry.get(&format!("{field}{end}")).and_then(per_million);
    Some(LongContext {
        above,
        input: of("input_cost_per_token")?,
        output: of("output_cost_per_token").or_else(|| {
            // Nothing is said: it stays as it is.
            entry.get("output_cost_per_token").and_then(per_million)
        })?,
        cache_read: of("cache_read_input_token_cost"),
    })
}

/// Searches cost by the size of what they bring; which one it will be nobody knows before.
fn dearest_search(prices: &Value) -> Option<Money> {
    let dollars = prices.as_object()?.values().filter_map(|price| scaled(price, 6));
    dollars.max().map(Money)
}

/// Dollars per token as micro-dollars per million tokens: twelve places further left.
fn per_million(price: &Value) -> Option<PerMillion> {
    scaled(price, 12).map(Money)
}

/// A decimal number times a power of ten, rounded up. Read from its digits, as 3e-06 has no exact binary form.
fn scaled(number: &Value, places: i32) -> Option<u64> {
    let text = match number {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    // Not left to parse, which takes a sign.
    if !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u128 = all.parse().ok()?;
    let exponent: i32 = exponent.parse().ok()?;
    let shift = exponent.checked_add(places)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_u128.checked_pow(shift.unsigned_abs());
    let exact = match (shift < 0, power) {
        (true, Some(power)) => value.div_ceil(power),
        (true, None) => u128::from(value > 0),
        (false, power) => value.checked_mul(power?)?,
    };
    u64::try_from(exact).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn decimals_are_read_exactly_and_rounded_up() {
        for (number, places, expected) in [
            (json!(3e-06), 12, Some(3_000_000)),
            (json!(0.0000025), 12, Some(2_500_000)),
            (json!(1.25e-7), 12, Some(125_000)),
            (json!("1.5e-05"), 12, Some(15_000_000)),
            (json!(1e-13), 12, Some(1)),
            (json!(1e-300), 12, Some(1)),
            (json!(0), 12, Some(0)),
            (json!("0e-300"), 12, Some(0)),
            (json!(2e-12), 12, Some(2)),
            (json!(0.01), 6, Some(10_000)),
            (json!(-1e-6), 12, None),
            (json!("+1e-6"), 12, None),
            (json!("free"), 12, None),
            (json!("."), 12, None),
            (json!(""), 12, None),
            (json!(1e300), 12, None),
            (json!(null), 12, None),
        ] {
            assert_eq!(scaled(&number, places), expected, "{number}");
        }
    }

    #[test]
    fn the_public_list_becomes_a_table() {
        let list = json!({
            "sample_spec": { "input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "mode": "one of…" },
            "claude-x": {
                "mode": "chat", "litellm_provider": "anthropic", "supports_reasoning": false,
                "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
                "cache_creation_input_token_cost": 3.75e-06,
                "cache_creation_input_token_cost_above_1hr": 6e-06,
                "cache_read_input_token_cost": 3e-07,
                "input_cost_per_token_above_200k_tokens": 6e-06,
                "output_cost_per_token_above_200k_tokens": 2.25e-05,
                "cache_read_input_token_cost_above_200k_tokens": 6e-07,
                "search_context_cost_per_query": {
                    "search_context_size_high": 0.01, "search_context_size_low": 0.005
                },
            },
            "gpt-x": { "mode": "responses", "input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6 },
            "picture": { "mode": "image_generation", "input_cost_per_pixel": 1e-8 },
            "embed": { "mode": "embedding", "input_cost_per_token": 1e-8, "output_cost_per_token": 0 },
        });
        let imported = import_litellm(&list, "2026-11-28", "a test").unwrap();
        assert_eq!((imported.table.models.len(), imported.skipped), (2, 2));
        let money = |text: &str| text.parse::<Money>().unwrap();
        assert_eq!(
            imported.table.models["claude-x"],
            ModelPrice {
                input: money("3"),
                output: money("15"),
                cache_read: Some(money("0.3")),
                cache_write: Some(money("3.75")),
                cache_write_1h: Some(money("6")),
                reasoning: None,
                web_search: Some(money("0.01")),
                long: Some(LongContext {
                    above: 200_000,
                    input: money("6"),
                    output: money("22.5"),
                    cache_read: Some(money("0.6")),
                }),
                hidden_reasoning: Some(false),
            }
        );
        let text = serde_json::to_string(&imported.table).unwrap();
        assert_eq!(PriceTable::parse(&text), Ok(imported.table));
        assert_eq!(import_litellm(&json!([]), "", ""), Err(NotAPriceList));
        assert_eq!(import_litellm(&json!({ "a": { "b": 1 } }), "", ""), Err(NotAPriceList));
    }
}
