//! Two schedulers on one store: one leads, both answer; when the leader ends or cannot be sure of
//! its lease any more, the other goes on with the live runs.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::Duration;

use flyball_core::status::{Phase, Progress, Reason};
use flyball_proto::v1::loops_client::LoopsClient;
use support::{
    Scheduler, Worker, apply, leads, live, manifest, outcome, register, shared_store, until,
    until_leading,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standby_takes_over_with_live_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, store) = shared_store().await;
    let one = Scheduler::start(store.clone(), &dir.path().join("one.sock")).await;
    until_leading(&one).await;
    let two = Scheduler::start(store, &dir.path().join("two.sock")).await;
    assert!(!leads(&two).await);

    let mut worker = Worker::attach(&one, register("n1", "i1")).await;
    let refused = Worker::try_attach(&two, register("n2", "i2")).await.err().unwrap();
    assert_eq!(refused.reason, "not-leader");
    assert!(refused.leader.ends_with("one.sock"), "{refused:?}");

    // A scheduler that does not lead takes submissions, and shows what the leader does with them.
    let mut client = LoopsClient::new(two.connect().await);
    apply(&mut client, &manifest("a", &["gpu:x/1"])).await;
    let run = worker.assigned().await;
    assert_eq!(worker.update(&run, &Progress::default()).await, "");
    until(&mut client, "a", |status| status.is_some_and(|s| s.phase == Phase::Running)).await;

    let lease_id = worker.registered.lease_id;
    one.stop().await;
    until_leading(&two).await;
    let again =
        flyball_proto::v1::Register { lease_id, runs: vec![live(&run)], ..register("n1", "i1") };
    let mut worker = Worker::attach(&two, again).await;
    assert_eq!(worker.ended(&run, &outcome(Phase::Converged, Reason::None)).await, "");
    let status = until(&mut client, "a", |s| s.is_some_and(|s| s.phase.is_terminal())).await;
    assert_eq!(status.unwrap().runs, 1, "the run was adopted, not started again");
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_key_is_gone_stops_leading() {
    let dir = tempfile::tempdir().unwrap();
    let (server, store) = shared_store().await;
    let one = Scheduler::start(store.clone(), &dir.path().join("one.sock")).await;
    until_leading(&one).await;
    let mut worker = Worker::attach(&one, register("n1", "i1")).await;
    // Its lease ends early, as leases sometimes do; another scheduler is faster.
    let direct = flyball_store::Store::from_channel(server.channel()).await.unwrap();
    let held = direct.leader().await.unwrap().unwrap();
    direct.revoke(held.lease).await.unwrap();
    let rival = flyball_store::LeaderRecord { id: "rival".to_owned(), address: String::new() };
    let ttl = Duration::from_secs(2);
    let campaign = direct.campaign(&rival, ttl).await.unwrap();

    let mut client = LoopsClient::new(one.connect().await);
    apply(&mut client, &manifest("a", &["gpu:x/1"])).await;
    if matches!(campaign, flyball_store::Campaign::Won(_)) {
        // What the deposed leader decided is refused by the fence; it notices and lets go.
        match worker.next().await {
            flyball_proto::v1::scheduler_message::Message::Refused(refused) => {
                assert_eq!(refused.reason, "not-leader");
            }
            other => panic!("a deposed leader assigned: {other:?}"),
        }
    }
    // The rival never renews: the first one leads again, and the loop is placed.
    let lease_id = worker.registered.lease_id;
    let again = flyball_proto::v1::Register { lease_id, ..register("n1", "i1") };
    until_leading(&one).await;
    let mut worker = Worker::attach(&one, again).await;
    let run = worker.assigned().await;
    assert_eq!(run.name, "a");
    one.stop().await;
}
