//! Nodes whose leases go on and which have no session with the leader: one that a stand-by hears keeps what it has,
//! and the lease of one that no scheduler hears is ended.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::Duration;

use flyball_proto::v1::HeartbeatRequest;
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_store::{Change, KeepAlive, Store, WatchItem, WatchStream};
use support::{PATIENCE, Scheduler, Worker, register, shared_store, until_leading};

/// Short, and still longer than a busy machine holds a heartbeat up.
const TTL: Duration = Duration::from_secs(3);
const BEAT: Duration = Duration::from_millis(300);

async fn with_short_leases(
    store: flyball_scheduler::StoreChoice,
    at: &std::path::Path,
) -> Scheduler {
    Scheduler::start_with(store, at, |config| config.session_ttl = Some(TTL)).await
}

/// The next time that the question about a node is put or taken away: whether it stands.
async fn question(watch: &mut WatchStream) -> bool {
    let found = async {
        loop {
            let WatchItem::Changes { changes, .. } = watch.next().await else { continue };
            for change in changes {
                match change {
                    Change::Probe(_, question) => return question.is_some(),
                    Change::Session(_, None) => panic!("the node's session is gone"),
                    _ => {}
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_only_a_standby_hears_keeps_its_lease() {
    let dir = tempfile::tempdir().unwrap();
    let (server, store) = shared_store().await;
    let one = with_short_leases(store.clone(), &dir.path().join("one.sock")).await;
    until_leading(&one).await;
    let two = with_short_leases(store, &dir.path().join("two.sock")).await;
    let lease_id = Worker::attach(&one, register("n1", "i1")).await.registered.lease_id;
    let direct = Store::from_channel(server.channel()).await.unwrap();
    let mut watch = direct.watch(direct.revision().await.unwrap() + 1);
    let mut client = SessionsClient::new(two.connect().await);
    let beats = tokio::spawn(async move {
        let (node, incarnation) = ("n1".to_owned(), "i1".to_owned());
        let request = HeartbeatRequest { node, incarnation, lease_id, token_mark: 0 };
        loop {
            client.heartbeat(request.clone()).await.unwrap();
            tokio::time::sleep(BEAT).await;
        }
    });
    // The leader asks, and is answered before it would end the lease; then it asks again.
    for stands in [true, false, true, false] {
        assert_eq!(question(&mut watch).await, stands);
    }
    assert!(!beats.is_finished(), "a heartbeat was refused");
    beats.abort();
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_of_a_node_that_no_scheduler_hears_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (server, store) = shared_store().await;
    let one = with_short_leases(store, &dir.path().join("one.sock")).await;
    until_leading(&one).await;
    let lease_id = Worker::attach(&one, register("n1", "i1")).await.registered.lease_id;
    let direct = Store::from_channel(server.channel()).await.unwrap();
    // What a new leader of etcd does to every lease, which no worker asked for.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while direct.keep_alive(lease_id).await.unwrap() != KeepAlive::Lost {
        assert!(tokio::time::Instant::now() < deadline, "its lease goes on");
        tokio::time::sleep(BEAT).await;
    }
    // Its session is gone with it, so the next life has the name at once.
    let next = Worker::attach(&one, register("n1", "i2")).await;
    assert_ne!(next.registered.lease_id, lease_id);
    one.stop().await;
}
