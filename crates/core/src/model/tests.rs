//! Words of budgets, quotas and definitions, and small facts about them.

use super::*;
use crate::quantity::Span;

#[test]
fn amounts_and_bounds_are_told_by_what_they_have() {
    let amount = |tokens, money, calls| Amount { tokens, money: Money(money), calls };
    for (amount, told) in [
        (amount(0, 0, 0), "nothing"),
        (amount(1, 0, 0), "1 token"),
        (amount(1200, 50_000, 1), "1200 tokens, 0.05 USD, 1 call"),
        (amount(0, 1, 0), "0.000001 USD"),
        (amount(0, 0, 2), "2 calls"),
    ] {
        assert_eq!(amount.to_string(), told);
        assert_eq!(amount.is_zero(), told == "nothing", "{told}");
        assert_eq!(amount.is_zero_ref(), told == "nothing", "{told}");
    }
    let limits = |tokens, calls| Limits { tokens, calls, ..Limits::default() };
    assert_eq!(limits(None, None).to_string(), "no bound");
    // A bound of nothing is one.
    assert_eq!(limits(Some(0), Some(1)).to_string(), "0 tokens, 1 call");
}

#[test]
fn a_budget_is_none_only_without_any_bound() {
    let bound = Limits { calls: Some(1), ..Limits::default() };
    let none = LoopBudget::default();
    assert!(none.is_none());
    for budget in [
        LoopBudget { total: bound, ..none },
        LoopBudget { per_run: bound, ..none },
        LoopBudget { per_iteration: bound, ..none },
    ] {
        assert!(!budget.is_none());
    }
}

#[test]
fn whose_budget_has_ended_is_said() {
    let scopes = [
        (BudgetScope::Iteration, "iteration"),
        (BudgetScope::Run, "run"),
        (BudgetScope::Loop, "loop"),
        (BudgetScope::Namespace, "namespace"),
    ];
    for (scope, word) in scopes {
        let (limits, used) = Default::default();
        let told = BudgetEnded { scope, limits, used }.to_string();
        assert_eq!(told, format!("the budget of the {word} is used up"));
    }
    let left = std::time::Duration::from_millis(89_001);
    let told = QuotaEnded { provider: "acme".to_owned(), left }.to_string();
    assert_eq!(told, "the quota of provider acme is used up; there may be room in 1m 30s");
}

#[test]
fn definitions_are_named_by_kind_and_name() {
    for (kind, word, namespaced) in [
        (DefinitionKind::Provider, "provider", false),
        (DefinitionKind::ModelRoute, "modelroute", false),
        (DefinitionKind::Agent, "agent", false),
        (DefinitionKind::Budget, "budget", true),
    ] {
        assert_eq!(DefinitionKey::new(kind, "x").to_string(), format!("{word}/x"));
        assert_eq!((kind.to_string().as_str(), kind.is_namespaced()), (word, namespaced));
    }
}

#[test]
fn an_agent_has_half_a_minute_after_its_last_word() {
    let agent: AgentDefinition =
        serde_json::from_value(serde_json::json!({ "version": "1", "command": ["x"] })).unwrap();
    assert_eq!((agent.grace, agent.timeout), (Span::from_secs(30), Span::from_secs(1800)));
}
