//! A lease is renewed for nobody but the incarnation that it was granted to, by every scheduler.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use flyball_proto::v1::HeartbeatRequest;
use flyball_proto::v1::sessions_client::SessionsClient;
use support::{Scheduler, TestStore, Worker, register};
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
