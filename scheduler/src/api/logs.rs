//! The service `Logs`: output of agents and checks, streamed on demand from the node that ran the
//! iteration, through its session. Nothing of it is kept here.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use flyball_core::ids::NodeName;
use flyball_proto::v1::logs_server::Logs;
use flyball_proto::v1::{LogChunk, LogData, LogRequest, ReadLogsRequest};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::apply::key_of;
use super::error::{no_loop, status};
use crate::reactor::{LoopView, SessionId};
use crate::shell::outbox::Outboxes;

/// Chunks on their way to one client (64 KiB each as workers send them). A client that does not read
/// loses its stream rather than hold up the node's session.
const OUTBOX_MAX: usize = 256;

/// Most log streams at a time; each may keep [`OUTBOX_MAX`] chunks in memory.
const STREAMS_MAX: usize = 64;

struct Open {
    session: SessionId,
    sender: mpsc::Sender<Result<LogData, Status>>,
}

/// Who waits for which answer.
#[derive(Clone, Default)]
pub(crate) struct LogRouter(Arc<Mutex<BTreeMap<u64, Open>>>);

impl LogRouter {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        // Every change is one call, so a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A chunk from a worker; one that another node was asked for is dropped.
    pub(super) fn on_chunk(&self, session: SessionId, chunk: LogChunk) {
        let mut open = self.lock();
        let asked = open.get(&chunk.request).filter(|stream| stream.session == session);
        let Some(stream) = asked else { return };
        let (name, data, iteration) = (chunk.stream, chunk.data, chunk.iteration);
        let mut alive = true;
        if !data.is_empty() {
            let data = LogData { stream: name, data, iteration };
            alive = stream.sender.try_send(Ok(data)).is_ok();
        }
        if chunk.end && !chunk.error.is_empty() {
            let error = status(Code::NotFound, "NO_OUTPUT", chunk.error);
            // The client is gone or slow; its stream ends either way.
            let _ = stream.sender.try_send(Err(error));
        }
        if chunk.end || !alive {
            open.remove(&chunk.request);
        }
    }

    /// A worker's stream has ended: so do the log streams through it.
    pub(super) fn on_detached(&self, session: SessionId) {
        self.lock().retain(|_, open| {
            if open.session == session {
                let message = "the node went away while it sent its output";
                let error = status(Code::Unavailable, "NODE_AWAY", message);
                let _ = open.sender.try_send(Err(error));
            }
            open.session != session
        });
    }
}

#[tonic::async_trait]
impl Logs for Api {
    type ReadStream = LogStream;

    async fn read(
        &self,
        request: Request<ReadLogsRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let key = key_of(&request.namespace, &request.r#loop)?;
        let wanted = key.clone();
        let view = self.core.ask(move |reactor, _| reactor.loop_view(&wanted)).await?;
        let view = view.ok_or_else(|| no_loop(&key))?;
        let node = node_of(&view, request.iteration)?;
        let session = self.session_of(&node).await?;
        let number = self.about.number();
        let (sender, receiver) = mpsc::channel(OUTBOX_MAX);
        {
            let mut open = self.logs.lock();
            if open.len() >= STREAMS_MAX {
                let message = format!("{STREAMS_MAX} log streams are open; close one");
                return Err(status(Code::ResourceExhausted, "TOO_MANY_STREAMS", message));
            }
            open.insert(number, Open { session, sender });
        }
        let ask = LogRequest {
            request: number,
            uid: view.record.uid.to_string(),
            iteration: request.iteration,
            stream: request.stream,
            follow: request.follow,
            tail_bytes: request.tail_bytes,
            stop: false,
        };
        if !self.outboxes.request_log(session, ask.clone()) {
            self.logs.lock().remove(&number);
            return Err(away(&node, "just now"));
        }
        Ok(Response::new(LogStream {
            chunks: ReceiverStream::new(receiver),
            logs: self.logs.clone(),
            outboxes: self.outboxes.clone(),
            session,
            ask,
        }))
    }
}

impl Api {
    async fn session_of(&self, node: &NodeName) -> Result<SessionId, Status> {
        let wanted = node.clone();
        let (session, leads, leader, seen) = self
            .core
            .ask(move |reactor, _| {
                let seen = reactor.node_status(&wanted).and_then(|node| node.record.seen_at);
                let leader = reactor.leader().map(|leader| leader.address.clone());
                (reactor.session_of(&wanted), reactor.is_leading(), leader, seen)
            })
            .await?;
        match session {
            Some(session) => Ok(session),
            None if !leads => {
                let leader = leader.unwrap_or_else(|| "unknown".to_owned());
                let message = format!("output comes through the leader; ask it at {leader}");
                Err(status(Code::Unavailable, "NOT_LEADER", message))
            }
            None => {
                let since =
                    seen.map_or_else(|| "it was never seen".to_owned(), |at| at.to_string());
                Err(away(node, &since))
            }
        }
    }
}

/// A client's stream of output; when it is dropped, the worker is told to stop.
pub(crate) struct LogStream {
    chunks: ReceiverStream<Result<LogData, Status>>,
    logs: LogRouter,
    outboxes: Outboxes,
    session: SessionId,
    ask: LogRequest,
}

impl Stream for LogStream {
    type Item = Result<LogData, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.chunks).poll_next(cx)
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        if self.logs.lock().remove(&self.ask.request).is_some() {
            let stop = LogRequest { stop: true, ..self.ask.clone() };
            self.outboxes.request_log(self.session, stop);
        }
    }
}

/// The node that ran the iteration; for the newest, the one that has the loop or had it last.
fn node_of(view: &LoopView, iteration: u32) -> Result<NodeName, Status> {
    let status_ = &view.status;
    let ran = status_.progress.recent.iter().find(|summary| summary.number == iteration);
    let node = ran.map(|summary| summary.node.clone()).or_else(|| status_.node.clone());
    node.ok_or_else(|| {
        let message = format!("loop {} has not run yet", view.record.key);
        status(Code::FailedPrecondition, "NOT_RUN_YET", message)
    })
}

fn away(node: &NodeName, since: &str) -> Status {
    let message = format!("node {node}, which has the output, is away since {since}");
    status(Code::Unavailable, "NODE_AWAY", message)
}
