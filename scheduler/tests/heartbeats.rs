//! A lease is renewed for nobody but the incarnation that it was granted to, by every scheduler.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use flyball_embedded::{Options, Server};
use flyball_proto::v1::HeartbeatRequest;
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_scheduler::StoreChoice;
use flyball_store::{EventRecord, Store};
use support::{PATIENCE, Scheduler, TestStore, Worker, register};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;

async fn beat(scheduler: &Scheduler, who: (&str, &str), lease: i64) -> Result<i64, Code> {
    beat_with(scheduler, who, lease, 0).await
}

async fn beat_with(
    scheduler: &Scheduler,
    (node, life): (&str, &str),
    lease_id: i64,
    token_mark: i64,
) -> Result<i64, Code> {
    let mut client = SessionsClient::new(scheduler.connect().await);
    let (node, incarnation) = (node.to_owned(), life.to_owned());
    let answer =
        client.heartbeat(HeartbeatRequest { node, incarnation, lease_id, token_mark }).await;
    answer.map(|answer| answer.into_inner().ttl_seconds).map_err(|status| status.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_incarnation_that_a_lease_was_granted_to_renews_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = TestStore::open(dir.path());
    let scheduler = Scheduler::start(store.choice.clone(), &dir.path().join("s.sock")).await;
    let one = Worker::attach(&scheduler, register("n1", "i1")).await.registered.lease_id;
    let two = Worker::attach(&scheduler, register("n2", "i2")).await.registered.lease_id;

    for (who, lease) in [(("n1", "i1"), one), (("n2", "i2"), two)] {
        assert!(beat(&scheduler, who, lease).await.unwrap() > 0);
    }
    // Another's lease: not renewed, and not called lost either, since that is for the store to say.
    for (who, lease) in
        [(("n1", "i1"), two), (("n1", "i2"), one), (("n2", "i1"), one), (("n9", "i9"), one)]
    {
        assert_eq!(beat(&scheduler, who, lease).await, Err(Code::FailedPrecondition), "{who:?}");
    }
    assert_eq!(beat(&scheduler, ("n1", "i1"), one + 77).await, Err(Code::NotFound));

    // The next incarnation has the node; the first one's lease was ended for it.
    let next = flyball_proto::v1::Register { replaces: "i1".to_owned(), ..register("n1", "i3") };
    let next = Worker::attach(&scheduler, next).await.registered.lease_id;
    assert_eq!(beat(&scheduler, ("n1", "i1"), one).await, Err(Code::NotFound));
    assert_eq!(beat(&scheduler, ("n1", "i1"), next).await, Err(Code::FailedPrecondition));
    assert!(beat(&scheduler, ("n1", "i3"), next).await.unwrap() > 0);
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_renewed_for_a_node_that_knows_more_than_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = TestStore::open(dir.path());
    let scheduler = Scheduler::start(store.choice.clone(), &dir.path().join("s.sock")).await;
    let lease = Worker::attach(&scheduler, register("n1", "i1")).await.registered.lease_id;
    let beat = |mark| beat_with(&scheduler, ("n1", "i1"), lease, mark);
    assert!(beat(1).await.unwrap() > 0);
    // Unknown, not lost: one member may lag behind, and the worker's deadline decides.
    assert_eq!(beat(1_000_000).await, Err(Code::Unavailable));
    assert!(beat(1).await.unwrap() > 0);
    scheduler.stop().await;
}

/// Serves a store at an address until the runtime that it is served by ends, with all its connections.
async fn serve(server: &Server, at: SocketAddr) -> (Runtime, SocketAddr) {
    let listener = TcpListener::bind(at).await.unwrap();
    let at = listener.local_addr().unwrap();
    let listener = listener.into_std().unwrap();
    let serving = tonic::transport::Server::builder().add_routes(server.routes());
    let runtime = Runtime::new().unwrap();
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        serving.serve_with_incoming(TcpListenerStream::new(listener)).await
    });
    (runtime, at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_had_reached_does_not_count_once_it_is_behind() {
    let dir = tempfile::tempdir().unwrap();
    let before = Server::open(Options::in_memory()).unwrap();
    let (running, at) = serve(&before, SocketAddr::from(([127, 0, 0, 1], 0))).await;
    let store = StoreChoice::Etcd { endpoints: vec![format!("http://{at}")], identity: None };
    let scheduler = Scheduler::start(store, &dir.path().join("s.sock")).await;
    let lease = Worker::attach(&scheduler, register("n1", "i1")).await.registered.lease_id;
    // The store, and the scheduler's view of it, get well past the node's token.
    let direct = Store::from_channel(before.channel()).await.unwrap();
    for number in 0..150 {
        direct.put_events(vec![event(number)]).await.unwrap();
    }
    let mark = 100;
    assert!(beat_with(&scheduler, ("n1", "i1"), lease, mark).await.unwrap() > 0);
    // It is replaced by one from an old state, here the first one, under the scheduler.
    end(running).await;
    let after = Server::open(Options::in_memory()).unwrap();
    let (running, _) = serve(&after, at).await;
    // Until the scheduler has noticed, it is the lease that is not there.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (node, incarnation) = ("n1".to_owned(), "i1".to_owned());
        let request = HeartbeatRequest { node, incarnation, lease_id: lease, token_mark: mark };
        let mut client = SessionsClient::new(scheduler.connect().await);
        let refused = client.heartbeat(request).await.unwrap_err();
        if refused.message().contains("was given token 100, and the store is at revision") {
            assert_eq!(refused.code(), Code::Unavailable);
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "it was reached once: {refused}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scheduler.stop().await;
    end(running).await;
}

/// Ends what a runtime serves, with all its connections.
async fn end(runtime: Runtime) {
    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.unwrap();
}

fn event(number: u32) -> EventRecord {
    EventRecord {
        at: jiff::Timestamp::now(),
        namespace: String::new(),
        name: String::new(),
        reason: "Passed".to_owned(),
        message: number.to_string(),
        node: String::new(),
    }
}
