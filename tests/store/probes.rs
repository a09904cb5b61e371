//! Questions about nodes of which the leader hears nothing: put by the leader, taken away by whoever renews.

use flyball_store::{Change, SessionRecord};

use crate::on_both;
use crate::setup::{Server, World, lead};

on_both!(
    a_question_stands_until_its_lease_ends,
    an_answer_keeps_the_lease,
    only_the_leader_asks,
    a_question_ends_with_the_life_that_it_is_about,
);

fn session(lease: i64) -> SessionRecord {
    SessionRecord { node: "n1".into(), incarnation: "n1-life".into(), lease }
}

async fn lives(world: &World, lease: i64) -> bool {
    world.store.time_to_live(lease).await.expect("ttl").is_some()
}

async fn a_question_stands_until_its_lease_ends(server: Server) {
    let world = World::new(&server).await;
    let asked_for = session(world.session("n1").await.lease);
    let ask = || world.store.ask_for_node(&world.leadership, &asked_for);
    let first = ask().await.expect("ask").expect("it lives");
    let asked = ask().await.expect("ask").expect("it lives");
    assert!(asked > first, "put anew");
    // Everybody sees it, also who lists later.
    let snapshot = world.store.snapshot(asked).await.expect("list");
    assert_eq!(snapshot.probes[0].1.value, asked_for);
    assert_eq!(snapshot.probes[0].1.mod_revision, asked);
    let stands = |asked| world.store.stands(&world.leadership, &asked_for, asked);
    assert!(!stands(first).await.expect("ask"), "it was put anew");
    for _ in 0..2 {
        assert!(stands(asked).await.expect("ask"), "asking changes nothing");
    }
    world.store.revoke(asked_for.lease).await.expect("revoke");
    assert!(!stands(asked).await.expect("ask"), "it goes with the lease");
    assert_eq!(world.store.session(&"n1".into()).await.expect("get"), None);
}

async fn an_answer_keeps_the_lease(server: Server) {
    let world = World::new(&server).await;
    let asked_for = session(world.session("n1").await.lease);
    let asked = world.store.ask_for_node(&world.leadership, &asked_for).await.expect("ask");
    let asked = asked.expect("it lives");
    let mut watch = world.store.watch(asked + 1);
    // An answer to an earlier question says nothing of this one.
    world.store.answer_for_node(&"n1".into(), asked - 1).await.expect("answer");
    world.store.answer_for_node(&"n1".into(), asked).await.expect("answer");
    let changes = loop {
        match watch.next().await {
            flyball_store::WatchItem::Changes { changes, .. } => break changes,
            flyball_store::WatchItem::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(changes, [Change::Probe("n1".into(), None)]);
    let stands = world.store.stands(&world.leadership, &asked_for, asked).await.expect("ask");
    assert!(!stands && lives(&world, asked_for.lease).await);
}

async fn only_the_leader_asks(server: Server) {
    let old = World::new(&server).await;
    let asked_for = session(old.session("n1").await.lease);
    let asked = old.store.ask_for_node(&old.leadership, &asked_for).await.expect("ask");
    let asked = asked.expect("it lives");
    old.store.revoke(old.leadership.lease).await.expect("revoke");
    let store = server.store().await;
    let new = World { leadership: lead(&store, "s2").await, store };
    assert!(!old.store.stands(&old.leadership, &asked_for, asked).await.expect("ask"));
    assert_eq!(old.store.ask_for_node(&old.leadership, &asked_for).await.expect("ask"), None);
    assert!(lives(&new, asked_for.lease).await);
    assert!(new.store.stands(&new.leadership, &asked_for, asked).await.expect("ask"));
}

async fn a_question_ends_with_the_life_that_it_is_about(server: Server) {
    let world = World::new(&server).await;
    let asked_for = session(world.session("n1").await.lease);
    let asked = world.store.ask_for_node(&world.leadership, &asked_for).await.expect("ask");
    let asked = asked.expect("it lives");
    world.store.revoke(asked_for.lease).await.expect("revoke");
    assert_eq!(world.store.ask_for_node(&world.leadership, &asked_for).await.expect("ask"), None);
    let next = world.session("n1").await;
    assert!(world.store.snapshot(0).await.expect("list").probes.is_empty());
    assert!(!world.store.stands(&world.leadership, &asked_for, asked).await.expect("ask"));
    assert!(lives(&world, next.lease).await);
}
