//! Lost answers: a state of its own, resolved for certain and never by repeating.

use std::sync::Arc;

use flyball_core::ids::AttemptId;
use flyball_store::{
    Campaign, CommitError, Mutation, MutationResult, OpenSession, PutStatus, Resolution, Store,
    StoreError,
};

use crate::faults::Faulty;
use crate::on_both;
use crate::setup::{Server, TTL, World, assign, exclusive, key, leader, release, status};

on_both!(
    a_lost_assignment_is_found_by_its_attempt,
    a_late_assignment_is_ruled_out_by_asking,
    control_reading_alone_does_not_rule_out_a_late_assignment,
    a_lost_release_and_a_lost_status_are_found,
    a_request_that_was_never_sent_may_be_repeated,
    a_lost_answer_stops_what_comes_after_it,
    lost_elections_and_sessions_are_read_back,
    a_fenced_leader_resolves_nothing,
);

async fn world(server: &Server) -> (World, Faulty) {
    let faulty = Faulty::new(server.channel());
    let store = Store::from_channel(faulty.channel()).await.expect("store");
    (World::over(store).await, faulty)
}

async fn a_lost_assignment_is_found_by_its_attempt(server: Server) {
    let (world, faulty) = world(&server).await;
    let session = world.session("n1").await;
    let revision = world.create("a").await;
    let mutation = assign("a", "n1", &session, revision, exclusive(&["git/r/x"]));
    faulty.lose_answer_of("/Txn");
    let commit = world.commit(std::slice::from_ref(&mutation)).await;
    assert_eq!(commit.results, [MutationResult::Unknown]);
    assert!(matches!(&commit.error, Some(CommitError::Store(e)) if e.is_unknown()));
    assert!(!commit.error.expect("error").is_retryable());

    let resolved = world.store.resolve(&world.leadership, &mutation).await.expect("resolve");
    let claim = world.store.get_claim(&key("a")).await.expect("get").expect("claim");
    assert_eq!(resolved, Resolution::Applied { revision: claim.create_revision });
    let attempt = claim.value.attempt;
    let token = world.store.read_back(&key("a"), &attempt).await.expect("read");
    assert_eq!(token.map(|token| token.0), Some(claim.create_revision));
    let other = AttemptId::from("another");
    assert_eq!(world.store.read_back(&key("a"), &other).await.expect("read"), None);

    // Also when the claim has ended in between.
    world.store.revoke(session.lease).await.expect("revoke");
    let again = world.store.resolve(&world.leadership, &mutation).await.expect("resolve");
    assert_eq!(again, resolved);
}

async fn a_late_assignment_is_ruled_out_by_asking(server: Server) {
    let (world, faulty) = world(&server).await;
    let session = world.session("n1").await;
    let revision = world.create("a").await;
    let mutation = assign("a", "n1", &session, revision, exclusive(&["git/r/x"]));
    let held = faulty.hold_back("/Txn");
    let commit = world.commit(std::slice::from_ref(&mutation)).await;
    assert_eq!(commit.results, [MutationResult::Unknown]);
    let resolved = world.store.resolve(&world.leadership, &mutation).await.expect("resolve");
    let Resolution::NotApplied { status_revision } = resolved else { panic!("{resolved:?}") };
    // Only now the request arrives.
    held.release().await;
    assert_eq!(world.store.get_claim(&key("a")).await.expect("get"), None);
    assert_eq!(world.status_revision("a").await, status_revision);
    let again = world.store.resolve(&world.leadership, &mutation).await.expect("resolve");
    assert_eq!(again, resolved);
    world.committed(assign("a", "n1", &session, status_revision, exclusive(&["git/r/x"]))).await;
}

/// The reason for [`Store::resolve`]: with a plain read in its place the answer would be wrong.
async fn control_reading_alone_does_not_rule_out_a_late_assignment(server: Server) {
    let (world, faulty) = world(&server).await;
    let session = world.session("n1").await;
    let revision = world.create("a").await;
    let mutation = assign("a", "n1", &session, revision, Vec::new());
    let attempt = AttemptId(format!("attempt-a-{revision}"));
    let held = faulty.hold_back("/Txn");
    world.commit(&[mutation]).await;
    assert_eq!(world.store.read_back(&key("a"), &attempt).await.expect("read"), None);
    held.release().await;
    assert!(world.store.read_back(&key("a"), &attempt).await.expect("read").is_some());
}

async fn a_lost_release_and_a_lost_status_are_found(server: Server) {
    let (world, faulty) = world(&server).await;
    let session = world.session("n1").await;
    let revision = world.create("a").await;
    let token = world.committed(assign("a", "n1", &session, revision, Vec::new())).await;
    let mutation = release("a", token, Vec::new());
    faulty.lose_answer_of("/Txn");
    let commit = world.commit(std::slice::from_ref(&mutation)).await;
    assert_eq!(commit.results, [MutationResult::Unknown]);
    let resolved = world.store.resolve(&world.leadership, &mutation).await.expect("resolve");
    let revision = world.status_revision("a").await;
    assert_eq!(resolved, Resolution::Applied { revision });

    let mutation = Mutation::PutStatus(PutStatus {
        key: key("a"),
        status: Arc::new(status("noted")),
        status_revision: revision,
        token: None,
    });
    let held = faulty.hold_back("/Txn");
    let commit = world.commit(std::slice::from_ref(&mutation)).await;
    assert_eq!(commit.results, [MutationResult::Unknown]);
    let resolved = world.store.resolve(&world.leadership, &mutation).await.expect("resolve");
    held.release().await;
    let revision = world.status_revision("a").await;
    assert_eq!(resolved, Resolution::NotApplied { status_revision: revision });
}

async fn a_request_that_was_never_sent_may_be_repeated(server: Server) {
    let (world, faulty) = world(&server).await;
    let session = world.session("n1").await;
    let revision = world.create("a").await;
    let mutation = assign("a", "n1", &session, revision, Vec::new());
    faulty.refuse("/Txn");
    let commit = world.commit(std::slice::from_ref(&mutation)).await;
    assert_eq!(commit.results, [MutationResult::NotApplied]);
    assert!(commit.error.expect("error").is_retryable());
    world.committed(mutation).await;
    faulty.refuse("/Range");
    let read = world.store.get_claim(&key("a")).await.expect_err("no error");
    assert!(read.is_retryable());
}

async fn a_lost_answer_stops_what_comes_after_it(server: Server) {
    let (world, faulty) = world(&server).await;
    let revision = world.create("a").await;
    let put = |message: &str, status_revision| {
        Mutation::PutStatus(PutStatus {
            key: key("a"),
            status: Arc::new(status(message)),
            status_revision,
            token: None,
        })
    };
    faulty.lose_answer_of("/Txn");
    let commit = world.commit(&[put("one", revision), put("two", revision)]).await;
    assert_eq!(commit.results, [MutationResult::Unknown, MutationResult::NotApplied]);
}

async fn lost_elections_and_sessions_are_read_back(server: Server) {
    let faulty = Faulty::new(server.channel());
    let store = Store::from_channel(faulty.channel()).await.expect("store");
    faulty.lose_answer_of("/Txn");
    let won = store.campaign(&leader("s1"), TTL).await.expect("campaign");
    let Campaign::Won(leadership) = won else { panic!("{won:?}") };
    faulty.lose_answer_of("/Txn");
    let opened = store.open_session(&leadership, &"n1".into(), &"i1".into(), TTL).await;
    let Ok(OpenSession::Opened(session)) = opened else { panic!("{opened:?}") };
    let world = World { store, leadership };
    let revision = world.create("a").await;
    let mut mutation = assign("a", "n1", &session, revision, Vec::new());
    if let Mutation::Assign(assign) = &mut mutation {
        assign.claim.incarnation = "i1".into();
    }
    world.committed(mutation).await;
    // An answer to a renewal that is lost tells nothing.
    faulty.lose_answer_of("/LeaseKeepAlive");
    let unknown = world.store.keep_alive(session.lease).await.expect_err("known");
    assert!(matches!(unknown, StoreError::Unknown { .. }));
}

async fn a_fenced_leader_resolves_nothing(server: Server) {
    let (world, faulty) = world(&server).await;
    let session = world.session("n1").await;
    let revision = world.create("a").await;
    let mutation = assign("a", "n1", &session, revision, Vec::new());
    let held = faulty.hold_back("/Txn");
    world.commit(std::slice::from_ref(&mutation)).await;
    world.store.revoke(world.leadership.lease).await.expect("revoke");
    let fenced = world.store.resolve(&world.leadership, &mutation).await;
    assert!(matches!(fenced, Err(CommitError::Fenced { .. })), "{fenced:?}");
    held.release().await;
    assert_eq!(world.store.get_claim(&key("a")).await.expect("get"), None);
}
