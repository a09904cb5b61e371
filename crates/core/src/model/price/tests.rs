//! What calls cost.

use proptest::prelude::*;

use super::*;

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

fn sonnet() -> ModelPrice {
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
            cache_read: None,
        }),
        hidden_reasoning: None,
    }
}

#[test]
fn a_search_without_a_price_is_not_free() {
    let price = ModelPrice { web_search: None, ..sonnet() };
    let usage = Usage { web_searches: 3, ..Usage::default() };
    assert_eq!(price.cost(&usage), Money(3 * DEFAULT_WEB_SEARCH.0));
    assert_eq!(price.worst_case(0, 0, 3).money, Money(3 * DEFAULT_WEB_SEARCH.0));
    let free = ModelPrice { web_search: Some(Money::ZERO), ..sonnet() };
    assert_eq!(free.cost(&usage), Money::ZERO, "an operator may say so");
}

#[test]
fn every_kind_of_token_has_its_price() {
    let usage = Usage {
        input_total: 111_000,
        cache_read: 100_000,
        cache_write_5m: 8_000,
        cache_write_1h: 2_000,
        output_total: 500,
        reasoning: 200,
        web_searches: 2,
    };
    // 1000 * 3 + 100000 * 0.3 + 8000 * 3.75 + 2000 * 6 + 500 * 15, and two searches.
    let tokens = 3_000 + 30_000 + 30_000 + 12_000 + 7_500;
    assert_eq!(sonnet().cost(&usage), Money(tokens + 20_000));
}

#[test]
fn a_long_input_makes_the_whole_request_dearer() {
    let at = |input_total| Usage { input_total, output_total: 1000, ..Usage::default() };
    assert_eq!(sonnet().cost(&at(200_000)), Money(600_000 + 15_000));
    assert_eq!(sonnet().cost(&at(200_001)), Money(1_200_006 + 22_500));
    let cached = Usage { cache_read: 200_001, cache_write_5m: 0, ..at(200_001) };
    // A tenth of the long price, as it is of the short one.
    assert_eq!(sonnet().cost(&cached), Money(120_001 + 22_500));
}

#[test]
fn one_token_is_never_free_and_nothing_costs_nothing() {
    let cheap = ModelPrice { input: Money(1), output: Money(1), ..ModelPrice::default() };
    let usage = Usage { input_total: 1, ..Usage::default() };
    assert_eq!(cheap.cost(&usage), Money(1));
    assert_eq!(sonnet().cost(&Usage::default()), Money::ZERO);
    let all = Usage { input_total: u64::MAX, output_total: u64::MAX, ..Usage::default() };
    assert_eq!(sonnet().cost(&all), Money(u64::MAX));
}

#[test]
fn names_are_found_without_vendor_and_release() {
    let mut table = PriceTable::default();
    table.models.insert("claude-opus-4-5".to_owned(), sonnet());
    table.models.insert("gpt-5".to_owned(), DEFAULT_PRICE);
    for known in [
        "claude-opus-4-5",
        "claude-opus-4-5-20251101",
        "anthropic/claude-opus-4-5",
        "openrouter/anthropic/claude-opus-4-5-latest",
        "gpt-5-2025-08-07",
    ] {
        assert!(table.price_of(known).known, "{known}");
    }
    for unknown in ["claude-opus-4", "gpt-5-1", "gpt-5-20250", "", "-", "claude-opus-4-5-fast"] {
        let found = table.price_of(unknown);
        assert_eq!((found.known, found.price), (false, DEFAULT_PRICE), "{unknown:?}");
    }
}

#[test]
fn the_shipped_table_is_right_and_a_bad_one_says_why() {
    let built_in = PriceTable::built_in();
    assert!(built_in.models.len() >= 5 && !built_in.source.is_empty());
    assert_eq!(built_in.date.len(), "2026-01-01".len());
    for (name, price) in &built_in.models {
        assert!(price.input > Money::ZERO && price.output >= price.input, "{name}");
    }
    let newer = r#"{"version": 2, "else": 1}"#;
    assert_eq!(PriceTable::parse(newer), Err(BadPriceTable::Version { found: 2 }));
    let free = r#"{"version": 1, "date": "", "source": "", "models": {},
                   "default": {"input": 0, "output": 1}}"#;
    assert_eq!(PriceTable::parse(free), Err(BadPriceTable::FreeDefault));
    assert!(matches!(PriceTable::parse("[]"), Err(BadPriceTable::Malformed(_))));
}

fn any_price() -> impl Strategy<Value = ModelPrice> {
    let price = || (0..100_000_000_u64).prop_map(Money);
    let maybe = || prop::option::of((0..100_000_000_u64).prop_map(Money));
    let long = (0..300_000_u64, price(), price(), maybe());
    let long = long.prop_map(|(above, input, output, cache_read)| LongContext {
        above,
        input,
        output,
        cache_read,
    });
    (price(), price(), (maybe(), maybe(), maybe(), maybe()), maybe(), prop::option::of(long))
        .prop_map(
            |(
                input,
                output,
                (cache_read, cache_write, cache_write_1h, reasoning),
                web_search,
                long,
            )| {
                ModelPrice {
                    input,
                    output,
                    cache_read,
                    cache_write,
                    cache_write_1h,
                    reasoning,
                    web_search,
                    long,
                    hidden_reasoning: None,
                }
            },
        )
}

proptest! {
    /// Whatever a provider bills within the bounds of a call, its worst case covers it.
    #[test]
    fn no_usage_within_the_bounds_costs_more_than_the_worst_case(
        price in any_price(), input in 0..1_000_000_u64, output in 0..100_000_u64, searches in 0..5_u64,
        shares in prop::array::uniform5(0..101_u64),
    ) {
        let input_total = input * shares[0] / 100;
        let cache_read = input_total * shares[1] / 100;
        let cache_write_5m = (input_total - cache_read) * shares[2] / 100;
        let cache_write_1h = (input_total - cache_read - cache_write_5m) * shares[3] / 100;
        let output_total = output * shares[4] / 100;
        let usage = Usage {
            input_total, cache_read, cache_write_5m, cache_write_1h, output_total,
            reasoning: output_total * shares[1] / 100, web_searches: searches,
        };
        let worst = price.worst_case(input, output, searches);
        prop_assert!(price.cost(&usage) <= worst.money);
        prop_assert!(usage.tokens() <= worst.tokens && worst.calls == 1);
    }
}
