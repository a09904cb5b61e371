//! The spine, over real sockets and a store, with a worker played by the test: apply, assignment,
//! progress, end; waiting for owned resources; restart of the scheduler with live runs.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use flyball_core::status::{Phase, Progress, Reason};
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::scheduler_message::Message;
use flyball_proto::v1::{CancelLoopRequest, DeleteLoopRequest, GetLoopRequest, ReadLogsRequest};
use support::{Scheduler, TestStore, Worker, apply, live, manifest, outcome, register, until};

fn phase_is(wanted: Phase) -> impl Fn(Option<&flyball_core::status::LoopStatus>) -> bool {
    move |status| status.is_some_and(|status| status.phase == wanted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_goes_from_apply_to_converged() {
    let dir = tempfile::tempdir().unwrap();
    let store = TestStore::open(dir.path());
    let scheduler = Scheduler::start(store.choice.clone(), &dir.path().join("s.sock")).await;
    let mut worker = Worker::attach(&scheduler, register("n1", "i1")).await;
    assert!(worker.registered.lease_id != 0 && worker.registered.ttl_seconds > 0);
    let mut client = LoopsClient::new(scheduler.connect().await);

    let wanted = manifest("a", &["gpu:x/1"]);
    assert_eq!(apply(&mut client, &wanted).await.outcome, "created");
    let run = worker.assigned().await;
    assert_eq!(run.name, "a");
    assert!(run.token > 0);
    assert_eq!(apply(&mut client, &wanted).await.outcome, "unchanged");

    let progress = Progress { iterations: 1, ..Progress::default() };
    assert_eq!(worker.update(&run, &progress).await, "");
    let status = until(&mut client, "a", phase_is(Phase::Running)).await.unwrap();
    assert_eq!(status.progress.iterations, 1);

    // A second loop that overlaps waits, and is told for whom.
    apply(&mut client, &manifest("b", &["gpu:x/*"])).await;
    let request = GetLoopRequest { namespace: String::new(), name: "b".to_owned() };
    let told = client.explain(request).await.unwrap().into_inner();
    assert!(told.findings.iter().any(|line| line.contains("default/a")), "{told:?}");

    assert_eq!(worker.ended(&run, &outcome(Phase::Converged, Reason::None)).await, "");
    until(&mut client, "a", phase_is(Phase::Converged)).await;
    let next = worker.assigned().await;
    assert_eq!(next.name, "b");
    assert!(next.token > run.token);
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_ends_and_a_deleted_loop_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = TestStore::open(dir.path());
    let scheduler = Scheduler::start(store.choice.clone(), &dir.path().join("s.sock")).await;
    let mut worker = Worker::attach(&scheduler, register("n1", "i1")).await;
    let mut client = LoopsClient::new(scheduler.connect().await);
    apply(&mut client, &manifest("a", &[])).await;
    let run = worker.assigned().await;
    let request = CancelLoopRequest {
        namespace: String::new(),
        name: "a".to_owned(),
        reason: "enough".to_owned(),
    };
    client.cancel(request).await.unwrap();
    match worker.next().await {
        Message::StopRun(stop) => assert_eq!((stop.token, &*stop.reason), (run.token, "cancel")),
        other => panic!("{other:?}"),
    }
    assert_eq!(worker.ended(&run, &outcome(Phase::Cancelled, Reason::ByUser)).await, "");
    until(&mut client, "a", phase_is(Phase::Cancelled)).await;
    let request = DeleteLoopRequest { namespace: String::new(), name: "a".to_owned() };
    client.delete(request).await.unwrap();
    until(&mut client, "a", |status| status.is_none()).await;
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_scheduler_adopts_live_runs() {
    let dir = tempfile::tempdir().unwrap();
    let store = TestStore::open(dir.path());
    let socket = dir.path().join("s.sock");
    let scheduler = Scheduler::start(store.choice.clone(), &socket).await;
    let mut worker = Worker::attach(&scheduler, register("n1", "i1")).await;
    let mut client = LoopsClient::new(scheduler.connect().await);
    apply(&mut client, &manifest("a", &["gpu:x/1"])).await;
    let run = worker.assigned().await;
    assert_eq!(worker.update(&run, &Progress::default()).await, "");
    let lease_id = worker.registered.lease_id;
    scheduler.stop().await;

    let scheduler = Scheduler::start(store.choice.clone(), &socket).await;
    let again =
        flyball_proto::v1::Register { lease_id, runs: vec![live(&run)], ..register("n1", "i1") };
    let mut worker = Worker::attach(&scheduler, again).await;
    // Not sent again: the first thing it hears is the answer to its own report.
    assert_eq!(worker.ended(&run, &outcome(Phase::Converged, Reason::None)).await, "");
    let mut client = LoopsClient::new(scheduler.connect().await);
    until(&mut client, "a", phase_is(Phase::Converged)).await;
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_incarnation_is_refused_unless_it_replaces_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = TestStore::open(dir.path());
    let scheduler = Scheduler::start(store.choice.clone(), &dir.path().join("s.sock")).await;
    let mut worker = Worker::attach(&scheduler, register("n1", "i1")).await;
    let mut client = LoopsClient::new(scheduler.connect().await);
    apply(&mut client, &manifest("a", &["gpu:x/1"])).await;
    let first = worker.assigned().await;

    let refused = Worker::try_attach(&scheduler, register("n1", "i2")).await.err().unwrap();
    assert_eq!(refused.reason, "duplicate");
    let again = flyball_proto::v1::Register { replaces: "i1".to_owned(), ..register("n1", "i2") };
    let mut worker = Worker::attach(&scheduler, again).await;
    let second = worker.assigned().await;
    assert_eq!(second.uid, first.uid);
    assert!(second.token > first.token);
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_told_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let store = TestStore::open(dir.path());
    let scheduler = Scheduler::start(store.choice.clone(), &dir.path().join("s.sock")).await;
    let mut client = LoopsClient::new(scheduler.connect().await);
    let mut wrong = manifest("a", &["gpu:x/1", "gpu:x/*"]);
    wrong["spec"]["gaol"] = "typo".into();
    let error = support::try_apply(&mut client, &wrong).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(!error.details().is_empty(), "field violations travel in the details");

    let mut large = manifest("a", &[]);
    large["spec"]["goal"] = "x".repeat(300 * 1024).into();
    let error = support::try_apply(&mut client, &large).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("bytes"), "{error}");

    let missing = GetLoopRequest { namespace: String::new(), name: "nope".to_owned() };
    let error = client.get(missing).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::NotFound);
    let mut logs = flyball_proto::v1::logs_client::LogsClient::new(scheduler.connect().await);
    apply(&mut client, &manifest("b", &[])).await;
    let request = ReadLogsRequest { r#loop: "b".to_owned(), ..ReadLogsRequest::default() };
    let error = logs.read(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
    scheduler.stop().await;
}
