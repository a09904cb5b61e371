//! One watch stream: its requests, its watches, what is to be sent next. It is a plain stream that
//! whoever reads the responses polls; no task of its own.

use super::watcher::{Batch, Watcher};
use crate::error::{STOPPED, status};
use crate::shared::{News, Shared};
use etcd_client::proto::{PbWatchRequest, PbWatchRequestUnion, PbWatchResponse};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Status, Streaming};

/// Watches on one stream. etcd has no bound; this one is far above what one process needs and
/// keeps a broken client from growing the server without end.
const WATCHES_MAX: usize = 4096;

/// Answers that may wait to be read before further requests of the client are looked at.
const PENDING_MAX: usize = 64;

/// The id that stands for no particular watch, as etcd has it.
const NO_WATCH: i64 = -1;

/// The smallest key; a watch without a key starts there.
const SMALLEST_KEY: &[u8] = &[0];

/// The responses of one stream.
pub(crate) struct Session {
    shared: Arc<Shared>,
    requests: Option<Streaming<PbWatchRequest>>,
    news: BroadcastStream<News>,
    watches: BTreeMap<i64, Watcher>,
    /// The watch whose turn it is to read, so that a busy one cannot starve the others.
    turn: i64,
    next_id: i64,
    pending: VecDeque<PbWatchResponse>,
    /// Progress answers that wait until every watch has read what was published.
    progress_asked: u32,
    progress_timer: Pin<Box<Sleep>>,
    ended: bool,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, requests: Streaming<PbWatchRequest>) -> Self {
        let news = BroadcastStream::new(shared.news());
        let progress_timer = Box::pin(tokio::time::sleep(shared.progress_interval));
        Self {
            shared,
            requests: Some(requests),
            news,
            watches: BTreeMap::new(),
            turn: i64::MIN,
            next_id: 0,
            pending: VecDeque::new(),
            progress_asked: 0,
            progress_timer,
            ended: false,
        }
    }

    /// Carries out a request; its answer is pending afterwards.
    pub(super) fn on_request(&mut self, request: PbWatchRequest) -> Result<(), Status> {
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(create)) => {
                let key = match create.key.is_empty() {
                    true => SMALLEST_KEY.to_vec(),
                    false => create.key,
                };
                self.on_create(Watcher {
                    id: create.watch_id,
                    key,
                    range_end: create.range_end,
                    filters: create.filters,
                    prev_kv: create.prev_kv,
                    progress_notify: create.progress_notify,
                    next: create.start_revision,
                    active: false,
                })
            }
            Some(PbWatchRequestUnion::CancelRequest(cancel)) => {
                if self.watches.remove(&cancel.watch_id).is_some() {
                    let revision = self.shared.read().map_err(status)?.published;
                    self.push(revision, cancel.watch_id, |response| response.canceled = true);
                }
                Ok(())
            }
            Some(PbWatchRequestUnion::ProgressRequest(_)) => {
                self.progress_asked = self.progress_asked.saturating_add(1);
                Ok(())
            }
            // etcd ignores what it does not know.
            None => Ok(()),
        }
    }

    fn on_create(&mut self, mut watcher: Watcher) -> Result<(), Status> {
        let state = self.shared.read().map_err(status)?;
        let (published, compacted) = (state.published, state.compacted);
        drop(state);
        let end = &watcher.range_end;
        let refused = if !end.is_empty() && end[..] != [0] && watcher.key >= *end {
            Some("mvcc: watcher range is empty")
        } else if watcher.id != 0 && self.watches.contains_key(&watcher.id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream")
        } else if self.watches.len() >= WATCHES_MAX {
            Some("flyball: too many watches on one stream")
        } else {
            None
        };
        if let Some(reason) = refused {
            self.push(published, NO_WATCH, |response| {
                (response.created, response.canceled) = (true, true);
                response.cancel_reason = reason.to_owned();
            });
            return Ok(());
        }
        if watcher.id == 0 {
            while self.watches.contains_key(&self.next_id) {
                self.next_id += 1;
            }
            watcher.id = self.next_id;
            self.next_id += 1;
        }
        let id = watcher.id;
        self.push(published, id, |response| response.created = true);
        if watcher.next <= 0 {
            watcher.next = published + 1;
        }
        if watcher.next < compacted {
            self.cancel_compacted(id, compacted);
        } else {
            // Nothing happened in revision 1, which an empty store has.
            watcher.next = watcher.next.max(2);
            self.watches.insert(id, watcher);
        }
        Ok(())
    }

    fn cancel_compacted(&mut self, id: i64, compacted: i64) {
        // etcd leaves the revision of this header at 0.
        self.push(0, id, |response| {
            response.canceled = true;
            response.compact_revision = compacted;
        });
    }

    fn push(&mut self, revision: i64, watch_id: i64, fill: impl FnOnce(&mut PbWatchResponse)) {
        let header = self.shared.header(revision);
        let mut response = PbWatchResponse { header, watch_id, ..Default::default() };
        fill(&mut response);
        self.pending.push_back(response);
    }

    /// Lets the next watch that has something to tell read one message. False if none had.
    fn read_on(&mut self) -> Result<bool, Status> {
        let shared = Arc::clone(&self.shared);
        let state = shared.read().map_err(status)?;
        let after = self.watches.range(self.turn..).map(|(id, _)| *id);
        let before = self.watches.range(..self.turn).map(|(id, _)| *id);
        let order: Vec<i64> = after.chain(before).collect();
        for id in order {
            let Some(watcher) = self.watches.get_mut(&id) else { continue };
            match watcher.read(&state) {
                Batch::Nothing => continue,
                Batch::Events(revision, events) => {
                    watcher.active = true;
                    self.push(revision, id, |response| response.events = events);
                }
                Batch::Compacted => {
                    self.watches.remove(&id);
                    self.cancel_compacted(id, state.compacted);
                }
            }
            self.turn = id.saturating_add(1);
            return Ok(true);
        }
        // Everything is read, so progress may be claimed for all of it.
        for _ in 0..std::mem::take(&mut self.progress_asked) {
            self.push(state.published, NO_WATCH, |_| {});
        }
        Ok(!self.pending.is_empty())
    }

    /// Tells the watches that want it and were silent since the last time how far they are.
    fn on_progress_time(&mut self) -> Result<(), Status> {
        let published = self.shared.read().map_err(status)?.published;
        let mut silent = Vec::new();
        for watcher in self.watches.values_mut().filter(|watcher| watcher.progress_notify) {
            if !std::mem::take(&mut watcher.active) && watcher.next <= published + 1 {
                silent.push(watcher.id);
            }
        }
        for id in silent {
            self.push(published, id, |_| {});
        }
        Ok(())
    }

    /// Takes requests, as many as may wait. Ready if the stream is to end.
    fn poll_requests(&mut self, context: &mut Context<'_>) -> Result<bool, Status> {
        while self.pending.len() < PENDING_MAX {
            let Some(requests) = &mut self.requests else { return Ok(false) };
            match Pin::new(requests).poll_next(context) {
                Poll::Ready(Some(Ok(request))) => self.on_request(request)?,
                // The client has gone.
                Poll::Ready(Some(Err(error))) => return Err(error),
                Poll::Ready(None) => return Ok(true),
                Poll::Pending => return Ok(false),
            }
        }
        Ok(false)
    }

    fn poll_inner(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<PbWatchResponse, Status>>> {
        loop {
            if let Some(response) = self.pending.pop_front() {
                return Poll::Ready(Some(Ok(response)));
            }
            match self.poll_requests(context) {
                // etcd too ends a stream whose client has closed its side.
                Ok(true) => return Poll::Ready(None),
                Ok(false) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            // Drain the news first, read after: what is published later wakes us again.
            let mut stopped = false;
            while let Poll::Ready(news) = Pin::new(&mut self.news).poll_next(context) {
                // Falling behind loses only what is older than the last one.
                if news.is_none_or(|news| matches!(news, Ok(News::Stopped))) {
                    stopped = true;
                    break;
                }
            }
            if stopped {
                return Poll::Ready(Some(Err(status(STOPPED))));
            }
            match self.read_on() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if !self.pending.is_empty() {
                continue;
            }
            if self.progress_timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let again = tokio::time::Instant::now() + self.shared.progress_interval;
            self.progress_timer.as_mut().reset(again);
            if let Err(error) = self.on_progress_time() {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl Stream for Session {
    type Item = Result<PbWatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let outcome = self.poll_inner(context);
        self.ended = matches!(outcome, Poll::Ready(None | Some(Err(_))));
        outcome
    }
}
