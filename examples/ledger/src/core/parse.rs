//! Reading one line: `2026-03-01, food, 12.50`.

/// One expense; the amount is in cents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expense {
    pub date: String,
    pub category: String,
    pub cents: i64,
}

/// Reads a line; `None` if it is not an expense.
pub fn line(text: &str) -> Option<Expense> {
    let mut fields = text.split(',');
    let date = fields.next()?.to_string();
    let category = fields.next()?.to_string();
    let cents = amount(fields.next()?)?;
    Some(Expense { date, category, cents })
}

/// Reads `12.50` or `12` as cents.
pub fn amount(text: &str) -> Option<i64> {
    text.trim().parse::<i64>().ok().map(|whole| whole * 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_whole_amounts() {
        assert_eq!(amount("12"), Some(1200));
    }

    #[test]
    fn reads_cents() {
        assert_eq!(amount("12.50"), Some(1250));
        assert_eq!(amount("0.5"), Some(50));
    }

    #[test]
    fn trims_fields() {
        let expense = line("2026-03-01, food , 3").unwrap();
        assert_eq!(expense.category, "food");
    }
}
