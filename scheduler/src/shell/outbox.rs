//! Workers' outboxes: bounded, and a worker that does not read is dropped; it comes back with what
//! it runs, and is told again what it missed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flyball_proto::v1::{
    Ack, Assign, LogRequest, Refused, SchedulerMessage, StopRun, scheduler_message::Message,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::reactor::{Assignment, SessionId, ToNode};

/// Messages waiting for one worker: a few for every run it may have.
pub(crate) const OUTBOX_MAX: usize = 256;

/// What a worker's stream carries.
pub(crate) type Outgoing = Result<SchedulerMessage, Status>;

/// All outboxes of this process.
#[derive(Clone, Default)]
pub(crate) struct Outboxes(Arc<Mutex<BTreeMap<SessionId, Outbox>>>);

struct Outbox {
    sender: mpsc::Sender<Outgoing>,
    /// Cancelled when the scheduler is done with the stream.
    removed: CancellationToken,
}

impl Outboxes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Outbox>> {
        // Every change is one call, so a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a worker's stream; the token is cancelled when the scheduler is done with it.
    pub(crate) fn add(
        &self,
        session: SessionId,
        sender: mpsc::Sender<Outgoing>,
    ) -> CancellationToken {
        let removed = CancellationToken::new();
        let outbox = Outbox { sender, removed: removed.clone() };
        self.lock().insert(session, outbox);
        removed
    }

    /// Lets go of a worker's stream.
    pub(crate) fn remove(&self, session: SessionId) {
        if let Some(outbox) = self.lock().remove(&session) {
            outbox.removed.cancel();
        }
    }

    /// Sends without waiting; drops a worker whose outbox is full.
    pub(crate) fn send(&self, session: SessionId, message: ToNode) {
        self.push(session, wire(message));
    }

    /// Asks a worker for output of a run. False if it is not attached here.
    pub(crate) fn request_log(&self, session: SessionId, request: LogRequest) -> bool {
        self.push(session, Message::LogRequest(request))
    }

    fn push(&self, session: SessionId, message: Message) -> bool {
        let message = SchedulerMessage { message: Some(message) };
        {
            let outboxes = self.lock();
            let Some(outbox) = outboxes.get(&session) else { return false };
            if outbox.sender.try_send(Ok(message)).is_ok() {
                return true;
            }
        }
        tracing::warn!(session = session.0, "a worker does not read its stream; it is dropped");
        self.remove(session);
        false
    }

    /// Ends a worker's stream with a typed reason.
    pub(crate) fn close(&self, session: SessionId, reason: &str, message: String, leader: String) {
        let refused = Refused { reason: reason.to_owned(), message, leader, wait_seconds: 0 };
        self.push(session, Message::Refused(refused));
        self.remove(session);
    }
}

fn wire(message: ToNode) -> Message {
    match message {
        ToNode::Assign(assignment) => Message::Assign(assign(*assignment)),
        ToNode::Stop { uid, token, reason } => Message::StopRun(StopRun {
            uid: uid.0,
            token: token.0,
            reason: reason.as_str().to_owned(),
        }),
        ToNode::Ack { sequence, refused } => {
            Message::Ack(Ack { sequence, refused: refused.to_owned() })
        }
    }
}

fn assign(assignment: Assignment) -> Assign {
    Assign {
        namespace: assignment.key.namespace,
        name: assignment.key.name,
        uid: assignment.uid.0,
        generation: assignment.generation,
        token: assignment.token.0,
        attempt: assignment.attempt.0,
        spec_json: json(&assignment.spec),
        progress_json: json(&assignment.progress),
        unsealed_json: json(&assignment.unsealed),
        traceparent: assignment.traceparent,
        previous_node: assignment.previous_node,
    }
}

fn json<T: serde::Serialize>(value: &T) -> bytes::Bytes {
    // Plain data with text keys always serialises.
    serde_json::to_vec(value).unwrap_or_default().into()
}
