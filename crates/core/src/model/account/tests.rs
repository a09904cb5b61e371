//! Drawing and settling: nothing is granted twice, nothing is lost to a crash, nothing goes over.

use proptest::prelude::*;

use super::*;

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, ..Amount::default() }
}

fn most(tokens: u64) -> Limits {
    Limits { tokens: Some(tokens), ..Limits::default() }
}

fn wish(token: i64, id: &str, least: u64, want: u64) -> DrawSlice {
    DrawSlice {
        uid: "u".into(),
        token: Token(token),
        id: id.to_owned(),
        least: tokens(least),
        want: tokens(want),
    }
}

fn budget(most: u64) -> NamespaceBudget {
    NamespaceBudget { made: 5, limits: Limits { tokens: Some(most), ..Limits::default() } }
}

fn empty(budget: Option<&NamespaceBudget>) -> Accounts {
    Accounts::of(&"u".into(), None, budget, None)
}

fn drawn(accounts: Accounts, total: &Limits, wish: &DrawSlice) -> (u64, Accounts) {
    let drawn = accounts.draw(total, wish).unwrap();
    (drawn.granted.tokens, drawn.accounts.unwrap())
}

#[test]
fn a_slice_is_debited_and_its_rest_comes_back_once() {
    let total = most(100);
    let (granted, accounts) = drawn(empty(None), &total, &wish(7, "a", 10, 60));
    assert_eq!((granted, accounts.of_loop.used().tokens), (60, 60));
    assert_eq!(accounts.of_loop.held().tokens, 60);
    // The same request again: the same answer, and nothing to write.
    let again = accounts.clone().draw(&total, &wish(7, "a", 10, 60)).unwrap();
    assert_eq!((again.granted.tokens, again.accounts), (60, None));
    let (granted, accounts) = drawn(accounts, &total, &wish(7, "b", 10, 60));
    assert_eq!(granted, 40, "what is left");
    let ended = accounts.clone().draw(&total, &wish(7, "c", 1, 60)).unwrap_err();
    let DrawRefused::Ended(ended) = ended else { panic!("{ended}") };
    assert_eq!((ended.scope, ended.used.tokens), (BudgetScope::Loop, 100));
    let accounts = accounts.settle(Token(7), "a", tokens(5)).unwrap();
    assert_eq!((accounts.of_loop.spent.tokens, accounts.of_loop.used().tokens), (5, 45));
    assert_eq!(accounts.clone().settle(Token(7), "a", tokens(5)), None);
    assert_eq!(
        accounts.clone().draw(&total, &wish(7, "a", 1, 1)),
        Err(DrawRefused::Closed),
        "a request that was on its way for long"
    );
    assert!(accounts.have_room(&total, tokens(55)) && !accounts.have_room(&total, tokens(56)));
}

#[test]
fn what_a_lost_run_had_out_is_spent() {
    let total = most(100);
    let whole = budget(400);
    let (_, accounts) = drawn(empty(Some(&whole)), &total, &wish(7, "a", 30, 30));
    let (granted, after) = drawn(accounts, &total, &wish(9, "b", 10, 100));
    // A share of what the namespace has left would be less than the 70 that the loop has.
    assert_eq!((granted, after.of_loop.spent.tokens), (46, 30));
    assert_eq!(after.settle(Token(7), "a", tokens(1)), None, "too late");
    let (_, accounts) = drawn(empty(Some(&whole)), &total, &wish(7, "a", 30, 30));
    let namespace = accounts.namespace.map(|(account, _)| account);
    let after =
        Accounts::of(&"v".into(), Some(&accounts.of_loop), Some(&whole), namespace.as_ref());
    assert_eq!(after.of_loop.used(), Amount::default(), "another life of the loop");
    let (namespace, _) = after.namespace.unwrap();
    assert_eq!((namespace.spent.tokens, namespace.held.tokens), (30, 0));
}

#[test]
fn a_worker_that_never_settles_pays_for_it() {
    let mut accounts = empty(None);
    for n in 0..100 {
        (_, accounts) = drawn(accounts, &Limits::default(), &wish(7, &format!("{n}"), 1, 1));
    }
    assert_eq!(accounts.of_loop.open.len(), OPEN_SLICES_MAX);
    assert_eq!(accounts.of_loop.used().tokens, 100);
    assert!(accounts.of_loop.closed.len() <= CLOSED_SLICES_MAX);
}

#[test]
fn a_namespace_is_debited_with_its_loop_and_bounds_it() {
    let whole = budget(100);
    let (granted, accounts) = drawn(empty(Some(&whole)), &most(1000), &wish(1, "a", 4, 90));
    assert_eq!(granted, 12, "an eighth of what is left");
    let all = Amount { tokens: 80, money: Money(800), calls: 24 };
    assert_eq!(share(all), Amount { tokens: 10, money: Money(100), calls: 3 });
    let (account, _) = accounts.namespace.clone().unwrap();
    assert_eq!((account.held.tokens, account.used().tokens), (12, 12));
    let ended = accounts.clone().draw(&most(1000), &wish(1, "b", 89, 90)).unwrap_err();
    let DrawRefused::Ended(ended) = ended else { panic!("{ended}") };
    assert_eq!(ended.scope, BudgetScope::Namespace);
    let (granted, _) = drawn(accounts.clone(), &most(1000), &wish(1, "b", 88, 90));
    assert_eq!(granted, 88, "one call that needs it gets it");
    let settled = accounts.clone().settle(Token(1), "a", tokens(3)).unwrap();
    let (after, _) = settled.namespace.unwrap();
    assert_eq!((after.held.tokens, after.spent.tokens), (0, 3));
    // Made anew meanwhile: it was never debited for the slice.
    let anew = NamespaceBudget { made: 9, ..whole };
    let read = Accounts::of(&"u".into(), Some(&accounts.of_loop), Some(&anew), Some(&account));
    let (after, _) = read.settle(Token(1), "a", tokens(3)).unwrap().namespace.unwrap();
    assert_eq!((after.budget, after.used()), (9, Amount::default()));
}

#[test]
fn an_extension_is_done_once_and_raises_what_is_bounded() {
    let mut account = LoopAccount::default();
    let at = Timestamp::UNIX_EPOCH;
    let one = |id: &str| Extension {
        id: id.to_owned(),
        by: "user:a".to_owned(),
        at,
        amount: Amount { tokens: 5, calls: 1, ..Amount::default() },
    };
    assert!(remember(&mut account.extensions, &mut account.extended, one("x")));
    assert!(!remember(&mut account.extensions, &mut account.extended, one("x")));
    assert_eq!(account.limits(&most(10)), most(15));
    for n in 0..50 {
        remember(&mut account.extensions, &mut account.extended, one(&n.to_string()));
    }
    assert_eq!((account.extensions.len(), account.extended.tokens), (EXTENSIONS_MAX, 255));
}

#[test]
fn absurd_amounts_do_no_harm() {
    let all = u64::MAX;
    let (granted, accounts) = drawn(empty(None), &Limits::default(), &wish(1, "a", 1, all));
    assert_eq!(granted, AMOUNT_MAX);
    let accounts = accounts.settle(Token(1), "a", tokens(all)).unwrap();
    assert_eq!(accounts.of_loop.used().tokens, AMOUNT_MAX);
}

#[derive(Debug, Clone)]
enum Act {
    Draw {
        of: usize,
        id: u8,
        least: u64,
        want: u64,
    },
    Settle {
        of: usize,
        id: u8,
        percent: u64,
    },
    /// The worker is lost; the next one has the next token.
    Crash {
        of: usize,
        really: u64,
    },
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0..3_usize, 0..6_u8, 0..40_u64, 0..200_u64)
            .prop_map(|(of, id, least, want)| Act::Draw { of, id, least, want }),
        4 => (0..3_usize, 0..6_u8, 0..101_u64)
            .prop_map(|(of, id, percent)| Act::Settle { of, id, percent }),
        1 => (0..3_usize, 0..101_u64).prop_map(|(of, really)| Act::Crash { of, really }),
    ]
}

/// One loop of the namespace as its worker sees it.
#[derive(Default)]
struct Player {
    account: Option<LoopAccount>,
    token: i64,
    /// Slices in hand.
    held: std::collections::BTreeMap<String, u64>,
    really_spent: u64,
    /// How often a name was used up.
    names: [u32; 6],
}

proptest! {
    /// Three loops of one namespace, with requests repeated and workers lost at any time: what was really spent
    /// never exceeds what the accounts say, and neither exceeds a bound.
    #[test]
    fn a_crash_over_counts_and_nothing_goes_over(
        acts in prop::collection::vec(any_act(), 1..150), own in 1..300_u64, shared in 1..500_u64,
    ) {
        let (total, whole) = (most(own), budget(shared));
        let mut pool = NamespaceAccount::of(&whole, None);
        let mut players: [Player; 3] = Default::default();
        for act in acts {
            let (Act::Draw { of, .. } | Act::Settle { of, .. } | Act::Crash { of, .. }) = act;
            let player = &mut players[of];
            let accounts = Accounts::of(&"u".into(), player.account.as_ref(), Some(&whole), Some(&pool));
            match act {
                Act::Draw { id, least, want, .. } => {
                    let name = format!("{}-{id}-{}", player.token, player.names[usize::from(id)]);
                    let wish = wish(player.token, &name, least, want.max(least));
                    if let Ok(drawn) = accounts.draw(&total, &wish) {
                        prop_assert!(drawn.granted.tokens >= least || drawn.accounts.is_none());
                        let before = player.held.insert(name, drawn.granted.tokens);
                        prop_assert_eq!(before.is_some(), drawn.accounts.is_none());
                        prop_assert!(before.is_none_or(|before| before == drawn.granted.tokens));
                        if let Some(after) = drawn.accounts {
                            (player.account, pool) = (Some(after.of_loop), after.namespace.unwrap().0);
                        }
                    }
                }
                Act::Settle { id, percent, .. } => {
                    let name = format!("{}-{id}-{}", player.token, player.names[usize::from(id)]);
                    let granted = player.held.remove(&name);
                    let used = granted.unwrap_or(100) * percent / 100;
                    let settled = accounts.settle(Token(player.token), &name, tokens(used));
                    prop_assert_eq!(settled.is_some(), granted.is_some());
                    if let Some(after) = settled {
                        player.really_spent += used;
                        player.names[usize::from(id)] += 1;
                        (player.account, pool) = (Some(after.of_loop), after.namespace.unwrap().0);
                    }
                }
                Act::Crash { really, .. } => {
                    player.really_spent += player.held.values().map(|held| held * really / 100).sum::<u64>();
                    player.held.clear();
                    player.token += 1;
                }
            }
            let used: Vec<u64> =
                players.iter().map(|one| one.account.as_ref().map_or(0, |a| a.used().tokens)).collect();
            for (player, used) in players.iter().zip(&used) {
                prop_assert!(player.really_spent + player.held.values().sum::<u64>() <= *used);
                prop_assert!(*used <= own);
            }
            prop_assert_eq!(used.iter().sum::<u64>(), pool.used().tokens);
            prop_assert!(pool.used().tokens <= shared);
        }
    }
}
