//! The rules of budgets: bounds that are some, and of which the narrower ones are not wider.

use super::rules::Errors;
use crate::model::{Limits, LoopBudget, Money};

/// The parts of limits: name, and how much.
fn parts(limits: &Limits) -> [(&'static str, Option<u64>); 3] {
    [
        ("tokens", limits.tokens),
        ("money", limits.money.map(|money| money.0)),
        ("calls", limits.calls),
    ]
}

/// As users write it.
fn written(part: &str, amount: u64) -> String {
    if part == "money" { Money(amount).to_string() } else { amount.to_string() }
}

impl Errors {
    pub(super) fn loop_budget(&mut self, path: &str, budget: &LoopBudget) {
        let run = format!("{path}.perRun");
        let iteration = format!("{path}.perIteration");
        self.limits(path, &budget.total);
        self.limits(&run, &budget.per_run);
        self.limits(&iteration, &budget.per_iteration);
        self.narrower((&run, &budget.per_run), (path, &budget.total));
        self.narrower((&iteration, &budget.per_iteration), (path, &budget.total));
        self.narrower((&iteration, &budget.per_iteration), (&run, &budget.per_run));
    }

    fn narrower(&mut self, (path, inner): (&str, &Limits), (outer_path, outer): (&str, &Limits)) {
        for ((part, amount), (_, most)) in parts(inner).into_iter().zip(parts(outer)) {
            if let (Some(amount), Some(most)) = (amount, most)
                && amount > most
            {
                let rule = format!("must be at most {outer_path}.{part}, {}", written(part, most));
                self.add(format!("{path}.{part}"), rule, written(part, amount));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::manifest::parse_manifest;
    use crate::model::{LoopBudget, Money};

    fn parsed(budget: &Value) -> Result<LoopBudget, Vec<String>> {
        let manifest = json!({
            "apiVersion": "flyball.dev/v1", "kind": "Loop", "metadata": { "name": "x" },
            "spec": { "goal": "g", "checks": [{ "name": "c", "run": "true" }], "budget": budget },
        });
        let parsed = parse_manifest(&manifest).map(|manifest| manifest.spec.budget);
        parsed.map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_budget_is_read_as_it_is_written() {
        let budget = parsed(&json!({
            "money": "5 USD", "tokens": 1000, "perRun": { "money": 2 }, "perIteration": { "calls": 9 },
        }))
        .unwrap();
        assert_eq!(budget.total.money, Some(Money::from_dollars(5)));
        assert_eq!((budget.total.tokens, budget.total.calls), (Some(1000), None));
        assert_eq!(budget.per_run.money, Some(Money::from_dollars(2)));
        assert_eq!(budget.per_iteration.calls, Some(9));
        assert_eq!(parsed(&json!({})), Ok(LoopBudget::default()));
        let text = serde_json::to_value(budget).unwrap();
        assert_eq!(parsed(&text), Ok(budget));
    }

    #[test]
    fn a_narrower_bound_may_be_as_wide() {
        let same =
            json!({ "tokens": 10, "perRun": { "tokens": 10 }, "perIteration": { "tokens": 10 } });
        assert_eq!(parsed(&same).unwrap().per_iteration.tokens, Some(10));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_field() {
        let wrong = parsed(&json!({
            "money": "0", "tokens": 10, "calls": 2_000_000_000_000_000_u64,
            "perRun": { "tokens": 11, "calls": 3 }, "perIteration": { "calls": 4, "token": 1 },
        }));
        insta::assert_snapshot!(wrong.unwrap_err().join("\n"), @r"
        spec.budget.perIteration.token: unknown field; allowed here: calls, money, tokens; did you mean tokens?
        spec.budget.money: must be more than nothing; found 0
        spec.budget.calls: must be at most 1125899906842624
        spec.budget.perRun.tokens: must be at most spec.budget.tokens, 10; found 11
        spec.budget.perIteration.calls: must be at most spec.budget.perRun.calls, 3; found 4
        ");
        let wrong = parsed(&json!({ "money": "5 EUR", "tokens": -1, "perRun": 5 }));
        insta::assert_snapshot!(wrong.unwrap_err().join("\n"), @r#"
        spec.budget.money: must be an amount of money such as 5 USD or 0.25 USD, in millionths at the finest; found "5 EUR"
        spec.budget.perRun: must be an object; found 5
        spec.budget.tokens: must be a whole number, 0 to 18446744073709551615; found -1
        "#);
    }
}
