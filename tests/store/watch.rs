//! The watch: every change once, in order, resumed without a gap, and never silent in secret.

use std::sync::Arc;
use std::time::Duration;

use flyball_store::{Change, Mutation, PutStatus, Store, WatchItem, WatchOptions, WatchStream};

use crate::faults::Faulty;
use crate::on_both;
use crate::setup::{Server, World, assign, exclusive, key, status};

on_both!(
    a_commit_arrives_as_one_item_with_its_revision,
    a_watch_resumes_behind_what_it_has_seen,
    a_lagging_watch_is_told_of_compaction,
    silence_is_asked_about_and_found_out,
    a_cut_stream_goes_on_without_a_gap,
    an_unreadable_value_does_not_end_the_watch,
    a_long_history_arrives_in_order,
);

/// The next changes, skipping signs of life.
async fn changes(watch: &mut WatchStream) -> (i64, Vec<Change>) {
    loop {
        let item = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        match item.expect("nothing arrives") {
            WatchItem::Changes { revision, changes } => return (revision, changes),
            // On a loaded machine the server may answer later than an impatient watch waits.
            WatchItem::Progress { .. } | WatchItem::Stale { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn put(world: &World, name: &str, message: &str, status_revision: i64) -> i64 {
    world
        .committed(Mutation::PutStatus(PutStatus {
            key: key(name),
            status: Arc::new(status(message)),
            status_revision,
            token: None,
        }))
        .await
}

async fn a_commit_arrives_as_one_item_with_its_revision(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let created = world.create("a").await;
    let mut watch = world.store.watch(created);
    let (revision, first) = changes(&mut watch).await;
    assert_eq!(revision, created);
    assert!(matches!(&first[..], [Change::Loop(..), Change::Status(..)]), "{first:?}");
    let owners = exclusive(&["git/r/x"]);
    let token = world.committed(assign("a", "n1", &session, created, owners)).await;
    let (revision, second) = changes(&mut watch).await;
    assert_eq!((revision, second.len()), (token, 3));
    for change in second {
        let (mod_revision, lease) = match change {
            Change::Claim(_, Some(stored)) => (stored.mod_revision, stored.lease),
            Change::Owner(_, Some(stored)) => (stored.mod_revision, stored.lease),
            Change::Status(_, Some(stored)) => (stored.mod_revision, session.lease + stored.lease),
            other => panic!("{other:?}"),
        };
        assert_eq!((mod_revision, lease), (token, session.lease));
    }
}

async fn a_watch_resumes_behind_what_it_has_seen(server: Server) {
    let world = World::new(&server).await;
    let mut revision = world.create("a").await;
    let mut watch = world.store.watch(revision + 1);
    for n in 0..3 {
        revision = put(&world, "a", &n.to_string(), revision).await;
    }
    assert_eq!(changes(&mut watch).await.0, revision - 2);
    let resumed_at = watch.next_revision();
    drop(watch);
    revision = put(&world, "a", "meanwhile", revision).await;
    let mut watch = world.store.watch(resumed_at);
    let mut seen = Vec::new();
    while seen.last() != Some(&revision) {
        seen.push(changes(&mut watch).await.0);
    }
    assert_eq!(seen, [revision - 2, revision - 1, revision]);
}

async fn a_lagging_watch_is_told_of_compaction(server: Server) {
    let world = World::new(&server).await;
    let first = world.create("a").await;
    let mut revision = first;
    for n in 0..5 {
        revision = put(&world, "a", &n.to_string(), revision).await;
    }
    server.raw().await.compact(revision, None).await.expect("compact");
    let mut watch = world.store.watch(first);
    let item = watch.next().await;
    let WatchItem::Compacted { revision: compacted } = item else { panic!("{item:?}") };
    assert_eq!(compacted, revision);
    // A list and a watch behind it are whole again.
    let state = world.store.snapshot(revision).await.expect("snapshot");
    let mut watch = world.store.watch(state.revision + 1);
    let next = put(&world, "a", "after", revision).await;
    assert_eq!(changes(&mut watch).await.0, next);
}

/// Asks soon, and gives up after `stale_after`.
fn impatient(stale_after: Duration) -> WatchOptions {
    WatchOptions { ask_after: Duration::from_millis(50), stale_after }
}

async fn silence_is_asked_about_and_found_out(server: Server) {
    let faulty = Faulty::new(server.channel());
    let store = Store::from_channel(faulty.channel()).await.expect("store");
    let world = World::over(store).await;
    let revision = world.create("a").await;
    // A healthy server answers when asked.
    let mut watch = world.store.watch_with(revision + 1, impatient(Duration::from_secs(20)));
    for _ in 0..3 {
        let item = watch.next().await;
        assert!(matches!(item, WatchItem::Progress { revision: r } if r >= revision), "{item:?}");
    }
    // A silent one is found out, and the next stream has what was missed.
    faulty.silence("/Watch");
    let mut watch = world.store.watch_with(revision + 1, impatient(Duration::from_millis(300)));
    let item = watch.next().await;
    assert!(matches!(item, WatchItem::Stale { .. }), "{item:?}");
    let next = put(&world, "a", "missed", revision).await;
    assert_eq!(changes(&mut watch).await.0, next);
}

async fn a_cut_stream_goes_on_without_a_gap(server: Server) {
    let faulty = Faulty::new(server.channel());
    let store = Store::from_channel(faulty.channel()).await.expect("store");
    let world = World::over(store).await;
    let revision = world.create("a").await;
    faulty.refuse("/Watch");
    let mut watch = world.store.watch(revision + 1);
    let item = watch.next().await;
    assert!(matches!(&item, WatchItem::Ended(error) if error.is_retryable()), "{item:?}");
    let next = put(&world, "a", "meanwhile", revision).await;
    assert_eq!(changes(&mut watch).await.0, next);
}

async fn an_unreadable_value_does_not_end_the_watch(server: Server) {
    let world = World::new(&server).await;
    let revision = world.create("a").await;
    let mut watch = world.store.watch(revision + 1);
    let mut raw = server.raw().await;
    raw.put("/flyball/v1/nodes/n1", "junk", None).await.expect("put");
    raw.put("/flyball/v1/timers/1/x", "not ours", None).await.expect("put");
    let (_, unreadable) = changes(&mut watch).await;
    assert!(
        matches!(&unreadable[..], [Change::Undecodable { key, .. }] if key.ends_with("/n1")),
        "{unreadable:?}"
    );
    let (_, foreign) = changes(&mut watch).await;
    let there = "/flyball/v1/timers/1/x".to_owned();
    assert!(matches!(&foreign[..], [Change::Undecodable { key, .. }] if *key == there));
    raw.delete(there.as_str(), None).await.expect("delete");
    assert_eq!(changes(&mut watch).await.1, [Change::ForeignGone { key: there }]);
    let next = put(&world, "a", "after", revision).await;
    assert_eq!(changes(&mut watch).await.0, next);
    raw.delete("/flyball/v1/nodes/n1", None).await.expect("delete");
    assert_eq!(changes(&mut watch).await.1, [Change::Node("n1".into(), None)]);
}

async fn a_long_history_arrives_in_order(server: Server) {
    let world = World::new(&server).await;
    let first = world.create("a").await;
    let mut revision = first;
    // About 6 MB: more than one answer of the server holds.
    let long = "x".repeat(60_000);
    for n in 0..100 {
        revision = put(&world, "a", &format!("{n} {long}"), revision).await;
    }
    let mut watch = world.store.watch(first + 1);
    for n in 0..100 {
        let (at, changes) = changes(&mut watch).await;
        assert_eq!(at, first + 1 + n);
        let [Change::Status(_, Some(stored))] = &changes[..] else { panic!("{changes:?}") };
        assert!(stored.value.message.starts_with(&format!("{n} ")));
    }
    assert_eq!(watch.next_revision(), revision + 1);
}
