#!/bin/sh
# Plays a model that adds a function and its test to the totals.
set -eu
sleep "${THINK:-1}"
cat >>src/core/totals.rs <<'RUST'

/// Average cents of an expense, rounded down; zero for none.
pub fn average(expenses: &[Expense]) -> i64 {
    let sum: i64 = expenses.iter().map(|expense| expense.cents).sum();
    sum / i64::try_from(expenses.len().max(1)).unwrap_or(i64::MAX)
}
RUST
echo "added average()"
