//! Budgets in the store: whatever happens at the same time, no unit is given twice.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use flyball_core::ids::Token;
use flyball_core::model::{
    Amount, BudgetScope, Definition, DrawSlice, Extension, Limits, LoopBudget, Money,
};
use flyball_store::{
    AccessRecord, CreateLoop, DrewSlice, Extended, Mutation, RemoveLoop, RunProof, Session,
    SettledSlice, Store,
};

use crate::on_both;
use crate::setup::{Server, World, assign, key, record, release, status};

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, ..Amount::default() }
}

fn limits(tokens: u64) -> Limits {
    Limits { tokens: Some(tokens), ..Limits::default() }
}

/// A loop with a budget, owned by a node.
async fn owned(world: &World, session: &Session, name: &str, total: Limits) -> RunProof {
    let mut record = record(name);
    record.spec.budget = LoopBudget { total, ..LoopBudget::default() };
    let created = world.store.create_loop(&record, &status("new")).await.unwrap();
    let CreateLoop::Created { revision } = created else { panic!("{created:?}") };
    let token = world.committed(assign(name, "n1", session, revision, Vec::new())).await;
    proof(name, token)
}

fn proof(name: &str, token: i64) -> RunProof {
    RunProof {
        key: key(name),
        uid: format!("uid-{name}").into(),
        node: "n1".into(),
        incarnation: "n1-life".into(),
        token: Token(token),
    }
}

async fn draw(store: &Store, run: &RunProof, id: &str, least: u64) -> DrewSlice {
    let wish = DrawSlice {
        uid: run.uid.clone(),
        token: run.token,
        id: id.to_owned(),
        least: tokens(least),
        want: tokens(least),
    };
    loop {
        // Others were faster for all of its tries: the same request again.
        match store.draw_slice(run, &wish).await {
            Err(error) if error.is_retryable() => {}
            drew => return drew.unwrap(),
        }
    }
}

async fn used(store: &Store, name: &str) -> u64 {
    store.loop_budget(&key(name)).await.unwrap().unwrap().account.used().tokens
}

/// As whoever applies a manifest of kind Budget writes it.
async fn put_budget(store: &Store, tokens: u64) {
    let json = serde_json::json!({
        "apiVersion": "flyball.dev/v1", "kind": "Budget", "metadata": { "namespace": "default" },
        "spec": { "tokens": tokens },
    });
    let record = AccessRecord {
        manifest: Definition::Budget(serde_json::from_value(json).unwrap()),
        generation: 1,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        changed_at: jiff::Timestamp::UNIX_EPOCH,
        changed_by: "owner".to_owned(),
        unknown: serde_json::Map::new(),
    };
    store.put_definition(&record, 0).await.unwrap();
}

on_both!(
    a_cost_is_handed_out_once,
    concurrent_calls_get_what_there_is_and_not_a_unit_more,
    loops_of_a_namespace_share_its_budget,
    a_slice_is_debited_once_and_settled_once,
    only_the_owner_draws_and_what_it_loses_is_spent,
    nothing_is_drawn_after_the_claim_has_ended,
    a_budget_is_raised_once_by_a_request,
    a_removed_loop_leaves_its_spending_to_its_namespace,
);

/// 64 at once, a budget for ten.
async fn concurrent_calls_get_what_there_is_and_not_a_unit_more(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    for round in 0..3 {
        let name = format!("l{round}");
        let run = Arc::new(owned(&world, &session, &name, limits(1000)).await);
        let mut calls = tokio::task::JoinSet::new();
        for call in 0..64 {
            let (store, run) = (world.store.clone(), run.clone());
            calls.spawn(async move {
                let id = format!("{call}");
                let drew = draw(&store, &run, &id, 100).await;
                if matches!(drew, DrewSlice::Granted(_)) {
                    // Settled at once, wholly used: that makes room for nobody.
                    store.settle_slice(&run, &id, tokens(100)).await.unwrap();
                }
                drew
            });
        }
        let drew = calls.join_all().await;
        let granted = drew.iter().filter(|one| matches!(one, DrewSlice::Granted(_))).count();
        let ended = drew.iter().filter(|one| matches!(one, DrewSlice::Ended(_))).count();
        assert_eq!((granted, ended), (10, 54), "round {round}");
        let state = world.store.loop_budget(&key(&name)).await.unwrap().unwrap();
        assert_eq!((state.account.spent, state.account.open.len()), (tokens(1000), 0));
    }
}

async fn loops_of_a_namespace_share_its_budget(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    put_budget(&world.store, 1000).await;
    let mut calls = tokio::task::JoinSet::new();
    for of in 0..8 {
        let run = Arc::new(owned(&world, &session, &format!("l{of}"), limits(500)).await);
        for call in 0..4 {
            let (store, run) = (world.store.clone(), run.clone());
            calls.spawn(async move { draw(&store, &run, &format!("{call}"), 100).await });
        }
    }
    let drew = calls.join_all().await;
    let granted = drew.iter().filter(|one| matches!(one, DrewSlice::Granted(_))).count();
    assert_eq!(granted, 10);
    let of_namespace = |one: &DrewSlice| match one {
        DrewSlice::Ended(ended) => ended.scope == BudgetScope::Namespace,
        _ => false,
    };
    assert_eq!(drew.iter().filter(|one| of_namespace(one)).count(), 22);
    let budgets = world.store.list_namespace_budgets().await.unwrap();
    let [(namespace, budget, account)] = &budgets[..] else { panic!("{budgets:?}") };
    assert_eq!((namespace.as_str(), budget.limits), ("default", limits(1000)));
    assert_eq!((account.held, account.spent), (tokens(1000), Amount::default()));
    let accounts = world.store.list_loop_accounts("default").await.unwrap();
    let sum: u64 = accounts.iter().map(|(_, account)| account.used().tokens).sum();
    assert_eq!(sum, 1000);
}

async fn a_slice_is_debited_once_and_settled_once(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let run = owned(&world, &session, "x", limits(1000)).await;
    let store = &world.store;
    for _ in 0..3 {
        assert_eq!(draw(store, &run, "a", 300).await, DrewSlice::Granted(tokens(300)));
        assert_eq!(used(store, "x").await, 300);
    }
    for _ in 0..3 {
        let settled = store.settle_slice(&run, "a", tokens(20)).await.unwrap();
        assert_eq!((settled, used(store, "x").await), (SettledSlice::Done, 20));
    }
    assert_eq!(draw(store, &run, "a", 300).await, DrewSlice::Closed);
    assert_eq!(used(store, "x").await, 20);
}

async fn only_the_owner_draws_and_what_it_loses_is_spent(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let run = owned(&world, &session, "x", limits(1000)).await;
    let store = &world.store;
    for stranger in [
        RunProof { token: Token(run.token.0 - 1), ..run.clone() },
        RunProof { token: Token(run.token.0 + 1), ..run.clone() },
        RunProof { node: "n2".into(), ..run.clone() },
        RunProof { incarnation: "another-life".into(), ..run.clone() },
        RunProof { uid: "another-loop".into(), ..run.clone() },
        RunProof { key: key("y"), ..run.clone() },
    ] {
        assert_eq!(draw(store, &stranger, "s", 1).await, DrewSlice::NotItsRun, "{stranger:?}");
        let settled = store.settle_slice(&stranger, "a", tokens(0)).await.unwrap();
        assert_eq!(settled, SettledSlice::NotItsRun);
    }
    assert_eq!(draw(store, &run, "a", 300).await, DrewSlice::Granted(tokens(300)));
    world.committed(release("x", run.token.0, Vec::new())).await;
    assert_eq!(draw(store, &run, "b", 1).await, DrewSlice::NotItsRun);
    let late = store.settle_slice(&run, "a", tokens(0)).await.unwrap();
    assert_eq!((late, used(store, "x").await), (SettledSlice::NotItsRun, 300));
    let revision = world.status_revision("x").await;
    let token = world.committed(assign("x", "n1", &session, revision, Vec::new())).await;
    let next = proof("x", token);
    assert_eq!(draw(store, &next, "a", 700).await, DrewSlice::Granted(tokens(700)));
    let state = store.loop_budget(&key("x")).await.unwrap().unwrap();
    assert_eq!((state.account.spent, state.account.open.len()), (tokens(300), 1));
    // Its lease ends: nothing of it is drawn any more.
    store.revoke(session.lease).await.unwrap();
    assert_eq!(store.get_claim(&key("x")).await.unwrap(), None);
    assert_eq!(draw(store, &next, "c", 0).await, DrewSlice::NotItsRun);
}

async fn a_cost_is_handed_out_once(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let run = owned(&world, &session, "x", limits(1000)).await;
    let (store, loop_key, uid) = (&world.store, key("x"), run.uid.clone());
    let untold = || async { store.mark_told(&loop_key, &uid).await.unwrap() };
    assert_eq!(untold().await, None, "it has called nothing");
    for (id, used) in [("a", 100), ("b", 30)] {
        let used = Amount { tokens: used, money: Money(used), calls: 1 };
        assert_eq!(draw(store, &run, id, 300).await, DrewSlice::Granted(tokens(300)));
        store.settle_slice(&run, id, used).await.unwrap();
        let asked = tokio::join!(untold(), untold(), untold());
        let told: Vec<Amount> = [asked.0, asked.1, asked.2].into_iter().flatten().collect();
        assert_eq!(told, [used], "what is new, to one of them");
        assert_eq!(untold().await, None);
    }
    let other = "another-life".into();
    assert_eq!(store.mark_told(&loop_key, &other).await.unwrap(), None);
}

/// A draw that was decided on while the claim lived, and is written after it ended, would spend under the next owner.
async fn nothing_is_drawn_after_the_claim_has_ended(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    for round in 0..10 {
        let name = format!("l{round}");
        let run = Arc::new(owned(&world, &session, &name, limits(1_000_000)).await);
        let mut calls = tokio::task::JoinSet::new();
        for call in 0..16 {
            let (store, run) = (world.store.clone(), run.clone());
            calls.spawn(async move {
                let mut number = 0;
                while draw(&store, &run, &format!("{call}-{number}"), 1).await
                    != DrewSlice::NotItsRun
                {
                    number += 1;
                }
            });
        }
        let mut raw = server.raw().await;
        let account = format!("/flyball/v1/accounts/loops/default/{name}");
        // Let some through first.
        while raw.get(account.as_str(), None).await.unwrap().kvs().is_empty() {}
        let ended = world.committed(release(&name, run.token.0, Vec::new())).await;
        calls.join_all().await;
        let found = raw.get(account.as_str(), None).await.unwrap();
        let last = found.kvs()[0].mod_revision();
        assert!(last < ended, "round {round}: drawn at {last}, but the claim ended at {ended}");
    }
}

async fn a_budget_is_raised_once_by_a_request(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let run = owned(&world, &session, "x", limits(100)).await;
    put_budget(&world.store, 1000).await;
    let store = &world.store;
    let by = |id: &str, amount: Amount| Extension {
        id: id.to_owned(),
        by: "owner".to_owned(),
        at: jiff::Timestamp::UNIX_EPOCH,
        amount,
    };
    assert!(matches!(draw(store, &run, "a", 150).await, DrewSlice::Ended(_)));
    for _ in 0..3 {
        let extended = store.extend_loop(&key("x"), &by("e1", tokens(50))).await.unwrap();
        assert_eq!(extended, Extended::Done);
        let extended = store.extend_namespace("default", &by("e1", tokens(7))).await.unwrap();
        assert_eq!(extended, Extended::Done);
    }
    assert!(matches!(draw(store, &run, "a", 151).await, DrewSlice::Ended(_)));
    assert_eq!(draw(store, &run, "a", 150).await, DrewSlice::Granted(tokens(150)));
    let (budget, account) = store.loop_budget(&key("x")).await.unwrap().unwrap().namespace.unwrap();
    assert_eq!(account.limits(&budget.limits), limits(1007));
    let money = Amount { money: Money(1), ..Amount::default() };
    let unbounded = store.extend_loop(&key("x"), &by("e2", money)).await.unwrap();
    assert_eq!(unbounded, Extended::Unbounded(limits(100)));
    let missing = store.extend_loop(&key("y"), &by("e2", money)).await.unwrap();
    assert_eq!(missing, Extended::Missing);
    assert_eq!(store.extend_namespace("b", &by("e", money)).await.unwrap(), Extended::Missing);
}

async fn a_removed_loop_leaves_its_spending_to_its_namespace(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    put_budget(&world.store, 1000).await;
    let run = owned(&world, &session, "x", limits(500)).await;
    let store = &world.store;
    assert_eq!(draw(store, &run, "a", 200).await, DrewSlice::Granted(tokens(200)));
    store.settle_slice(&run, "a", tokens(10)).await.unwrap();
    assert_eq!(draw(store, &run, "b", 200).await, DrewSlice::Granted(tokens(200)));
    world.committed(release("x", run.token.0, Vec::new())).await;
    let loop_revision = store.get_loop(&key("x")).await.unwrap().unwrap().0.mod_revision;
    let remove = RemoveLoop { key: key("x"), loop_revision, duty: None };
    world.committed(Mutation::RemoveLoop(remove)).await;
    assert_eq!(store.list_loop_accounts("").await.unwrap(), []);
    let budgets = store.list_namespace_budgets().await.unwrap();
    assert_eq!(budgets[0].2.used(), tokens(210));
    // Made again, it begins with its own budget whole, and what its namespace has left.
    let run = owned(&world, &session, "x", limits(500)).await;
    assert_eq!(used(store, "x").await, 0);
    assert_eq!(draw(store, &run, "a", 500).await, DrewSlice::Granted(tokens(500)));
    let snapshot = store.snapshot(0).await.unwrap();
    assert_eq!((snapshot.loop_accounts.len(), snapshot.namespace_accounts.len()), (1, 1));
    assert_eq!(snapshot.budgets[0].1.value.limits, limits(1000));
    assert!(snapshot.undecodable.is_empty());
}
