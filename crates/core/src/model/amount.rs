//! Amounts of what budgets bound: tokens, money and calls.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::money::Money;

/// Tokens, money and calls: spent, reserved or granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Amount {
    /// Input and output tokens together.
    pub tokens: u64,
    /// Money.
    pub money: Money,
    /// Model calls that were forwarded.
    pub calls: u64,
}

/// Bounds on an amount; what is absent is not bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Most tokens, input and output together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Most money.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<Money>,
    /// Most model calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
}

impl fmt::Display for Amount {
    /// The parts that are something: `1200 tokens, 0.05 USD, 1 call`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = Limits {
            tokens: Some(self.tokens).filter(|tokens| *tokens > 0),
            money: Some(self.money).filter(|money| *money > Money::ZERO),
            calls: Some(self.calls).filter(|calls| *calls > 0),
        };
        if some.is_none() { f.write_str("nothing") } else { some.fmt(f) }
    }
}

impl fmt::Display for Limits {
    /// The parts that are bounded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |number: u64, word: &str| {
            let end = if number == 1 { "" } else { "s" };
            format!("{number} {word}{end}")
        };
        let parts = [
            self.tokens.map(|tokens| count(tokens, "token")),
            self.money.map(|money| money.to_string()),
            self.calls.map(|calls| count(calls, "call")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { f.write_str("no bound") } else { f.write_str(&parts.join(", ")) }
    }
}

impl Amount {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            money: Money(self.money.0.saturating_add(other.money.0)),
            calls: self.calls.saturating_add(other.calls),
        }
    }

    /// What is left of it; nothing where the other is larger.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            money: Money(self.money.0.saturating_sub(other.money.0)),
            calls: self.calls.saturating_sub(other.calls),
        }
    }

    /// Every part of it, or of the other one where that is larger.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        self.minus(other).plus(other)
    }

    /// Every part of it, or of the other one where that is smaller.
    #[must_use]
    pub fn at_most(self, other: Self) -> Self {
        self.minus(self.minus(other))
    }

    /// Whether no part of it is larger than in the other.
    pub fn within(self, other: Self) -> bool {
        self.tokens <= other.tokens && self.money <= other.money && self.calls <= other.calls
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// The same for serialisation, which has a reference only.
    pub(super) fn is_zero_ref(&self) -> bool {
        self.is_zero()
    }
}

impl Limits {
    /// Whether nothing is bounded.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an amount keeps to them.
    pub fn allow(&self, amount: Amount) -> bool {
        self.tokens.is_none_or(|most| amount.tokens <= most)
            && self.money.is_none_or(|most| amount.money <= most)
            && self.calls.is_none_or(|most| amount.calls <= most)
    }

    /// What is left after `spent`; where nothing bounds it, all there is.
    pub fn left(&self, spent: Amount) -> Amount {
        let most = Amount {
            tokens: self.tokens.unwrap_or(u64::MAX),
            money: self.money.unwrap_or(Money(u64::MAX)),
            calls: self.calls.unwrap_or(u64::MAX),
        };
        most.minus(spent)
    }
}
