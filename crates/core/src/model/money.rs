//! Money in whole micro-dollars, so that sums are exact and compare equal on every machine.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::InvalidQuantity;

/// An amount of money in micro-dollars (a millionth of a US dollar). Written `5 USD`, `0.25 USD` or `0.25`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(try_from = "Written", into = "String")]
pub struct Money(pub u64);

/// A price in micro-dollars for a million units (mostly tokens); the same number as dollars a million times
/// over. Written as money: `3 USD` is three dollars per million tokens.
pub type PerMillion = Money;

/// What a user may write where money is expected.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Integer(u64),
    Float(f64),
    Text(String),
}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Whole dollars.
    pub const fn from_dollars(dollars: u64) -> Self {
        Self(dollars.saturating_mul(1_000_000))
    }

    /// What `units` cost at this price per million of them, rounded up: never less than it was.
    #[must_use]
    pub fn for_units(self, units: u64) -> Self {
        let exact = u128::from(self.0) * u128::from(units);
        Self(u64::try_from(exact.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

impl TryFrom<Written> for Money {
    type Error = InvalidQuantity;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Integer(n) => n.to_string().parse(),
            Written::Float(n) => n.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Money> for String {
    fn from(money: Money) -> Self {
        money.to_string()
    }
}

impl FromStr for Money {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidQuantity {
            found: text.to_owned(),
            expected: "an amount of money such as 5 USD or 0.25 USD, in millionths at the finest",
        };
        let number = text.trim();
        let number = number.strip_suffix("USD").map_or(number, str::trim_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.len() > 6 || !digits(whole) || !digits(fraction) {
            return Err(invalid());
        }
        let whole: u64 = whole.parse().map_err(|_| invalid())?;
        let fraction: u64 = format!("{fraction:0<6}").parse().map_err(|_| invalid())?;
        let micros = whole.checked_mul(1_000_000).and_then(|whole| whole.checked_add(fraction));
        micros.map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let fraction = format!("{fraction:06}");
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{whole} USD"),
            // Cents are written with two digits.
            short if short.len() < 2 => write!(f, "{whole}.{short:0<2} USD"),
            digits => write!(f, "{whole}.{digits} USD"),
        }
    }
}

impl JsonSchema for Money {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "number"], "examples": ["5 USD"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_and_written_exactly() {
        for (text, micros, shown) in [
            ("5 USD", 5_000_000, "5 USD"),
            ("0.25", 250_000, "0.25 USD"),
            ("0.1USD", 100_000, "0.10 USD"),
            ("3.000001 USD", 3_000_001, "3.000001 USD"),
            ("18446744073709.551615", u64::MAX, "18446744073709.551615 USD"),
        ] {
            let money: Money = text.parse().unwrap();
            assert_eq!((money.0, money.to_string().as_str()), (micros, shown), "{text}");
            assert_eq!(shown.parse(), Ok(money));
        }
        for bad in ["", "USD", "-1", "1.0000001", "1e3", ".5", "5 EUR", "18446744073709.551616"] {
            assert!(bad.parse::<Money>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_price_is_rounded_up() {
        assert_eq!(Money::from_dollars(3).for_units(1_000_000), Money::from_dollars(3));
        assert_eq!(Money(1).for_units(1), Money(1));
        assert_eq!(Money(3_000_000).for_units(1), Money(3));
        assert_eq!(Money(u64::MAX).for_units(u64::MAX), Money(u64::MAX));
    }
}
