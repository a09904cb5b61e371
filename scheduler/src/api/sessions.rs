//! The service `Sessions`: workers' streams. A stream is opened in the store first (its lease, its
//! session key), then told to the reactor; everything the worker says goes there as an event.

use std::time::Duration;

use flyball_core::ids::{Incarnation, LoopKey, NodeName, Token};
use flyball_core::lease::{TTL_SECONDS_DEFAULT, TTL_SECONDS_MAX, TTL_SECONDS_MIN};
use flyball_core::node::NodeFacts;
use flyball_proto::v1::node_message::Message;
use flyball_proto::v1::sessions_server::Sessions;
use flyball_proto::v1::{
    HeartbeatRequest, HeartbeatResponse, NodeMessage, Refused, Register, Registered,
    ReportGoneRequest, ReportGoneResponse, SchedulerMessage, scheduler_message,
};
use flyball_store::{Adopt, Leadership, OpenSession, Session, SessionRecord, Stored};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::error::{invalid_field, of_store};
use super::{Api, reports};
use crate::access::origin;
use crate::namesakes::Look;
use crate::reactor::{Attached, Event, LiveRun, SessionId};
use crate::shell::outbox::{OUTBOX_MAX, Outgoing};

/// Longest wait for a stream's first message.
const REGISTER_MAX: Duration = Duration::from_secs(5);

/// Longest wait of a registration for the next leader: below a worker's patience with its answer.
const ELECTION_MAX: Duration = Duration::from_secs(4);
/// Pause between two looks while nothing is heard of a new leader.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Most live runs in one registration; far above what one node can run.
const RUNS_MAX: usize = 4096;

#[tonic::async_trait]
impl Sessions for Api {
    type AttachStream = ReceiverStream<Outgoing>;

    async fn attach(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let from = origin(request.extensions());
        let inbound = request.into_inner();
        let (outbox, stream) = mpsc::channel(OUTBOX_MAX);
        let api = self.clone();
        tokio::spawn(async move { api.serve_session(inbound, outbox, from).await });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        self.renew(request.into_inner()).await
    }

    async fn report_gone(
        &self,
        request: Request<ReportGoneRequest>,
    ) -> Result<Response<ReportGoneResponse>, Status> {
        self.end_gone(request.into_inner()).await
    }
}

/// Why a registration is not accepted.
enum NotOpened {
    Refused {
        reason: &'static str,
        message: String,
    },
    /// Another incarnation has the name, until its lease ends.
    Taken {
        message: String,
        left: Duration,
    },
    Failed(Status),
}

impl From<Status> for NotOpened {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

impl Api {
    async fn serve_session(
        self,
        mut inbound: Streaming<NodeMessage>,
        outbox: mpsc::Sender<Outgoing>,
        from: String,
    ) {
        let register = match first(&mut inbound).await {
            Ok(register) => register,
            Err(status) => return answer(&outbox, Err(status)).await,
        };
        let node = register.node.clone();
        let session = match self.open(&register, &from).await {
            Ok(session) => session,
            Err(NotOpened::Failed(status)) => return answer(&outbox, Err(status)).await,
            Err(NotOpened::Refused { reason, message }) => {
                tracing::info!(%node, reason, %message, "a worker is refused");
                return answer(&outbox, Ok(self.refusal(reason, message, 0).await)).await;
            }
            Err(NotOpened::Taken { message, left }) => {
                let (reason, left) = ("duplicate", i64::try_from(left.as_secs()).unwrap_or(0));
                tracing::info!(%node, reason, left, %message, "a worker is refused");
                return answer(&outbox, Ok(self.refusal(reason, message, left).await)).await;
            }
        };
        let id = SessionId(self.about.number());
        let attached = match attached(id, register, &session) {
            Ok(attached) => attached,
            Err(status) => return answer(&outbox, Err(status)).await,
        };
        tracing::info!(%node, incarnation = %attached.incarnation, "a worker is attached");
        let registered = scheduler_message::Message::Registered(Registered {
            lease_id: session.lease,
            ttl_seconds: i64::try_from(session.ttl.as_secs()).unwrap_or(i64::MAX),
            installation: self.about.installation.to_string(),
        });
        answer(&outbox, Ok(SchedulerMessage { message: Some(registered) })).await;
        let removed = self.outboxes.add(id, outbox);
        if self.core.tell(Event::Attached(Box::new(attached))).await.is_ok() {
            // Ends when the worker or the scheduler ends the stream.
            tokio::select! {
                biased;
                () = self.receive(id, &mut inbound) => {}
                () = removed.cancelled() => {}
            }
        }
        self.outboxes.remove(id);
        self.logs.on_detached(id);
        // At shutdown nobody needs it.
        let _ = self.core.tell(Event::Detached { session: id }).await;
        tracing::info!(%node, "a worker is detached");
    }

    async fn refusal(&self, reason: &str, message: String, wait_seconds: i64) -> SchedulerMessage {
        let leader = self.core.ask(|reactor, _| {
            reactor.leader().map(|leader| leader.address.clone()).unwrap_or_default()
        });
        let leader = leader.await.unwrap_or_default();
        let refused = Refused { reason: reason.to_owned(), message, leader, wait_seconds };
        SchedulerMessage { message: Some(scheduler_message::Message::Refused(refused)) }
    }

    /// Grants or adopts the incarnation's lease and session key.
    async fn open(&self, register: &Register, from: &str) -> Result<Session, NotOpened> {
        if let Err(error) = flyball_core::ids::check_name(&register.node) {
            return Err(invalid_field("node", error.to_string()).into());
        }
        if register.incarnation.is_empty() || register.runs.len() > RUNS_MAX {
            let message = format!("needs an incarnation and at most {RUNS_MAX} runs");
            return Err(invalid_field("register", message).into());
        }
        let Some(leadership) = self.leadership_soon(&register.unusable).await else {
            let message = "this scheduler does not lead".to_owned();
            return Err(NotOpened::Refused { reason: "not-leader", message });
        };
        if let Some(message) = self.check_mark(register).await? {
            return Err(NotOpened::Refused { reason: "store-behind", message });
        }
        let node = NodeName(register.node.clone());
        let incarnation = Incarnation(register.incarnation.clone());
        if register.lease_id == 0 {
            let ttl = self.ttl_for(register.ttl_seconds)?;
            let replaces = (register.replaces.as_str(), from);
            self.open_new(&leadership, &node, &incarnation, replaces, ttl).await
        } else {
            self.adopt(&node, &incarnation, register.lease_id).await
        }
    }

    /// The time to live of a new lease: this scheduler's setting, else what the worker asks for, else
    /// the default.
    fn ttl_for(&self, asked_seconds: i64) -> Result<Duration, Status> {
        let asked = match asked_seconds {
            0 => TTL_SECONDS_DEFAULT,
            TTL_SECONDS_MIN..=TTL_SECONDS_MAX => asked_seconds,
            other => {
                let message = format!("{other} is not in {TTL_SECONDS_MIN} to {TTL_SECONDS_MAX}");
                return Err(invalid_field("ttl_seconds", message));
            }
        };
        let asked = Duration::from_secs(asked.unsigned_abs());
        Ok(self.about.session_ttl.unwrap_or(asked))
    }

    /// This scheduler's leadership. While nobody leads whom the worker could use, the registration
    /// waits here for the next leader, so that it is found at once and not by asking around.
    async fn leadership_soon(&self, unusable: &str) -> Option<Leadership> {
        let deadline = Instant::now() + ELECTION_MAX;
        let mut leadership = self.leadership.clone();
        loop {
            let moved = self.leader_moved.notified();
            if let Some(leadership) = leadership.borrow_and_update().clone() {
                return Some(leadership);
            }
            let leader = self.core.ask(|reactor, _| reactor.leader().map(|l| l.address.clone()));
            let leader = leader.await.ok()?;
            let elsewhere = leader.is_some_and(|address| address != unusable);
            if elsewhere || Instant::now() >= deadline {
                return None;
            }
            tokio::select! {
                _ = leadership.changed() => {}
                () = moved => {}
                // The watch's news is told just before the view has it.
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = self.core.stopping() => return None,
            }
        }
    }

    async fn open_new(
        &self,
        leadership: &Leadership,
        node: &NodeName,
        incarnation: &Incarnation,
        (replaces, from): (&str, &str),
        ttl: Duration,
    ) -> Result<Session, NotOpened> {
        // Once more after the replaced incarnation has been ended.
        for _ in 0..2 {
            let opened = self
                .store
                .open_session(leadership, node, incarnation, ttl)
                .await
                .map_err(|error| NotOpened::Failed(of_store(&error)))?;
            let found = match opened {
                OpenSession::Opened(session) => {
                    self.doctor.namesakes.given(node, incarnation);
                    return Ok(session);
                }
                OpenSession::Fenced => {
                    let message = "this scheduler does not lead any more".to_owned();
                    return Err(NotOpened::Refused { reason: "not-leader", message });
                }
                OpenSession::Duplicate(found) => found,
            };
            if found.value.incarnation == *incarnation {
                // The answer to an earlier registration of this very incarnation was lost.
                return self.adopt(node, incarnation, found.value.lease).await;
            }
            if found.value.incarnation.as_str() != replaces {
                return Err(self.taken(&found, from).await?);
            }
            self.end_replaced(&found).await?;
        }
        let message = format!("node {node} keeps getting other sessions");
        Err(NotOpened::Taken { message, left: Duration::ZERO })
    }

    async fn taken(
        &self,
        found: &Stored<SessionRecord>,
        from: &str,
    ) -> Result<NotOpened, NotOpened> {
        let SessionRecord { node, incarnation, lease } = &found.value;
        let asked = Instant::now();
        let left = self.store.time_to_live(*lease).await;
        let left = left.map_err(|error| NotOpened::Failed(of_store(&error)))?.unwrap_or_default();
        let look = Look { asked, answered: Instant::now(), left };
        self.doctor.namesakes.refused(&found.value, look, from);
        let message = format!(
            "node {node} has a live session of incarnation {incarnation}; it ends with its lease"
        );
        Ok(NotOpened::Taken { message, left })
    }

    /// The earlier incarnation of this node is known to be gone with all of its processes, so its
    /// lease is ended at once.
    async fn end_replaced(&self, found: &Stored<SessionRecord>) -> Result<(), NotOpened> {
        let revoked = self.store.revoke(found.value.lease).await;
        revoked.map_err(|error| NotOpened::Failed(of_store(&error)))
    }

    async fn adopt(
        &self,
        node: &NodeName,
        incarnation: &Incarnation,
        lease: i64,
    ) -> Result<Session, NotOpened> {
        let adopted = self.store.adopt_session(node, incarnation, lease).await;
        match adopted.map_err(|error| NotOpened::Failed(of_store(&error)))? {
            Adopt::Alive(session) => Ok(session),
            Adopt::Lost => {
                let message = format!("lease {lease:x} of {incarnation} is gone");
                Err(NotOpened::Refused { reason: "lost", message })
            }
            Adopt::Replaced(found) => {
                let other = &found.value.incarnation;
                let message = format!("{incarnation} was replaced by {other}");
                Err(NotOpened::Refused { reason: "lost", message })
            }
        }
    }

    async fn receive(&self, session: SessionId, inbound: &mut Streaming<NodeMessage>) {
        loop {
            let message = match inbound.message().await {
                Ok(Some(message)) => message.message,
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(%status, "a worker's stream broke");
                    return;
                }
            };
            let report = |report| Event::Report(Box::new(report));
            let event = match message {
                Some(Message::RunUpdate(update)) => report(reports::of_update(session, update)),
                Some(Message::RunEnded(ended)) => report(reports::of_ended(session, ended)),
                Some(Message::Leaving(_)) => Event::Leaving { session },
                Some(Message::LogChunk(chunk)) => {
                    self.logs.on_chunk(session, chunk);
                    continue;
                }
                Some(Message::Register(_)) | None => continue,
            };
            if self.core.tell(event).await.is_err() {
                return;
            }
        }
    }
}

async fn first(inbound: &mut Streaming<NodeMessage>) -> Result<Register, Status> {
    let message = tokio::time::timeout(REGISTER_MAX, inbound.message()).await;
    let message = message.map_err(|_| Status::deadline_exceeded("no registration in time"))??;
    match message.and_then(|message| message.message) {
        Some(Message::Register(register)) => Ok(register),
        _ => Err(invalid_field("message", "the first message has to be Register")),
    }
}

async fn answer(outbox: &mpsc::Sender<Outgoing>, message: Outgoing) {
    // The worker may have gone away; its stream's end is noticed by whoever reads it.
    let _ = outbox.send(message).await;
}

fn attached(id: SessionId, register: Register, session: &Session) -> Result<Attached, Status> {
    let facts: NodeFacts = serde_json::from_slice(&register.facts_json)
        .map_err(|error| invalid_field("facts_json", format!("cannot be read: {error}")))?;
    let runs = register.runs.into_iter().map(|run| LiveRun {
        key: LoopKey::new(run.namespace, run.r#loop),
        uid: run.uid.into(),
        token: Token(run.token),
    });
    Ok(Attached {
        session: id,
        node: NodeName(register.node),
        incarnation: Incarnation(register.incarnation),
        lease: session.lease,
        session_revision: session.create_revision,
        facts,
        runs: runs.collect(),
    })
}
