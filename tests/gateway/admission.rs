//! Budgets and quotas: nothing is ever overspent, whoever waits is told so, and nobody storms.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flyball_core::model::{
    BudgetScope, DEFAULT_PRICE, Limits, LoopBudget, Protocol, ProviderQuota, QuotaAmount,
    QuotaEnded, Usage,
};
use flyball_gateway::{Config, Gone, Iteration};
use flyball_tests::poll;
use flyball_tests::provider::{Provider, Reply};

use crate::rig::{Rig, Setup, body, dollars};

const BOUND: Duration = Duration::from_secs(20);

/// 64 at once; returns how many were answered.
fn storm(rig: &Rig, stream: bool) -> usize {
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let answer = rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, stream));
                if answer.status == 200 && !answer.text().contains("spend limit") {
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    answered.load(Ordering::SeqCst)
}

#[test]
fn sixty_four_calls_share_a_budget_for_ten_and_no_unit_more() {
    for stream in [false, true] {
        let provider = Provider::start(|_| Reply::text("done").paced(Duration::from_millis(2)));
        let limits = Limits { calls: Some(10), ..Limits::default() };
        let mut rig =
            Rig::new(&provider, Protocol::Anthropic, Setup { limits, ..Setup::default() });
        assert_eq!(storm(&rig, stream), 10);
        let spent = rig.close();
        assert_eq!((spent.amount.calls, spent.refused), (10, 54));
        assert_eq!(provider.totals().0, 10);
        assert_eq!(rig.bank.debited().calls, 10);
        let need = spent.need.unwrap();
        assert_eq!((need.ended.limits, need.amount.calls), (limits, 1));
    }
}

#[test]
fn money_is_never_overspent_however_many_call_at_once() {
    // Each call uses its worst case: what was reserved is what is billed.
    let usage = Usage { input_total: 600, output_total: 500, ..Usage::default() };
    let provider =
        Provider::start(move |_| Reply::text("done").using(usage).paced(Duration::from_millis(2)));
    let limits = Limits {
        money: dollars(1).map(|_| flyball_core::model::Money(155_000)),
        ..Limits::default()
    };
    let mut rig = Rig::new(&provider, Protocol::Anthropic, Setup { limits, ..Setup::default() });
    let answered = storm(&rig, true);
    let spent = rig.close();
    let billed = provider.totals().1;
    assert!(answered >= 9, "{answered}: what calls give back is used by others");
    assert!(DEFAULT_PRICE.cost(&billed) <= limits.money.unwrap());
    assert!(spent.amount.money <= limits.money.unwrap(), "{spent:?}");
    assert_eq!(rig.bank.debited(), spent.amount);
    assert!(!rig.bank.over());
}

#[test]
fn an_ended_budget_says_stop_in_the_clients_dialect() {
    let provider = Provider::start(|_| Reply::text("done"));
    for protocol in crate::rig::PROTOCOLS {
        let per_iteration = Limits { calls: Some(1), ..Limits::default() };
        let budget = LoopBudget { per_iteration, ..LoopBudget::default() };
        let rig = Rig::new(&provider, protocol, Setup { budget, ..Setup::default() });
        assert_eq!(rig.call(protocol, &body(protocol, false)).status, 200);
        let agent =
            if protocol == Protocol::Anthropic { "claude-cli/2.1" } else { "codex_cli/0.1" };
        let refused = rig.call_with(protocol, &body(protocol, true), &[("user-agent", agent)]);
        assert!(refused.status == 429 || refused.status == 403, "{protocol:?} {}", refused.status);
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        rig.gate().begin_iteration(Iteration { number: 2, ..Iteration::default() });
        assert_eq!(
            rig.call(protocol, &body(protocol, false)).status,
            200,
            "the next iteration's is new"
        );
    }
}

#[test]
fn a_runs_budget_is_not_new_in_the_next_iteration() {
    let provider = Provider::start(|_| Reply::text("done"));
    let per_run = Limits { calls: Some(2), ..Limits::default() };
    let budget = LoopBudget { per_run, ..LoopBudget::default() };
    let rig = Rig::new(&provider, Protocol::Chat, Setup { budget, ..Setup::default() });
    let call = |number| {
        rig.gate().begin_iteration(Iteration { number, ..Iteration::default() });
        rig.call(Protocol::Chat, &body(Protocol::Chat, false)).status
    };
    assert_eq!([call(1), call(2), call(3)], [200, 200, 403]);
    let need = rig.gate().spent().need.unwrap();
    assert_eq!((need.ended.scope, need.ended.limits), (BudgetScope::Run, per_run));
    assert_eq!(provider.totals().0, 2);
}

#[test]
fn slices_go_back_at_an_iterations_edge() {
    let provider = Provider::start(|_| Reply::text("done"));
    let limits = Limits { money: dollars(100), ..Limits::default() };
    let rig = Rig::new(&provider, Protocol::Chat, Setup { limits, ..Setup::default() });
    rig.call(Protocol::Chat, &body(Protocol::Chat, false)).text();
    let spent = rig.gate().spent();
    assert!(rig.bank.debited().money > spent.amount.money, "a slice is more than one call");
    let spent = rig.runtime.block_on(rig.gate().end_iteration());
    assert_eq!(rig.bank.debited(), spent.amount);
}

#[test]
fn quota_is_waited_for_in_one_line_and_streams_hear_pings_meanwhile() {
    let provider = Provider::start(|_| Reply::text("done"));
    let config = Config {
        head_after: Duration::from_millis(50),
        ping_after: Duration::from_millis(50),
        ..Config::default()
    };
    let quota = ProviderQuota { requests_per_minute: Some(50), tokens_per_minute: None };
    let rig = Arc::new(Rig::new(
        &provider,
        Protocol::Anthropic,
        Setup { config, quota, ..Setup::default() },
    ));
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let rig = Arc::clone(&rig);
            std::thread::spawn(move || {
                let mut answer = rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, true));
                answer.until("event: ping");
                answer.text()
            })
        })
        .collect();
    poll::until("somebody asks the pool thrice", BOUND, || {
        (rig.pool.asked.load(Ordering::SeqCst) >= 3).then_some(())
    });
    assert!(provider.served().is_empty());
    let asked = rig.pool.asked.load(Ordering::SeqCst);
    assert!(asked <= 40, "{asked}: one call asks for all, and the pool says when");
    rig.pool.requests.store(8, Ordering::SeqCst);
    for one in waiting {
        assert!(one.join().unwrap().contains("message_stop"));
    }
    assert_eq!(provider.totals().0, 8);
}

#[test]
fn what_a_call_does_not_use_of_its_quota_goes_back() {
    let usage = Usage { input_total: 40, output_total: 2, ..Usage::default() };
    let faults = AtomicUsize::new(0);
    let provider = Provider::start(move |_| match faults.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(500, None),
        _ => Reply::text("done").using(usage),
    });
    let quota = ProviderQuota { requests_per_minute: Some(50), tokens_per_minute: Some(100_000) };
    for protocol in crate::rig::PROTOCOLS {
        let rig = Rig::new(&provider, protocol, Setup { quota, ..Setup::default() });
        rig.pool.requests.store(9, Ordering::SeqCst);
        assert!(rig.call(protocol, &body(protocol, true)).text().contains("done"));
        let grants = rig.pool.grants.lock().unwrap().clone();
        let (taken, used) = *grants.last().unwrap();
        assert_eq!(used, Some(QuotaAmount { requests: 1, tokens: 42 }), "{protocol:?}");
        assert!(taken.requests == 1 && taken.tokens > 42, "{taken:?}: the worst case is taken");
        // A try that failed was asked all the same.
        let failed = grants.iter().rev().skip(1).map(|(_, used)| *used);
        let nothing = Some(QuotaAmount { requests: 1, tokens: 0 });
        assert!(failed.into_iter().all(|used| used == nothing), "{grants:?}");
    }
    assert!(provider.served().len() == 4, "one of them was repeated");
}

#[test]
fn quota_that_takes_too_long_stops_the_runs_calls() {
    let provider = Provider::start(|_| Reply::text("done"));
    let config = Config { quota_wait: Duration::from_millis(10), ..Config::default() };
    let quota = ProviderQuota { requests_per_minute: Some(50), tokens_per_minute: None };
    let mut rig = Rig::new(&provider, Protocol::Chat, Setup { config, quota, ..Setup::default() });
    for _ in 0..3 {
        let refused = rig.call(Protocol::Chat, &body(Protocol::Chat, false));
        assert_eq!((refused.status, refused.header("x-should-retry")), (403, Some("false")));
        assert!(refused.text().contains("the quota of provider one is used up"));
        assert_eq!(rig.pool.asked.load(Ordering::SeqCst), 1, "the others do not wait again");
    }
    assert!(provider.served().is_empty());
    let spent = rig.close();
    assert_eq!(spent.amount.calls, 0, "what was not sent is not spent");
    let ended = QuotaEnded { provider: "one".to_owned(), left: Duration::from_millis(100) };
    assert_eq!(spent.quota, Some(ended));
}

/// Or its agent was ended: that no model answered is not for its lack of progress.
#[test]
fn a_client_that_goes_away_while_it_waits_for_quota_was_not_answered() {
    let provider = Provider::start(|_| Reply::text("done"));
    let quota = ProviderQuota { requests_per_minute: Some(50), tokens_per_minute: None };
    let rig = Rig::new(&provider, Protocol::Chat, Setup { quota, ..Setup::default() });
    let client = rig.begin(Protocol::Chat);
    poll::until("it waits", BOUND, || (rig.pool.asked.load(Ordering::SeqCst) > 1).then_some(()));
    assert_eq!(rig.gate().spent().gone, None);
    drop(client);
    let gone = || rig.gate().spent().gone;
    let gone = poll::until("it is seen to be gone", BOUND, gone);
    assert_eq!(gone, Gone::Waited("one".to_owned()));
    assert_eq!(rig.gate().spent().quota, None, "others may wait");
}

/// Streams of models last for minutes, and one agent may run many others.
#[test]
fn two_hundred_calls_are_under_way_at_once() {
    const CALLS: usize = 200;
    let slow = Reply::text("word").paced(Duration::from_secs(60));
    let provider = Provider::start(move |_| slow.clone());
    let limits = Limits { money: dollars(1_000_000), ..Limits::default() };
    let mut rig = Rig::new(&provider, Protocol::Chat, Setup { limits, ..Setup::default() });
    let clients: Vec<_> = (0..CALLS).map(|_| rig.begin(Protocol::Chat)).collect();
    poll::until("all of them are at the provider", BOUND, || {
        (provider.open() == CALLS).then_some(())
    });
    let draws = rig.bank.draws.load(Ordering::SeqCst);
    assert!(draws <= 16, "few slices are enough for them: {draws}");
    drop(clients);
    let spent = rig.close();
    assert_eq!(rig.bank.debited(), spent.amount, "what was not used came back");
}
