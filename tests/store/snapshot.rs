//! Snapshots: one state that really existed, however many pages it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flyball_store::{Mutation, NewLoop, PutStatus, StoreError};

use crate::on_both;
use crate::setup::{Server, World, key, record, status};

on_both!(
    pages_are_pinned_to_one_revision,
    an_answer_older_than_wanted_is_refused,
    what_cannot_be_read_and_foreign_keys_are_listed_and_left_alone,
);

async fn pages_are_pinned_to_one_revision(server: Server) {
    let world = World::new(&server).await;
    // 1300 loops are 2600 keys: six pages.
    let name = |n: usize| format!("l{n:04}");
    let loops: Vec<NewLoop> = (0..1300)
        .map(|n| NewLoop { record: Arc::new(record(&name(n))), status: Arc::new(status("0")) })
        .collect();
    let created = world.store.create_loops(&loops).await;
    assert!(created.iter().all(Result::is_ok));

    // The first and the last status always change together, while snapshots are read.
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (store, leadership) = (world.store.clone(), world.leadership.clone());
        let done = done.clone();
        let mut revisions =
            [world.status_revision(&name(0)).await, world.status_revision(&name(1299)).await];
        tokio::spawn(async move {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                let put = |n: usize, status_revision| {
                    Mutation::PutStatus(PutStatus {
                        key: key(&format!("l{n:04}")),
                        status: Arc::new(status(&round.to_string())),
                        status_revision,
                        token: None,
                    })
                };
                let both = [put(0, revisions[0]), put(1299, revisions[1])];
                let commit = store.commit(&leadership, &both).await;
                assert_eq!(commit.results[0], commit.results[1]);
                let flyball_store::MutationResult::Committed { revision } = commit.results[0]
                else {
                    panic!("{commit:?}")
                };
                revisions = [revision, revision];
            }
            round
        })
    };
    let mut last = 0;
    for _ in 0..10 {
        let state = world.store.snapshot(last).await.expect("snapshot");
        assert!(state.revision >= last);
        last = state.revision;
        assert_eq!((state.loops.len(), state.statuses.len()), (1300, 1300));
        assert_eq!(state.statuses[0].1.value, state.statuses[1299].1.value);
        assert!(state.statuses.iter().all(|(_, s)| s.mod_revision <= state.revision));
        assert_eq!(state.leader.expect("leader").value.id, "s1");
    }
    done.store(true, Ordering::Relaxed);
    assert!(writer.await.expect("writer") > 0);
}

async fn an_answer_older_than_wanted_is_refused(server: Server) {
    let world = World::new(&server).await;
    let revision = world.create("a").await;
    world.store.snapshot(revision).await.expect("snapshot");
    let stale = world.store.snapshot(revision + 1).await.expect_err("older than wanted");
    assert_eq!(stale, StoreError::Stale { found: revision, wanted: revision + 1 });
    assert!(stale.is_retryable());
}

async fn what_cannot_be_read_and_foreign_keys_are_listed_and_left_alone(server: Server) {
    let world = World::new(&server).await;
    world.create("a").await;
    let mut raw = server.raw().await;
    for foreign in ["/flyball/v1/timers/1/x", "/flyball/v10/leader", "/zzz"] {
        raw.put(foreign, "theirs", None).await.expect("put");
    }
    raw.put("/flyball/v1/claims/default/a", "junk", None).await.expect("put");
    let state = world.store.snapshot(0).await.expect("snapshot");
    assert_eq!((state.loops.len(), state.claims.len()), (1, 0));
    let keys: Vec<&str> = state.undecodable.iter().map(|u| u.key.as_str()).collect();
    assert_eq!(keys, ["/flyball/v1/claims/default/a", "/flyball/v1/timers/1/x"]);
    let read = world.store.get_claim(&key("a")).await.expect_err("read junk");
    assert!(matches!(read, StoreError::Undecodable { .. }));
}
