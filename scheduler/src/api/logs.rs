//! The service `Logs`: output of agents and checks, streamed on demand from the node that ran the
//! iteration, through its session. Nothing of it is kept here.
//!
//! An iteration that a lost run had begun is begun again by the next one, maybe on the same node, so output is
//! asked for by the run's token, and what comes back with another one is not passed on.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use flyball_core::ids::{NodeName, Token};
use flyball_core::status::LoopStatus;
use flyball_proto::v1::logs_server::Logs;
use flyball_proto::v1::{LogChunk, LogData, LogRequest, ReadLogsRequest};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::apply::key_of;
use super::error::{invalid_field, no_loop, status};
use crate::reactor::SessionId;
use crate::shell::outbox::Outboxes;

/// Chunks on their way to one client (64 KiB each as workers send them). A client that does not read
/// loses its stream rather than hold up the node's session.
const OUTBOX_MAX: usize = 256;

/// Most log streams at a time; each may keep [`OUTBOX_MAX`] chunks in memory.
const STREAMS_MAX: usize = 64;

struct Open {
    session: SessionId,
    /// The run that was asked for; without one, whichever the node takes to be meant: the first that it sends of.
    token: Option<i64>,
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

    /// A chunk from a worker. One that another node was asked for is dropped, and so is one of another run than was
    /// asked for: a lost run's output never passes for the current one's.
    pub(super) fn on_chunk(&self, session: SessionId, chunk: LogChunk) {
        let mut open = self.lock();
        let asked = open.get_mut(&chunk.request).filter(|stream| stream.session == session);
        let Some(stream) = asked else { return };
        let LogChunk { stream: name, data, iteration, token, .. } = chunk;
        let mut goes_on = true;
        if !data.is_empty() {
            let asked = *stream.token.get_or_insert(token);
            let told = match token {
                _ if token == asked => Some(Ok(LogData { stream: name, data, iteration, token })),
                0 => {
                    goes_on = false;
                    Some(Err(unknown_run()))
                }
                _ => None,
            };
            goes_on &= told.is_none_or(|told| stream.sender.try_send(told).is_ok());
        }
        if chunk.end && !chunk.error.is_empty() {
            let error = status(Code::NotFound, "NO_OUTPUT", chunk.error);
            // The client is gone or slow; its stream ends either way.
            let _ = stream.sender.try_send(Err(error));
        }
        if chunk.end || !goes_on {
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
        let look = self
            .core
            .ask(move |reactor, _| (reactor.loop_view(&wanted), reactor.claim_view(&wanted)));
        let (view, claim) = look.await?;
        let view = view.ok_or_else(|| no_loop(&key))?;
        let run = claim.filter(|claim| claim.claim.uid == view.record.uid);
        let run = run.map(|claim| (claim.claim.node, claim.token));
        let Asked { node, token } = asked(&view.status, run, &request)?;
        let not_run = || {
            let message = format!("loop {key} has not run yet");
            status(Code::FailedPrecondition, "NOT_RUN_YET", message)
        };
        let node = node.ok_or_else(not_run)?;
        let session = self.session_of(&node).await?;
        let number = self.about.number();
        let (sender, receiver) = mpsc::channel(OUTBOX_MAX);
        {
            let mut open = self.logs.lock();
            if open.len() >= STREAMS_MAX {
                let message = format!("{STREAMS_MAX} log streams are open; close one");
                return Err(status(Code::ResourceExhausted, "TOO_MANY_STREAMS", message));
            }
            open.insert(number, Open { session, token, sender });
        }
        let ask = LogRequest {
            request: number,
            uid: view.record.uid.to_string(),
            iteration: request.iteration,
            stream: request.stream,
            follow: request.follow,
            tail_bytes: request.tail_bytes,
            stop: false,
            token,
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

/// Whose output is meant, and where it is.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// None if nobody has run the loop yet.
    node: Option<NodeName>,
    /// None: the newest run of that node, or the one that it knows to have finished the iteration.
    token: Option<i64>,
}

/// Of an iteration that is over, the run that the status names for it; of the newest and of one that is under way,
/// the run that has the loop now. Where nobody has it, the newest is that of the run that had it last.
fn asked(
    status_: &LoopStatus,
    run: Option<(NodeName, Token)>,
    request: &ReadLogsRequest,
) -> Result<Asked, Status> {
    let recent = &status_.progress.recent;
    let ran = recent.iter().rfind(|summary| summary.number == request.iteration);
    let last = status_.node.clone();
    if let Some(token) = request.token {
        let named = Some(NodeName(request.node.clone())).filter(|node| !node.as_str().is_empty());
        let did = recent.iter().rfind(|summary| summary.token.0 == token && token != 0);
        let did = did.or_else(|| ran.filter(|_| token == 0)).map(|summary| summary.node.clone());
        let has = run.filter(|(_, has)| has.0 == token).map(|(node, _)| node);
        return Ok(Asked { node: named.or(did).or(has).or(last), token: Some(token) });
    }
    if !request.node.is_empty() {
        return Err(invalid_field("node", "needs the token of a run"));
    }
    let under_way = request.iteration == 0 || request.iteration > status_.progress.iterations;
    Ok(match (ran, run) {
        (Some(ran), _) => {
            // Summaries of the first versions have no token.
            let token = Some(ran.token).filter(|token| *token != Token::default());
            Asked { node: Some(ran.node.clone()), token: token.map(|token| token.0) }
        }
        (None, Some((node, token))) if under_way => {
            Asked { node: Some(node), token: Some(token.0) }
        }
        // Older than what the status tells of: the node knows which of its runs finished it.
        (None, _) => Asked { node: last, token: None },
    })
}

/// A node of an earlier version, which may have sent what a lost run wrote.
fn unknown_run() -> Status {
    let message = "the node is of a version that does not say which run wrote its output; \
                   --token 0 shows it, whichever run's it is";
    status(Code::Unimplemented, "RUN_NOT_KNOWN", message)
}

fn away(node: &NodeName, since: &str) -> Status {
    let message = format!("node {node}, which has the output, is away since {since}");
    status(Code::Unavailable, "NODE_AWAY", message)
}

#[cfg(test)]
mod tests {
    use flyball_core::status::IterationSummary;

    use super::*;

    fn opened(token: Option<i64>) -> (LogRouter, mpsc::Receiver<Result<LogData, Status>>) {
        let (router, (sender, receiver)) = (LogRouter::default(), mpsc::channel(8));
        router.lock().insert(1, Open { session: SessionId(5), token, sender });
        (router, receiver)
    }

    fn chunk(token: i64, text: &'static str) -> LogChunk {
        LogChunk { request: 1, data: text.as_bytes().into(), token, ..LogChunk::default() }
    }

    /// What a client is told, in order.
    fn told(receiver: &mut mpsc::Receiver<Result<LogData, Status>>) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(one) = receiver.try_recv() {
            told.push(match one {
                Ok(data) => format!("{} {}", data.token, String::from_utf8_lossy(&data.data)),
                Err(status) => format!("{:?}", status.code()),
            });
        }
        told
    }

    #[test]
    fn chunks_of_another_run_or_session_are_dropped() {
        let (router, mut receiver) = opened(Some(12));
        router.on_chunk(SessionId(5), chunk(12, "new"));
        router.on_chunk(SessionId(5), chunk(7, "lost"));
        router.on_chunk(SessionId(4), chunk(12, "of an earlier session"));
        router.on_chunk(SessionId(5), chunk(13, "newer"));
        router.on_chunk(SessionId(5), chunk(12, "end"));
        assert_eq!(told(&mut receiver), ["12 new", "12 end"]);
        router.on_chunk(SessionId(5), LogChunk { end: true, ..chunk(7, "lost") });
        assert_eq!((told(&mut receiver), router.lock().len()), (Vec::new(), 0));
    }

    #[test]
    fn output_of_no_known_run_has_to_be_asked_for() {
        let (router, mut receiver) = opened(Some(12));
        router.on_chunk(SessionId(5), chunk(0, "whose?"));
        router.on_chunk(SessionId(5), chunk(0, "whose?"));
        assert_eq!(told(&mut receiver), ["Unimplemented"]);
        for asked in [None, Some(0)] {
            let (router, mut receiver) = opened(asked);
            router.on_chunk(SessionId(5), chunk(0, "whose?"));
            assert_eq!(told(&mut receiver), ["0 whose?"]);
        }
        // One stream is of one run, whoever chose it.
        let (router, mut receiver) = opened(None);
        router.on_chunk(SessionId(5), chunk(12, "new"));
        router.on_chunk(SessionId(5), chunk(7, "lost"));
        assert_eq!(told(&mut receiver), ["12 new"]);
    }

    #[test]
    fn the_status_says_whose_output_is_meant() {
        let summary = |number, token, node: &str| IterationSummary {
            number,
            token: Token(token),
            node: node.into(),
            ..IterationSummary::default()
        };
        let mut status_ = LoopStatus { node: Some("n2".into()), ..LoopStatus::default() };
        status_.progress.iterations = 3;
        status_.progress.recent = vec![summary(2, 7, "n1"), summary(3, 12, "n2")];
        let now = Some(("n2", 15));
        let whose = |run: Option<(&str, i64)>, iteration, token, node: &str| {
            let (node, run) = (node.to_owned(), run.map(|(at, token)| (at.into(), Token(token))));
            let request = ReadLogsRequest { iteration, token, node, ..ReadLogsRequest::default() };
            let asked = asked(&status_, run, &request).unwrap();
            (asked.node.unwrap().to_string(), asked.token)
        };
        let at = |node: &str, token| (node.to_owned(), token);
        // Over: who is in the status, whoever has the loop now.
        assert_eq!(whose(now, 2, None, ""), at("n1", Some(7)));
        assert_eq!(whose(now, 3, None, ""), at("n2", Some(12)));
        // Under way.
        assert_eq!(whose(now, 4, None, ""), at("n2", Some(15)));
        assert_eq!(whose(now, 0, None, ""), at("n2", Some(15)));
        // Older than the status knows, and without anybody at work.
        assert_eq!(whose(now, 1, None, ""), at("n2", None));
        assert_eq!(whose(None, 0, None, ""), at("n2", None));
        // By token: where that run was, as far as known.
        assert_eq!(whose(now, 4, Some(7), ""), at("n1", Some(7)));
        assert_eq!(whose(Some(("n3", 15)), 4, Some(15), ""), at("n3", Some(15)));
        assert_eq!(whose(now, 4, Some(9), ""), at("n2", Some(9)));
        assert_eq!(whose(now, 4, Some(9), "n4"), at("n4", Some(9)));
        assert_eq!(whose(now, 2, Some(0), ""), at("n1", Some(0)));
        let request = ReadLogsRequest { node: "n1".to_owned(), ..ReadLogsRequest::default() };
        assert_eq!(asked(&status_, None, &request).unwrap_err().code(), Code::InvalidArgument);
        let nobody = asked(&LoopStatus::default(), None, &ReadLogsRequest::default()).unwrap();
        assert_eq!(nobody, Asked { node: None, token: None });
    }
}
