//! The services around the spine: TCP with a token, watching, events, logs, nodes, claims, health.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::Duration;

use flyball_core::status::{Phase, Progress, Reason};
use flyball_proto::transport::{self, Credential};
use flyball_proto::v1::events_client::EventsClient;
use flyball_proto::v1::logs_client::LogsClient;
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::nodes_client::NodesClient;
use flyball_proto::v1::scheduler_message::Message;
use flyball_proto::v1::server_client::ServerClient;
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_proto::v1::{
    HeartbeatRequest, InfoRequest, ListClaimsRequest, ListEventsRequest, ListNodesRequest,
    LogChunk, MarkNodeRequest, NodeMark, ReadLogsRequest, WatchLoopsRequest,
};
use flyball_scheduler::{Config, Listen, RunError, StoreChoice};
use flyball_store::Store;
use support::{PATIENCE, Scheduler, Worker, apply, manifest, outcome, register, until};

async fn started(dir: &tempfile::TempDir) -> Scheduler {
    Scheduler::start(StoreChoice::Memory, &dir.path().join("s.sock")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_needs_the_token() {
    let listen =
        Listen::Tcp { addr: "127.0.0.1:0".parse().unwrap(), token: "open sesame".to_owned() };
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(flyball_scheduler::run(
        Config::new(StoreChoice::Memory, vec![listen]),
        async move { drop(stopped.await) },
        move |bound| drop(ready.send(bound)),
    ));
    let bound = tokio::time::timeout(PATIENCE, is_ready).await.unwrap().unwrap();
    let address = bound.addresses[0].parse().unwrap();
    for (token, allowed) in [(None, false), (Some("open"), false), (Some("open sesame"), true)] {
        let credential = token.map_or(Credential::none(), |t| Credential::bearer(t).unwrap());
        let connection = transport::connect(&address, credential).await.unwrap();
        let info = ServerClient::new(connection).info(InfoRequest {}).await;
        assert_eq!(info.is_ok(), allowed, "{token:?}");
        if let Err(status) = info {
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
        }
    }
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn there_is_no_anonymous_mode() {
    let listen = Listen::Tcp { addr: "127.0.0.1:0".parse().unwrap(), token: String::new() };
    for listen in [vec![listen], Vec::new()] {
        let config = Config::new(StoreChoice::Memory, listen);
        let error = flyball_scheduler::run(config, std::future::ready(()), |_| {}).await;
        assert!(matches!(error, Err(RunError::Config(_))), "{error:?}");
    }
}

/// An answer that was kept from an earlier renewal would leave the lease as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_is_answered_with_its_own_renewal() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = dir.path().join("etcd.sock");
    let choice =
        StoreChoice::Embedded { dir: dir.path().join("store"), socket: Some(etcd.clone()) };
    let scheduler = Scheduler::start_with(choice, &dir.path().join("s.sock"), |config| {
        config.session_ttl = Some(Duration::from_secs(60));
    })
    .await;
    let worker = Worker::attach(&scheduler, register("n1", "i1")).await;
    let lease_id = worker.registered.lease_id;
    let store = Store::connect(&[format!("unix://{}", etcd.display())]).await.unwrap();
    let left = async || store.time_to_live(lease_id).await.unwrap().unwrap();
    let mut client = SessionsClient::new(scheduler.connect().await);
    let request = HeartbeatRequest {
        node: "n1".to_owned(),
        incarnation: "i1".to_owned(),
        lease_id,
        token_mark: 0,
    };
    let granted = client.heartbeat(request.clone()).await.unwrap().into_inner().ttl_seconds;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while left().await.as_secs() + 2 > granted.unsigned_abs() {
        assert!(tokio::time::Instant::now() < deadline, "the lease does not run down");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = left().await;
    client.heartbeat(request).await.unwrap();
    let after = left().await;
    assert!(after > before, "answered without a renewal: {before:?} left, then {after:?}");
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_what_is_there_and_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let scheduler = started(&dir).await;
    let mut client = LoopsClient::new(scheduler.connect().await);
    apply(&mut client, &manifest("a", &[])).await;
    let mut watch = client.watch(WatchLoopsRequest::default()).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.object.unwrap().name, "a");
    assert!(watch.message().await.unwrap().unwrap().synced);

    apply(&mut client, &manifest("b", &[])).await;
    let mut worker = Worker::attach(&scheduler, register("n1", "i1")).await;
    let run = worker.assigned().await;
    assert_eq!(worker.ended(&run, &outcome(Phase::Converged, Reason::None)).await, "");
    let mut seen = Vec::new();
    while !seen.contains(&"a Converged".to_owned()) || !seen.iter().any(|s| s.starts_with("b ")) {
        let change = tokio::time::timeout(PATIENCE, watch.message()).await.unwrap();
        let object = change.unwrap().unwrap().object.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&object.object_json).unwrap();
        seen.push(format!("{} {}", object.name, json["status"]["phase"].as_str().unwrap()));
    }
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_nodes_claims_and_marks_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let scheduler = started(&dir).await;
    let mut worker = Worker::attach(&scheduler, register("n1", "i1")).await;
    let mut client = LoopsClient::new(scheduler.connect().await);
    apply(&mut client, &manifest("a", &["gpu:x/1"])).await;
    let run = worker.assigned().await;
    assert_eq!(worker.update(&run, &Progress::default()).await, "");

    let claims = client.list_claims(ListClaimsRequest::default()).await.unwrap().into_inner();
    assert_eq!(claims.claims.len(), 1);
    assert_eq!(claims.claims[0].token, run.token);
    assert!(claims.claims[0].lease_ttl_seconds > 0);

    let mut nodes = NodesClient::new(scheduler.connect().await);
    let mark = MarkNodeRequest {
        name: "n1".to_owned(),
        mark: NodeMark::Draining.into(),
        reason: "upgrade".to_owned(),
        by: "me".to_owned(),
        deadline_ms: None,
    };
    nodes.mark(mark).await.unwrap();
    match worker.next().await {
        Message::StopRun(stop) => assert_eq!(stop.reason, "drain"),
        other => panic!("{other:?}"),
    }
    let listed = nodes.list(ListNodesRequest {}).await.unwrap().into_inner().nodes;
    let node: serde_json::Value = serde_json::from_slice(&listed[0].object_json).unwrap();
    assert_eq!(node["node"]["mark"], "Draining");
    assert_eq!(node["status"]["online"], true);
    assert_eq!(node["status"]["runs"][0], "default/a");

    let mut events = EventsClient::new(scheduler.connect().await);
    let request = ListEventsRequest { follow: true, ..ListEventsRequest::default() };
    let mut events = events.list(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while !seen.contains(&"Running".to_owned()) {
        let event = tokio::time::timeout(PATIENCE, events.message()).await.unwrap();
        seen.push(event.unwrap().unwrap().reason);
    }
    assert!(seen.contains(&"Assigned".to_owned()), "{seen:?}");
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_comes_from_the_node_that_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let scheduler = started(&dir).await;
    let mut worker = Worker::attach(&scheduler, register("n1", "i1")).await;
    let mut client = LoopsClient::new(scheduler.connect().await);
    apply(&mut client, &manifest("a", &[])).await;
    let run = worker.assigned().await;

    let mut logs = LogsClient::new(scheduler.connect().await);
    let request = ReadLogsRequest { r#loop: "a".to_owned(), ..ReadLogsRequest::default() };
    let mut stream = logs.read(request.clone()).await.unwrap().into_inner();
    let asked = match worker.next().await {
        Message::LogRequest(asked) => asked,
        other => panic!("{other:?}"),
    };
    assert_eq!(asked.uid, run.uid);
    let chunk = |data: &'static [u8], end| LogChunk {
        request: asked.request,
        stream: "agent".to_owned(),
        data: data.into(),
        iteration: 1,
        end,
        error: String::new(),
        token: run.token,
    };
    // The run that has the loop is meant; what another one has left there is not passed on.
    assert_eq!(asked.token, Some(run.token));
    worker.log(chunk(b"hello ", false)).await;
    worker.log(LogChunk { token: run.token - 1, ..chunk(b"a lost run's ", false) }).await;
    worker.log(chunk(b"world", true)).await;
    let mut text = Vec::new();
    while let Some(data) = stream.message().await.unwrap() {
        text.extend_from_slice(&data.data);
    }
    assert_eq!(text, b"hello world");

    // A client that goes away stops the worker.
    let stream = logs.read(request.clone()).await.unwrap();
    assert!(matches!(worker.next().await, Message::LogRequest(asked) if !asked.stop));
    drop(stream);
    assert!(matches!(worker.next().await, Message::LogRequest(asked) if asked.stop));

    drop(worker);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let error = loop {
        match logs.read(request.clone()).await {
            Err(error) => break error,
            Ok(_) => assert!(tokio::time::Instant::now() < deadline, "the node is still there"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(error.code(), tonic::Code::Unavailable);
    assert!(error.message().contains("n1") && error.message().contains("away since"), "{error}");
    until(&mut client, "a", |status| status.is_some()).await;
    scheduler.stop().await;
}
