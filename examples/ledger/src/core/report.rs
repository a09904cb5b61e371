//! Totals as text.

use std::collections::BTreeMap;

/// Cents as `12.05`.
pub fn money(cents: i64) -> String {
    format!("{}.{}", cents / 100, cents % 100)
}

/// One line per entry, largest first.
pub fn table(totals: &BTreeMap<String, i64>) -> String {
    let rows: Vec<_> = totals.iter().collect();
    rows.iter().map(|(name, cents)| format!("{name} {}\n", money(**cents))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_cents() {
        assert_eq!(money(1205), "12.05");
    }

    #[test]
    fn keeps_the_sign() {
        assert_eq!(money(-50), "-0.50");
    }

    #[test]
    fn puts_the_largest_first() {
        let totals = BTreeMap::from([("a".to_string(), 100), ("b".to_string(), 200)]);
        assert_eq!(table(&totals).lines().next(), Some("b 2.00"));
    }
}
