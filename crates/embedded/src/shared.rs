//! What the writer and all readers share: the state, who we are, and the news of commits.

use crate::engine::{Answer, Command, Request};
use crate::error::{Refusal, STOPPED, TOO_MANY_REQUESTS, status};
use crate::mvcc::State;
use etcd_client::proto::PbResponseHeader;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::{Notify, broadcast, oneshot};
use tonic::Status;

/// A message to the writer.
#[derive(Debug)]
pub(crate) enum ToWriter {
    Command(Box<Command>),
    Stop,
}

/// Shared by the writer thread and every service.
#[derive(Debug)]
pub(crate) struct Shared {
    state: RwLock<State>,
    /// Wakes in the order of waiting, which a `watch` channel does not: a simulation repeats it.
    news: broadcast::Sender<News>,
    writer: SyncSender<ToWriter>,
    /// Wakes a writer that is driven as a future; a thread does not listen.
    wake: Notify,
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) client_urls: Vec<String>,
    pub(crate) progress_interval: Duration,
    /// The store's file, if it is one.
    pub(crate) file: Option<PathBuf>,
}

/// Who a server is and what it tells of itself.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) member_id: u64,
    pub(crate) client_urls: Vec<String>,
    pub(crate) progress_interval: Duration,
    pub(crate) file: Option<PathBuf>,
}

/// What watches are woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Everything up to this revision is durable and may be seen.
    Published(i64),
    /// The server is gone.
    Stopped,
}

impl Shared {
    pub(crate) fn new(state: State, writer: SyncSender<ToWriter>, identity: Identity) -> Self {
        // Only the newest counts.
        let (news, _) = broadcast::channel(1);
        let state = RwLock::new(state);
        // A cluster of one: any fixed relation between the two ids will do.
        let cluster_id = identity.member_id.rotate_left(32);
        let Identity { member_id, client_urls, progress_interval, file } = identity;
        Self {
            state,
            news,
            writer,
            wake: Notify::new(),
            cluster_id,
            member_id,
            client_urls,
            progress_interval,
            file,
        }
    }

    /// The state for reading, unless the server has stopped.
    pub(crate) fn read(&self) -> Result<RwLockReadGuard<'_, State>, Refusal> {
        // Poison means that the writer died half way: nothing here can be trusted any more.
        let state = self.state.read().map_err(|_| STOPPED)?;
        if state.stopped { Err(STOPPED) } else { Ok(state) }
    }

    /// The state for the writer, unless the server has stopped.
    pub(crate) fn write(&self) -> Result<RwLockWriteGuard<'_, State>, Refusal> {
        let state = self.state.write().map_err(|_| STOPPED)?;
        if state.stopped { Err(STOPPED) } else { Ok(state) }
    }

    /// Lets everybody see what was applied.
    pub(crate) fn publish(&self) {
        let Ok(mut state) = self.write() else { return };
        if state.published == state.revision {
            return;
        }
        state.published = state.revision;
        let published = state.published;
        drop(state);
        // Nobody may be watching.
        let _unheard = self.news.send(News::Published(published));
    }

    /// Refuses everything from now on and ends all watches.
    pub(crate) fn stop(&self) {
        if let Ok(mut state) = self.state.write() {
            state.stopped = true;
        }
        let _unheard = self.news.send(News::Stopped);
    }

    /// A receiver that hears of every publication from now on (of several at once, the last one).
    pub(crate) fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Hands a request to the writer. The receiver gets the answer after it is durable.
    pub(crate) fn submit(
        &self,
        request: Request,
    ) -> Result<oneshot::Receiver<Result<Answer, Status>>, Status> {
        let (answer, answered) = oneshot::channel();
        let command = Box::new(Command { request, answer });
        match self.writer.try_send(ToWriter::Command(command)) {
            Ok(()) => {
                self.wake.notify_one();
                Ok(answered)
            }
            Err(TrySendError::Full(_)) => Err(status(TOO_MANY_REQUESTS)),
            Err(TrySendError::Disconnected(_)) => Err(status(STOPPED)),
        }
    }

    /// Hands a request to the writer and waits for the answer.
    pub(crate) async fn ask(&self, request: Request) -> Result<Answer, Status> {
        // A writer that ends drops what it did not answer.
        self.submit(request)?.await.unwrap_or_else(|_| Err(status(STOPPED)))
    }

    /// Asks the writer to end after what is already waiting. Blocks while its queue is full.
    pub(crate) fn send_stop(&self) {
        // It may have ended by itself.
        let _ended = self.writer.send(ToWriter::Stop);
        self.wake.notify_one();
    }

    /// Something was handed to the writer since the last call.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// A response header of this server.
    pub(crate) fn header(&self, revision: i64) -> Option<PbResponseHeader> {
        Some(PbResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            // There are no elections here; etcd starts counting terms at 1 too.
            raft_term: 1,
        })
    }

    /// Completes a header that carries the revision already.
    pub(crate) fn complete(&self, header: &mut Option<PbResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = self.header(revision);
    }
}
