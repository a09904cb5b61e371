//! Workers that run nothing: they hold sessions, take what is assigned, say that it runs, and count
//! what they are told to stop or to start again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_core::node::NodeFacts;
use flyball_proto::transport::{self, Address, Connection, Credential};
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_proto::v1::{
    Assign, HeartbeatRequest, LiveRun, NodeMessage, Register, node_message, scheduler_message,
};
use flyball_tests::talk;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Pause between two heartbeats of a node, and between two tries to reach the scheduler.
const BEAT: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(20);

/// What all nodes have seen together.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Sessions that are up.
    pub(crate) attached: AtomicUsize,
    /// Runs that were said to go on, and are durable as such.
    pub(crate) running: AtomicUsize,
    /// Runs that were to be stopped.
    pub(crate) stopped: AtomicUsize,
    /// Assignments of a loop that ran already.
    pub(crate) repeated: AtomicUsize,
}

/// Token of every live run by the uid of its loop.
pub(crate) type Tokens = Arc<Mutex<BTreeMap<String, i64>>>;

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) slots: u32,
    pub(crate) address: Address,
    pub(crate) seen: Arc<Seen>,
    pub(crate) tokens: Tokens,
}

struct Life {
    node: Node,
    lease: i64,
    runs: BTreeMap<String, LiveRun>,
    sequence: u64,
}

impl Node {
    /// Keeps a session for as long as the process lives.
    pub(crate) async fn live(self) {
        let mut life = Life { node: self, lease: 0, runs: BTreeMap::new(), sequence: 0 };
        loop {
            if let Ok(connection) = transport::connect(&life.node.address, Credential::none()).await
            {
                life.session(connection).await;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl Life {
    fn register(&self) -> NodeMessage {
        let facts = NodeFacts { slots: self.node.slots, ..NodeFacts::default() };
        let register = Register {
            node: self.node.name.clone(),
            incarnation: format!("life-of-{}", self.node.name),
            facts_json: serde_json::to_vec(&facts).unwrap().into(),
            lease_id: self.lease,
            runs: self.runs.values().cloned().collect(),
            ..Register::default()
        };
        NodeMessage { message: Some(node_message::Message::Register(register)) }
    }

    async fn session(&mut self, connection: Connection) {
        let mut client = SessionsClient::new(connection);
        let (outbox, stream) = mpsc::channel(4096);
        outbox.send(self.register()).await.unwrap();
        let Ok(answer) = client.attach(ReceiverStream::new(stream)).await else { return };
        let mut inbound = answer.into_inner();
        let mut up = false;
        let mut beat = tokio::time::interval(BEAT);
        loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                _ = beat.tick() => {
                    if self.lease != 0 && client.heartbeat(self.heartbeat()).await.is_err() {
                        break;
                    }
                    continue;
                }
            };
            let Ok(Some(message)) = message else { break };
            match message.message {
                Some(scheduler_message::Message::Registered(registered)) => {
                    self.lease = registered.lease_id;
                    up = true;
                    self.node.seen.attached.fetch_add(1, Ordering::Relaxed);
                }
                Some(scheduler_message::Message::Assign(assign)) => {
                    self.assigned(assign, &outbox).await;
                }
                Some(scheduler_message::Message::Ack(_)) => {
                    self.node.seen.running.fetch_add(1, Ordering::Relaxed);
                }
                Some(scheduler_message::Message::StopRun(_)) => {
                    self.node.seen.stopped.fetch_add(1, Ordering::Relaxed);
                }
                Some(scheduler_message::Message::Refused(_)) => break,
                _ => {}
            }
        }
        if up {
            self.node.seen.attached.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn heartbeat(&self) -> HeartbeatRequest {
        talk::heartbeat(&self.node.name, format!("life-of-{}", self.node.name), self.lease)
    }

    async fn assigned(&mut self, assign: Assign, outbox: &mpsc::Sender<NodeMessage>) {
        let before = self.node.tokens.lock().unwrap().insert(assign.uid.clone(), assign.token);
        if before.is_some() {
            self.node.seen.repeated.fetch_add(1, Ordering::Relaxed);
        }
        self.sequence += 1;
        let (run, message) = talk::begun(assign, self.sequence);
        self.runs.insert(run.uid.clone(), run);
        // The session may have ended; then the next one tells of the run.
        let _ = outbox.send(message).await;
    }
}
