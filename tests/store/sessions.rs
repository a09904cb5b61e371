//! Sessions and leases: one life of a node, its renewals and its end.

use std::time::Duration;

use flyball_store::{Adopt, Change, EndSession, KeepAlive, OpenSession, WatchItem};

use crate::on_both;
use crate::setup::{Server, TTL, World, assign, exclusive, lead};

on_both!(
    a_second_life_is_refused_until_the_first_is_ended,
    a_session_is_adopted_by_its_incarnation,
    only_its_own_life_ends_a_session,
    a_renewal_tells_alive_from_lost,
    everything_of_a_life_ends_with_its_lease,
    a_deposed_leader_opens_no_session,
    a_session_key_without_its_lease_shuts_nobody_out,
    a_leader_key_without_its_lease_shuts_nobody_out,
);

async fn a_second_life_is_refused_until_the_first_is_ended(server: Server) {
    let world = World::new(&server).await;
    let first = world.session("n1").await;
    let second = world
        .store
        .open_session(&world.leadership, &"n1".into(), &"n1-next".into(), TTL)
        .await
        .expect("open");
    let OpenSession::Duplicate(found) = second else { panic!("{second:?}") };
    assert_eq!((found.value.incarnation.as_str(), found.lease), ("n1-life", first.lease));
    world.store.revoke(found.lease).await.expect("revoke");
    world.store.revoke(found.lease).await.expect("revoking twice is no error");
    let next = world.session("n1").await;
    assert!(next.create_revision > first.create_revision);
}

async fn a_session_is_adopted_by_its_incarnation(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let (node, life) = (&"n1".into(), &"n1-life".into());
    let adopted = world.store.adopt_session(node, life, session.lease).await.expect("adopt");
    assert_eq!(adopted, Adopt::Alive(session.clone()));
    let other = world.store.adopt_session(node, &"x".into(), session.lease).await.expect("adopt");
    assert!(matches!(other, Adopt::Replaced(_)));
    let lease = world.store.adopt_session(node, life, session.lease + 1).await.expect("adopt");
    assert_eq!(lease, Adopt::Lost);
    world.store.revoke(session.lease).await.expect("revoke");
    let gone = world.store.adopt_session(node, life, session.lease).await.expect("adopt");
    assert_eq!(gone, Adopt::Lost);
}

async fn only_its_own_life_ends_a_session(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let end = async |node: &str, life: &str, lease| {
        world.store.end_session(&node.into(), &life.into(), lease).await.expect("end")
    };
    let lives = async |lease| world.store.time_to_live(lease).await.expect("ttl").is_some();
    for (life, lease) in [("n1-lies", session.lease), ("n1-life", session.lease + 1)] {
        let other = end("n1", life, lease).await;
        assert!(matches!(other, EndSession::Other(_)), "{other:?}");
    }
    assert_eq!(end("n2", "n1-life", session.lease).await, EndSession::Gone);
    assert!(lives(session.lease).await);
    assert_eq!(end("n1", "n1-life", session.lease).await, EndSession::Ended);
    assert!(!lives(session.lease).await);
    assert_eq!(end("n1", "n1-life", session.lease).await, EndSession::Gone);
    // A later life under the same name is not touched by what is said of the earlier one.
    let next = world.session("n1").await;
    let late = end("n1", "n1-life", session.lease).await;
    assert!(matches!(late, EndSession::Other(_)), "{late:?}");
    assert!(lives(next.lease).await);
}

async fn a_renewal_tells_alive_from_lost(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    assert_eq!(session.ttl, TTL);
    for _ in 0..3 {
        let renewed = world.store.keep_alive(session.lease).await.expect("renew");
        assert_eq!(renewed, KeepAlive::Renewed { ttl: TTL });
    }
    let left = world.store.time_to_live(session.lease).await.expect("ttl").expect("alive");
    assert!(left <= TTL && left > TTL / 2);
    let leads = world.store.renew_leadership(&world.leadership).await.expect("renew");
    assert_eq!(leads, KeepAlive::Renewed { ttl: TTL });
    world.store.revoke(session.lease).await.expect("revoke");
    let lost = world.store.keep_alive(session.lease).await.expect("renew");
    assert_eq!(lost, KeepAlive::Lost);
    assert_eq!(world.store.time_to_live(session.lease).await.expect("ttl"), None);
}

async fn everything_of_a_life_ends_with_its_lease(server: Server) {
    let world = World::new(&server).await;
    let ttl = Duration::from_secs(1);
    let opened =
        world.store.open_session(&world.leadership, &"n1".into(), &"n1-life".into(), ttl).await;
    let Ok(OpenSession::Opened(session)) = opened else { panic!("{opened:?}") };
    let revision = world.create("a").await;
    let owners = exclusive(&["git/r/x", "git/r/y"]);
    let token = world.committed(assign("a", "n1", &session, revision, owners)).await;
    // Nobody renews. The end is one revision: session, claim and owner keys.
    let mut watch = world.store.watch(token + 1);
    let ended = loop {
        match tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("no end") {
            WatchItem::Changes { changes, .. } => break changes,
            WatchItem::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ended.len(), 4, "{ended:?}");
    assert!(ended.iter().any(|change| matches!(change, Change::Session(_, None))));
    assert!(ended.iter().any(|change| matches!(change, Change::Claim(_, None))));
    let owners = ended.iter().filter(|change| matches!(change, Change::Owner(_, None)));
    assert_eq!(owners.count(), 2);
}

async fn a_deposed_leader_opens_no_session(server: Server) {
    let old = World::new(&server).await;
    old.store.revoke(old.leadership.lease).await.expect("revoke");
    let other = server.store().await;
    let new = World { leadership: lead(&other, "s2").await, store: other };
    let (node, life) = ("n1".into(), "late".into());
    let open = || old.store.open_session(&old.leadership, &node, &life, TTL);
    assert_eq!(open().await.expect("open"), OpenSession::Fenced);
    new.session("n1").await;
    assert_eq!(open().await.expect("open"), OpenSession::Fenced);
}

async fn a_session_key_without_its_lease_shuts_nobody_out(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let mut raw = server.raw().await;
    let key = "/flyball/v1/sessions/n1";
    let value = raw.get(key, None).await.expect("get").kvs()[0].value().to_vec();
    let open = || async {
        let (node, life) = ("n1".into(), "next".into());
        world.store.open_session(&world.leadership, &node, &life, TTL).await.expect("open")
    };
    // The key is permanent now, and its incarnation alive.
    raw.put(key, value, None).await.expect("put");
    assert!(matches!(open().await, OpenSession::Duplicate(_)));
    world.store.revoke(session.lease).await.expect("revoke");
    let OpenSession::Opened(next) = open().await else { panic!("not opened") };
    // Junk names nobody.
    raw.put(key, "junk", None).await.expect("put");
    let OpenSession::Opened(last) = open().await else { panic!("not opened") };
    assert!(last.create_revision > next.create_revision);
}

async fn a_leader_key_without_its_lease_shuts_nobody_out(server: Server) {
    let old = World::new(&server).await;
    let mut raw = server.raw().await;
    for value in ["junk", ""] {
        raw.put("/flyball/v1/leader", value, None).await.expect("put");
        let store = server.store().await;
        let leadership = lead(&store, "s2").await;
        let new = World { leadership, store };
        let (node, life) = ("n1".into(), "late".into());
        let late = old.store.open_session(&old.leadership, &node, &life, TTL).await;
        assert_eq!(late.expect("open"), OpenSession::Fenced);
        let session = new.session("n1").await;
        new.store.revoke(session.lease).await.expect("revoke");
    }
}
