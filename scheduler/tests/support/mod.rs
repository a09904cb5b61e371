//! A scheduler on a socket of its own, and a worker that says what a test wants it to say.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod callers;
mod etcd;
mod standby;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flyball_core::node::{NodeFacts, Resources};
use flyball_core::quantity::{ByteSize, CpuMillis};
use flyball_core::status::{LoopStatus, Outcome, Phase, Progress, Reason};
use flyball_proto::transport::{self, Address, Connection, Credential};
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_proto::v1::{
    ApplyRequest, ApplyResponse, Assign, GetLoopRequest, LiveRun, LogChunk, NodeMessage, Refused,
    Register, Registered, RunEnded, RunUpdate, SchedulerMessage, node_message, scheduler_message,
};
use flyball_scheduler::{Config, Listen, RunError, StoreChoice};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

pub(crate) use callers::{As, Callers, ack, attach};
pub(crate) use etcd::TestStore;
pub(crate) use standby::{leads, shared_store, until_leading};

/// Longest wait for anything; far above what is needed on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running scheduler.
pub(crate) struct Scheduler {
    pub(crate) socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Scheduler {
    pub(crate) async fn start(store: StoreChoice, socket: &Path) -> Self {
        Self::start_with(store, socket, |_| {}).await
    }

    pub(crate) async fn start_with(
        store: StoreChoice,
        socket: &Path,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::new(store, vec![Listen::Unix(socket.to_owned())]);
        change(&mut config);
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let task = tokio::spawn(flyball_scheduler::run(
            config,
            async move {
                let _ = stopped.await;
            },
            move |bound| {
                let _ = ready.send(bound);
            },
        ));
        let started = tokio::time::timeout(PATIENCE, is_ready).await.unwrap();
        if started.is_err() {
            panic!("the scheduler did not start: {:?}", task.await);
        }
        Self { socket: socket.to_owned(), stop: Some(stop), task }
    }

    pub(crate) async fn connect(&self) -> Connection {
        let address = Address::Unix(self.socket.clone());
        transport::connect(&address, Credential::none()).await.unwrap()
    }

    pub(crate) async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}

/// A manifest without a workspace.
pub(crate) fn manifest(name: &str, owns: &[&str]) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "flyball.dev/v1",
        "kind": "Loop",
        "metadata": { "name": name },
        "spec": { "goal": "be done", "owns": owns, "checks": [{ "name": "ok", "run": "true" }] },
    })
}

pub(crate) async fn apply(
    client: &mut LoopsClient<Connection>,
    json: &serde_json::Value,
) -> ApplyResponse {
    try_apply(client, json).await.unwrap()
}

pub(crate) async fn try_apply(
    client: &mut LoopsClient<Connection>,
    json: &serde_json::Value,
) -> Result<ApplyResponse, tonic::Status> {
    let manifest_json = serde_json::to_vec(json).unwrap().into();
    let request = ApplyRequest { manifest_json, ..ApplyRequest::default() };
    client.apply(request).await.map(tonic::Response::into_inner)
}

/// Applies as whoever the client is.
pub(crate) async fn apply_as(client: &mut LoopsClient<As>, json: &serde_json::Value) {
    let manifest_json = json.to_string().into();
    client.apply(ApplyRequest { manifest_json, ..ApplyRequest::default() }).await.unwrap();
}

pub(crate) async fn status(client: &mut LoopsClient<Connection>, name: &str) -> Option<LoopStatus> {
    let request = GetLoopRequest { namespace: String::new(), name: name.to_owned() };
    let object = match client.get(request).await {
        Ok(object) => object.into_inner(),
        Err(status) if status.code() == tonic::Code::NotFound => return None,
        Err(status) => panic!("{status}"),
    };
    let document: serde_json::Value = serde_json::from_slice(&object.object_json).unwrap();
    Some(serde_json::from_value(document["status"].clone()).unwrap())
}

/// Polls until a loop's status is as wanted.
pub(crate) async fn until(
    client: &mut LoopsClient<Connection>,
    name: &str,
    wanted: impl Fn(Option<&LoopStatus>) -> bool,
) -> Option<LoopStatus> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = status(client, name).await;
        if wanted(found.as_ref()) {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{name} is still {found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn outcome(phase: Phase, reason: Reason) -> Outcome {
    let (message, evidence, retry_after_ms) = ("said so".to_owned(), Vec::new(), 0);
    Outcome { phase, reason, message, evidence, retry_after_ms, need: None }
}

/// A worker's half of a session.
pub(crate) struct Worker {
    pub(crate) registered: Registered,
    outbox: mpsc::Sender<NodeMessage>,
    inbound: Streaming<SchedulerMessage>,
    sequence: u64,
    /// What came while an acknowledgement was waited for.
    earlier: VecDeque<scheduler_message::Message>,
}

pub(crate) fn register(node: &str, incarnation: &str) -> Register {
    let facts = NodeFacts {
        labels: BTreeMap::new(),
        capacity: Resources {
            cpu: CpuMillis(4000),
            memory: ByteSize(1 << 30),
            disk: ByteSize(1 << 30),
            custom: BTreeMap::new(),
            ..Resources::default()
        },
        slots: 4,
        version: "test".to_owned(),
        abilities: None,
    };
    Register {
        node: node.to_owned(),
        incarnation: incarnation.to_owned(),
        facts_json: serde_json::to_vec(&facts).unwrap().into(),
        ..Register::default()
    }
}

impl Worker {
    /// Attaches until the scheduler leads, and panics if it refuses for another reason.
    pub(crate) async fn attach(scheduler: &Scheduler, register: Register) -> Self {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match Self::try_attach(scheduler, register.clone()).await {
                Ok(worker) => return worker,
                Err(refused) if refused.reason == "not-leader" => {}
                Err(refused) => panic!("refused: {refused:?}"),
            }
            assert!(tokio::time::Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn try_attach(
        scheduler: &Scheduler,
        register: Register,
    ) -> Result<Self, Refused> {
        let mut client = SessionsClient::new(scheduler.connect().await);
        let (outbox, stream) = mpsc::channel(16);
        let message = node_message::Message::Register(register);
        outbox.send(NodeMessage { message: Some(message) }).await.unwrap();
        let mut inbound = client.attach(ReceiverStream::new(stream)).await.unwrap().into_inner();
        match next(&mut inbound).await {
            scheduler_message::Message::Registered(registered) => {
                Ok(Self { registered, outbox, inbound, sequence: 0, earlier: VecDeque::new() })
            }
            scheduler_message::Message::Refused(refused) => Err(refused),
            other => panic!("unexpected first answer: {other:?}"),
        }
    }

    pub(crate) async fn next(&mut self) -> scheduler_message::Message {
        if let Some(message) = self.earlier.pop_front() {
            return message;
        }
        next(&mut self.inbound).await
    }

    pub(crate) async fn assigned(&mut self) -> Assign {
        match self.next().await {
            scheduler_message::Message::Assign(assign) => assign,
            other => panic!("expected an assignment, got {other:?}"),
        }
    }

    /// Reports progress and waits for the answer.
    pub(crate) async fn update(&mut self, run: &Assign, progress: &Progress) -> String {
        self.sequence += 1;
        let message = node_message::Message::RunUpdate(RunUpdate {
            sequence: self.sequence,
            namespace: run.namespace.clone(),
            r#loop: run.name.clone(),
            uid: run.uid.clone(),
            token: run.token,
            progress_json: serde_json::to_vec(progress).unwrap().into(),
            event: String::new(),
        });
        self.report(message).await
    }

    /// Reports the end of a run and waits for the answer.
    pub(crate) async fn ended(&mut self, run: &Assign, outcome: &Outcome) -> String {
        self.sequence += 1;
        let message = node_message::Message::RunEnded(RunEnded {
            sequence: self.sequence,
            namespace: run.namespace.clone(),
            r#loop: run.name.clone(),
            uid: run.uid.clone(),
            token: run.token,
            progress_json: serde_json::to_vec(&Progress::default()).unwrap().into(),
            outcome_json: serde_json::to_vec(outcome).unwrap().into(),
            stopped: true,
        });
        self.report(message).await
    }

    pub(crate) async fn log(&self, chunk: LogChunk) {
        let message = Some(node_message::Message::LogChunk(chunk));
        self.outbox.send(NodeMessage { message }).await.unwrap();
    }

    async fn report(&mut self, message: node_message::Message) -> String {
        self.outbox.send(NodeMessage { message: Some(message) }).await.unwrap();
        loop {
            match next(&mut self.inbound).await {
                scheduler_message::Message::Ack(ack) => {
                    assert_eq!(ack.sequence, self.sequence);
                    return ack.refused;
                }
                other => self.earlier.push_back(other),
            }
        }
    }
}

pub(crate) fn live(run: &Assign) -> LiveRun {
    LiveRun {
        namespace: run.namespace.clone(),
        r#loop: run.name.clone(),
        uid: run.uid.clone(),
        token: run.token,
    }
}

async fn next(inbound: &mut Streaming<SchedulerMessage>) -> scheduler_message::Message {
    let message = tokio::time::timeout(PATIENCE, inbound.message()).await.unwrap();
    message.unwrap().unwrap().message.unwrap()
}
