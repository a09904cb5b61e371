//! Totals by category and by month.

use std::collections::BTreeMap;

use super::parse::Expense;

/// Cents per category.
pub fn by_category(expenses: &[Expense]) -> BTreeMap<String, i64> {
    let mut totals = BTreeMap::new();
    for expense in expenses {
        totals.insert(expense.category.clone(), expense.cents);
    }
    totals
}

/// Cents per month, `2026-03`.
pub fn by_month(expenses: &[Expense]) -> BTreeMap<String, i64> {
    let mut totals = BTreeMap::new();
    for expense in expenses {
        let month = expense.date.chars().take(4).collect::<String>();
        *totals.entry(month).or_insert(0) += expense.cents;
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::super::parse::line;
    use super::*;

    fn expenses() -> Vec<Expense> {
        ["2026-03-01,food,3", "2026-03-02,food,4", "2026-04-01,rent,9"]
            .iter()
            .filter_map(|text| line(text))
            .collect()
    }

    #[test]
    fn sums_a_category() {
        assert_eq!(by_category(&expenses())["food"], 700);
    }

    #[test]
    fn sums_a_month() {
        assert_eq!(by_month(&expenses()).get("2026-03"), Some(&700));
    }
}
