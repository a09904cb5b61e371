//! Quantities with units: processor time, bytes, durations and distance, as checked newtypes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A quantity that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {expected}")]
pub struct InvalidQuantity {
    /// What was given.
    pub found: String,
    /// What is allowed, as a noun phrase with an example.
    pub expected: &'static str,
}

/// Processor time in thousandths of a core. Written `2`, `0.5` or `500m`, as in Kubernetes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Number", into = "String")]
pub struct CpuMillis(pub u64);

/// An amount of memory or disk in bytes. Written `512Mi`, `1Gi`, `10M` or a plain number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Number", into = "String")]
pub struct ByteSize(pub u64);

/// A span of time. Written `90s`, `10m`, `1h 30m` or `7d`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Number", into = "String")]
pub struct Span(pub Duration);

/// How far a loop is from done, in millionths: the sum over its checks of the failing share.
/// Zero means converged. An integer, so that equal distances compare equal on every machine.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Distance(pub u64);

/// What users may write where a quantity is expected: a number or text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Integer(u64),
    Float(f64),
    Text(String),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => write!(f, "{n}"),
            Self::Float(n) => write!(f, "{n}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

macro_rules! text_quantity {
    ($name:ident, $example:literal) => {
        impl TryFrom<Number> for $name {
            type Error = InvalidQuantity;

            fn try_from(number: Number) -> Result<Self, Self::Error> {
                number.to_string().parse()
            }
        }

        impl From<$name> for String {
            fn from(quantity: $name) -> Self {
                quantity.to_string()
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": ["string", "number"], "examples": [$example] })
            }
        }
    };
}

text_quantity!(CpuMillis, "500m");
text_quantity!(ByteSize, "512Mi");
text_quantity!(Span, "10m");

impl FromStr for CpuMillis {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, thousandths) = match text.trim().strip_suffix('m') {
            Some(millis) => (millis, 1.0),
            None => (text.trim(), 1000.0),
        };
        scaled(digits, thousandths).map(Self).ok_or_else(|| InvalidQuantity {
            found: text.to_owned(),
            expected: "an amount of processors such as 2, 0.5 or 500m",
        })
    }
}

impl fmt::Display for CpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{}", self.0 / 1000)
        } else {
            write!(f, "{}m", self.0)
        }
    }
}

/// Suffixes of byte sizes, largest first, so that display picks the largest that divides evenly.
const BYTE_UNITS: [(&str, u64); 8] = [
    ("Ti", 1 << 40),
    ("T", 1_000_000_000_000),
    ("Gi", 1 << 30),
    ("G", 1_000_000_000),
    ("Mi", 1 << 20),
    ("M", 1_000_000),
    ("Ki", 1 << 10),
    ("k", 1_000),
];

impl FromStr for ByteSize {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let unit = BYTE_UNITS.iter().find(|(suffix, _)| text.ends_with(suffix));
        let (digits, factor) = unit
            .map_or((text, 1), |(suffix, factor)| (&text[..text.len() - suffix.len()], *factor));
        #[expect(clippy::cast_precision_loss, reason = "unit factors are exact in f64")]
        scaled(digits, factor as f64).map(Self).ok_or_else(|| InvalidQuantity {
            found: text.to_owned(),
            expected: "a size in bytes such as 512Mi, 1Gi, 10M or 4096",
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = BYTE_UNITS.iter().filter(|(suffix, _)| suffix.ends_with('i'));
        match binary.into_iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor)) {
            Some((suffix, factor)) => write!(f, "{}{suffix}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A non-negative decimal times a factor, as a whole number; `None` if it is neither or too large.
fn scaled(digits: &str, factor: f64) -> Option<u64> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value = digits.parse::<f64>().ok().filter(|_| plain)? * factor;
    // 2^53: beyond it f64 no longer holds every whole number.
    let fits = value.is_finite() && (0.0..=9_007_199_254_740_992.0).contains(&value);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked")]
    fits.then_some(value.round() as u64)
}

impl FromStr for Span {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidQuantity {
            found: text.to_owned(),
            expected: "a duration such as 90s, 10m, 1h 30m or 7d",
        };
        let span: jiff::Span = text.trim().parse().map_err(|_| invalid())?;
        // Nothing here knows a time zone: a day is 24 hours. Months and years have no length.
        let span = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
        Duration::try_from(span.map_err(|_| invalid())?).map(Self).map_err(|_| invalid())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(span) => write!(f, "{span:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

impl Span {
    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl Distance {
    /// Converged.
    pub const ZERO: Self = Self(0);
    /// One whole failing check.
    pub const ONE: Self = Self(1_000_000);

    /// The share `failing / total`, rounded up so that one failure of many never becomes zero.
    /// A total of zero counts as wholly failing: nothing was proven.
    pub fn share(failing: u64, total: u64) -> Self {
        if total == 0 {
            return Self::ONE;
        }
        let scaled = u128::from(failing.min(total)) * u128::from(Self::ONE.0);
        Self(u64::try_from(scaled.div_ceil(u128::from(total))).unwrap_or(Self::ONE.0))
    }

    /// True when nothing fails.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl std::iter::Sum for Distance {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        Self(iter.fold(0, |sum, one| sum.saturating_add(one.0)))
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded; what is left to do never shows as nothing.
        let hundredths = (self.0.saturating_add(5_000) / 10_000).max(u64::from(self.0 > 0));
        write!(f, "{}.{:02}", hundredths / 100, hundredths % 100)
    }
}
