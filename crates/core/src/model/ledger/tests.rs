//! The ledger: what it lets through, and that no order of calls spends a unit over.

use std::sync::{Arc, Barrier, Mutex};

use proptest::prelude::*;

use super::*;
use crate::model::Money;

fn amount(tokens: u64, money: u64, calls: u64) -> Amount {
    Amount { tokens, money: Money(money), calls }
}

fn tokens(most: u64) -> Limits {
    Limits { tokens: Some(most), ..Limits::default() }
}

fn unbounded() -> Amount {
    Limits::default().left(Amount::default())
}

fn ledger(per_iteration: Limits, per_run: Limits) -> Ledger {
    Ledger::new(&LoopBudget { per_iteration, per_run, ..LoopBudget::default() })
}

#[test]
fn a_call_is_reserved_and_settled_with_what_it_used() {
    let mut ledger = ledger(tokens(100), Limits::default());
    let short = ledger.reserve(amount(60, 6, 1)).unwrap_err();
    let want = amount(480, 48, 8);
    assert_eq!(short, Short::Draw { least: amount(60, 6, 1), want });
    ledger.granted("a".to_owned(), amount(70, 20, 10));
    ledger.granted("a".to_owned(), amount(70, 20, 10));
    let first = ledger.reserve(amount(60, 6, 1)).unwrap();
    assert_eq!((ledger.free(), ledger.reserved()), (amount(10, 14, 9), amount(60, 6, 1)));
    assert!(matches!(
        ledger.reserve(amount(41, 1, 1)),
        Err(Short::Ended(BudgetEnded { scope: BudgetScope::Iteration, .. }))
    ));
    let short = ledger.reserve(amount(40, 1, 1)).unwrap_err();
    assert_eq!(short, Short::Draw { least: amount(30, 0, 0), want: amount(320, 8, 8) });
    ledger.settle(first, amount(5, 1, 1));
    assert_eq!((ledger.run_spent(), ledger.free()), (amount(5, 1, 1), amount(65, 19, 9)));
    assert_eq!(ledger.give_back(), [Settlement { id: "a".to_owned(), used: amount(5, 1, 1) }]);
    assert_eq!(ledger.give_back(), []);
}

#[test]
fn an_iteration_begins_with_its_budget_whole_and_the_run_goes_on() {
    let mut ledger = ledger(tokens(10), tokens(25));
    ledger.granted("a".to_owned(), unbounded());
    let late = ledger.reserve(amount(10, 0, 1)).unwrap();
    ledger.begin_iteration();
    let own = ledger.reserve(amount(10, 0, 1)).unwrap();
    ledger.settle(late, amount(10, 0, 1));
    assert_eq!((ledger.iteration_spent().tokens, ledger.run_spent().tokens), (0, 10));
    ledger.settle(own, amount(10, 0, 1));
    ledger.begin_iteration();
    let ended = ledger.reserve(amount(6, 0, 1)).unwrap_err();
    let Short::Ended(ended) = ended else { panic!("{ended:?}") };
    assert_eq!((ended.scope, ended.used.tokens), (BudgetScope::Run, 20));
}

#[test]
fn what_a_call_used_beyond_its_worst_case_is_counted() {
    let mut ledger = ledger(Limits::default(), Limits::default());
    ledger.granted("a".to_owned(), amount(10, 0, 5));
    let call = ledger.reserve(amount(10, 0, 1)).unwrap();
    ledger.settle(call, amount(13, 0, 1));
    assert_eq!(ledger.free().tokens, 0);
    ledger.granted("b".to_owned(), amount(5, 0, 5));
    // It has to cover what went over, too.
    assert_eq!(ledger.free().tokens, 2);
    let told = ledger.end();
    assert_eq!(told.iter().map(|one| one.used.tokens).sum::<u64>(), 13);
    assert_eq!(told[0].used.tokens, 10);
}

#[test]
fn a_call_that_was_never_settled_has_used_its_worst_case() {
    let mut ledger = ledger(Limits::default(), Limits::default());
    ledger.granted("a".to_owned(), amount(30, 3, 3));
    let one = ledger.reserve(amount(10, 1, 1)).unwrap();
    let _lost = ledger.reserve(amount(10, 1, 1)).unwrap();
    ledger.settle(one, amount(4, 1, 1));
    assert_eq!(ledger.give_back(), [], "a call under way needs it");
    assert_eq!(ledger.end(), [Settlement { id: "a".to_owned(), used: amount(14, 2, 2) }]);
}

#[test]
fn many_slices_are_closed_early() {
    let mut ledger = ledger(Limits::default(), Limits::default());
    let mut settled = Amount::default();
    for n in 0..100 {
        ledger.granted(format!("{n}"), amount(10, 1000, 1));
        let call = ledger.reserve(amount(10, 1, 1)).unwrap();
        ledger.settle(call, amount(10, 1, 1));
        settled = ledger.tidy().iter().fold(settled, |sum, one| sum.plus(one.used));
        assert!(ledger.slices.len() <= SLICES_OF_RUN_MAX);
    }
    settled = ledger.end().iter().fold(settled, |sum, one| sum.plus(one.used));
    assert_eq!(settled, amount(1000, 100, 100));
}

/// Each call that finds no room draws as often as it needs to.
#[test]
fn many_calls_at_once_draw_few_slices_and_keep_them() {
    let mut ledger = ledger(Limits::default(), Limits::default());
    let (mut draws, worst) = (0, amount(100, 7, 1));
    let (mut calls, mut back) = (Vec::new(), 0);
    for n in 0..256 {
        let call = loop {
            match ledger.reserve(worst) {
                Ok(call) => break call,
                Err(Short::Draw { want, .. }) => ledger.granted(format!("{draws}"), want),
                Err(ended) => panic!("{ended}"),
            }
            draws += 1;
            assert!(draws <= SLICES_OF_RUN_MAX, "call {n}");
        };
        calls.push(call);
        let free = ledger.free();
        back += ledger.tidy().len();
        assert!(half(free).within(ledger.free()), "the next calls need it");
    }
    assert!(back < draws / 2, "{back} of {draws}");
    calls.into_iter().for_each(|call| ledger.settle(call, amount(1, 1, 1)));
    let used = ledger.end().iter().fold(Amount::default(), |sum, one| sum.plus(one.used));
    assert_eq!(used, amount(256, 256, 256));
}

/// 64 threads call at once, with a budget for ten worst cases. Nobody refunds, so exactly ten get through.
#[test]
fn sixty_four_concurrent_calls_never_spend_a_unit_over_a_budget_for_ten() {
    const CALLS: usize = 64;
    const ROUNDS: usize = 1000;
    let worst = amount(100, 7, 1);
    let gates = Arc::new((Barrier::new(CALLS + 1), Barrier::new(CALLS + 1)));
    let shared = Arc::new(Mutex::new(ledger(Limits::default(), Limits::default())));
    let callers: Vec<_> = (0..CALLS)
        .map(|_| {
            let (gates, shared) = (gates.clone(), shared.clone());
            std::thread::Builder::new()
                .spawn(move || {
                    for _ in 0..ROUNDS {
                        gates.0.wait();
                        let reserved = shared.lock().unwrap().reserve(worst);
                        if let Ok(reservation) = reserved {
                            shared.lock().unwrap().settle(reservation, worst);
                        }
                        gates.1.wait();
                    }
                })
                .unwrap()
        })
        .collect();
    for round in 0..ROUNDS {
        let per_run = Limits { tokens: Some(1000), money: Some(Money(70)), calls: Some(10) };
        let mut fresh = ledger(Limits::default(), per_run);
        // In every other round it is the slice that ends.
        let slice = if round % 2 == 0 { unbounded() } else { amount(1000, 70, 10) };
        if round % 2 == 1 {
            fresh.per_run = Limits::default();
        }
        fresh.granted("a".to_owned(), slice);
        *shared.lock().unwrap() = fresh;
        gates.0.wait();
        gates.1.wait();
        let ledger = shared.lock().unwrap();
        assert_eq!(ledger.run_spent(), amount(1000, 70, 10), "round {round}");
        assert!(ledger.reserved().is_zero());
    }
    callers.into_iter().for_each(|one| one.join().unwrap());
}

#[derive(Debug, Clone)]
enum Act {
    Call(u64, u64),
    Settle(usize, u64),
    Next,
    GiveBack,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1..50_u64, 0..50_u64).prop_map(|(tokens, money)| Act::Call(tokens, money)),
        4 => (0..8_usize, 0..101_u64).prop_map(|(which, percent)| Act::Settle(which, percent)),
        1 => Just(Act::Next),
        1 => Just(Act::GiveBack),
    ]
}

proptest! {
    /// Any order of calls: what is spent keeps to every bound, and what is told to the store is what was spent.
    #[test]
    fn no_order_of_calls_spends_over(
        acts in prop::collection::vec(any_act(), 1..200),
        iteration in 1..200_u64, run in 1..800_u64, pool in 1..1000_u64, grain in 1..100_u64,
    ) {
        let mut ledger = ledger(tokens(iteration), tokens(run));
        let (mut drawn, mut told, mut spent) = (Amount::default(), Amount::default(), Amount::default());
        let mut under_way: Vec<(Reservation, Amount)> = Vec::new();
        let mut of_iteration = 0;
        for act in acts {
            match act {
                Act::Call(tokens, money) => {
                    let worst = amount(tokens, money, 1);
                    let mut reserved = ledger.reserve(worst);
                    if let Err(Short::Draw { least, .. }) = reserved {
                        // Whoever keeps the pool grants at least what is missing, while there is some.
                        let grant = Amount { tokens: least.tokens.max(grain), ..least };
                        if drawn.tokens + grant.tokens > pool { continue }
                        ledger.granted(format!("{}", drawn.tokens), grant);
                        drawn = drawn.plus(grant);
                        reserved = ledger.reserve(worst);
                        prop_assert!(reserved.is_ok(), "what was missing was drawn");
                    }
                    if let Ok(reservation) = reserved {
                        of_iteration += tokens;
                        under_way.push((reservation, worst));
                    }
                }
                Act::Settle(which, percent) if which < under_way.len() => {
                    let (reservation, worst) = under_way.swap_remove(which);
                    let actual = amount(worst.tokens * percent / 100, worst.money.0 * percent / 100, 1);
                    ledger.settle(reservation, actual);
                    spent = spent.plus(actual);
                }
                Act::Settle(..) => {}
                Act::Next => { ledger.begin_iteration(); of_iteration = 0; }
                Act::GiveBack => {
                    for one in ledger.give_back() {
                        told = told.plus(one.used);
                    }
                }
            }
            let promised = under_way.iter().fold(Amount::default(), |sum, (_, one)| sum.plus(*one));
            prop_assert_eq!((ledger.run_spent(), ledger.reserved()), (spent, promised));
            prop_assert!(spent.tokens + promised.tokens <= run);
            prop_assert!(ledger.iteration_spent().tokens <= iteration.min(of_iteration));
            prop_assert!(spent.plus(promised).within(drawn), "never more than was drawn");
            prop_assert!(promised.within(ledger.granted_in_all()));
        }
        let lost = under_way.iter().fold(Amount::default(), |sum, (_, one)| sum.plus(*one));
        for one in ledger.end() {
            told = told.plus(one.used);
        }
        prop_assert_eq!(told, spent.plus(lost));
        prop_assert!(told.within(drawn));
    }
}
