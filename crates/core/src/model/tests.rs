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

#[test]
fn a_budget_is_reported_with_all_that_is_known_of_it() {
    let amount = |calls| Amount { calls, ..Amount::default() };
    let bound = |calls| Limits { calls: Some(calls), ..Limits::default() };
    let extension = Extension {
        id: "x".to_owned(),
        by: "user:a".to_owned(),
        at: jiff::Timestamp::UNIX_EPOCH,
        amount: amount(5),
    };
    let budget = NamespaceBudget { made: 3, limits: bound(10) };
    let account = NamespaceAccount {
        budget: 3,
        spent: amount(2),
        held: amount(4),
        extended: amount(5),
        extensions: vec![extension.clone()],
        ..NamespaceAccount::default()
    };
    let whole = BudgetReport {
        limits: bound(15),
        extended: amount(5),
        extensions: vec![extension.clone()],
        spent: amount(2),
        held: amount(4),
        ..BudgetReport::default()
    };
    let report = BudgetReport::of_namespace(&budget, &account);
    assert_eq!((report.used(), &report), (amount(6), &whole));

    let (id, token) = ("a".to_owned(), crate::ids::Token(7));
    let open = OpenSlice { id, token, granted: amount(4), namespace: 0 };
    let account = LoopAccount {
        spent: amount(2),
        extended: amount(5),
        extensions: vec![extension],
        open: vec![open],
        ..LoopAccount::default()
    };
    let (per_run, per_iteration) = (bound(7), bound(1));
    let budget = LoopBudget { total: bound(10), per_run, per_iteration };
    let report = BudgetReport::of_loop(&budget, &account);
    assert_eq!(report, BudgetReport { per_run, per_iteration, ..whole });
}

#[test]
fn a_quota_is_reported_without_what_is_not_bounded() {
    let pool = |requests, tokens| PoolShown {
        capacity: QuotaAmount { requests, tokens },
        out: QuotaAmount { requests: 1, tokens: 2 },
        pause: std::time::Duration::from_secs(3),
        slices: Vec::new(),
        waiting: Vec::new(),
    };
    for (requests, tokens, shown) in
        [(60, u64::MAX, (Some(60), None)), (u64::MAX, 900, (None, Some(900)))]
    {
        let report = QuotaReport::of("acme", ProviderQuota::default(), 4, pool(requests, tokens));
        assert_eq!((report.requests, report.tokens), shown);
        assert_eq!((report.requests_out, report.tokens_out), (1, 2));
        assert_eq!((report.pause_ms, report.refusals), (3000, 4));
    }
}

#[test]
fn a_secret_is_one_of_the_default_namespace_unless_it_says_so() {
    let of = |text| serde_json::from_str::<SecretRef>(text).unwrap().namespace;
    assert_eq!(of(r#"{"name": "key"}"#), "default");
    assert_eq!(of(r#"{"name": "key", "namespace": "team"}"#), "team");
}

#[test]
fn usage_is_added_kind_by_kind() {
    let one = Usage {
        input_total: 1,
        cache_read: 2,
        cache_write_5m: 3,
        cache_write_1h: 4,
        output_total: 5,
        reasoning: 6,
        web_searches: 7,
    };
    let mut sum = one;
    sum.add(&one);
    let both = Usage {
        input_total: 2,
        cache_read: 4,
        cache_write_5m: 6,
        cache_write_1h: 8,
        output_total: 10,
        reasoning: 12,
        web_searches: 14,
    };
    assert_eq!(sum, both);
}

#[test]
fn each_way_to_end_has_words_of_its_own() {
    let all = [
        (AgentEnding::Finished, "finished"),
        (AgentEnding::Hung, "finished, and had to be killed"),
        (AgentEnding::Failed, "failed"),
        (AgentEnding::Silent, "ended without a last word"),
        (AgentEnding::Broken, "broke off"),
        (AgentEnding::Stalled, "stalled"),
        (AgentEnding::TimedOut, "timed out"),
        (AgentEnding::OverLimit, "took too much"),
    ];
    for (ending, words) in all {
        assert_eq!(ending.words(), words);
    }
}

#[test]
fn every_placeholder_of_an_agent_is_filled() {
    // The last one has a test of its own: it is mostly empty.
    let (_, words) = PLACEHOLDERS.split_last().unwrap();
    let command: Vec<String> = words.iter().map(|word| format!("{{{word}}}")).collect();
    let agent: AgentDefinition =
        serde_json::from_value(serde_json::json!({ "version": "1", "command": command })).unwrap();
    let text = |text: &str| text.to_owned();
    let values = AgentValues {
        gateway: text("http://g"),
        key: text("fbk"),
        protocol: Some(Protocol::Responses),
        model: text("big"),
        prompt: text("do it"),
        prompt_file: text("/brief"),
        session: text("s"),
        home: text("/home"),
        report: text("/report"),
        flyball: text("/bin/flyball"),
        traceparent: text("00-1"),
        ..AgentValues::default()
    };
    let filled = fill(&agent, &values);
    let wanted = [
        "http://g",
        "fbk",
        "responses",
        "big",
        MODEL_SMALL,
        "do it",
        "/brief",
        "s",
        "/home",
        "/report",
        "/bin/flyball",
        "00-1",
    ];
    assert_eq!(filled.argv, wanted);
}

#[test]
fn a_newer_price_table_wins_and_what_it_lacks_stays() {
    let price = |dollars| ModelPrice { input: Money::from_dollars(dollars), ..DEFAULT_PRICE };
    let table = |models: &[(&str, u64)], default| PriceTable {
        models: models
            .iter()
            .map(|(name, dollars)| ((*name).to_owned(), price(*dollars)))
            .collect(),
        default: price(default),
        ..PriceTable::default()
    };
    let mut old = table(&[("a", 1), ("b", 2)], 9);
    old.extend(table(&[("b", 3)], 8));
    assert_eq!(old, table(&[("a", 1), ("b", 3)], 8));
}
