//! One batch at a time: apply in memory, make durable, publish, answer. Single-threaded and
//! without any waiting of its own; the writer thread drives it.

use crate::error::{self, Refusal, STOPPED};
use crate::lease::{Lessor, Moment};
use crate::mvcc::{State, txn::Write};
use crate::options::{COMPACTION_STEPS, EXPIRIES_PER_BATCH_MAX, FOLDABLE_ROWS_MAX};
use crate::shared::Shared;
use crate::storage::{Commit, Storage};
use etcd_client::proto::{
    PbDeleteRequest, PbDeleteResponse, PbPutRequest, PbPutResponse, PbTxnRequest, PbTxnResponse,
};
use std::sync::Arc;
use tokio::sync::oneshot;
use tonic::Status;

/// What the writer can be asked. The shape of requests has been checked.
#[derive(Debug)]
pub(crate) enum Request {
    Put(PbPutRequest),
    Delete(PbDeleteRequest),
    Txn(PbTxnRequest),
    Compact(i64),
    Grant { id: i64, ttl_seconds: i64 },
    Revoke(i64),
    KeepAlive(i64),
    TimeToLive { id: i64, with_keys: bool },
    Leases,
}

/// What the writer answers, by the kind of request. `revision` is the newest one right after.
#[derive(Debug)]
pub(crate) enum Answer {
    Put(PbPutResponse),
    Delete(PbDeleteResponse),
    Txn(PbTxnResponse),
    Revision(i64),
    Granted { id: i64, ttl_seconds: i64, revision: i64 },
    Renewed { ttl_seconds: i64, revision: i64 },
    TimeToLive { found: Option<crate::lease::TimeToLive>, revision: i64 },
    Leases { ids: Vec<i64>, revision: i64 },
}

/// A request with the way back.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Result<Answer, Status>>,
}

type Reply = (oneshot::Sender<Result<Answer, Status>>, Result<Answer, Refusal>);

/// Bounds of history; see `Options`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryBounds {
    pub(crate) revisions_max: i64,
    pub(crate) bytes_max: usize,
}

/// The writer's side of a server.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) leases: Lessor,
    pub(crate) storage: Option<Storage>,
    pub(crate) history: HistoryBounds,
}

impl Engine {
    /// Ends what has run out by `now`, then carries out the commands in order, as one commit.
    /// False if the commit failed: the store is then stopped for good, since nobody can know what
    /// of it is on the disk until it is opened again.
    pub(crate) fn process(&mut self, commands: Vec<Command>, now: Moment) -> bool {
        let shared = Arc::clone(&self.shared);
        let Ok(mut state) = shared.write() else { return false };
        let (after, compacted) = (state.revision, state.compacted);
        self.expire(&mut state, now);
        let mut replies: Vec<Reply> = Vec::with_capacity(commands.len());
        for command in commands {
            let outcome = self.apply(&mut state, command.request, now);
            replies.push((command.answer, outcome));
        }
        self.bound_history(&mut state);
        drop(state);
        if let Err(error) = self.make_durable(after, compacted) {
            tracing::error!(%error, "the embedded store could not write and stops");
            shared.stop();
            for (answer, _) in replies {
                let _gone = answer.send(Err(error::status(STOPPED)));
            }
            return false;
        }
        shared.publish();
        for (answer, outcome) in replies {
            // The client may have gone away meanwhile; what it asked for is done all the same.
            let _gone = answer.send(outcome.map_err(error::status));
        }
        true
    }

    /// Work that can wait for a quiet moment. False if it failed.
    pub(crate) fn tidy(&mut self) -> bool {
        let Some(storage) = self.storage.as_mut().filter(|storage| storage.foldable() > 0) else {
            return true;
        };
        let outcome = storage.fold();
        if let Err(error) = &outcome {
            tracing::error!(%error, "the embedded store could not fold its log and stops");
            self.shared.stop();
        }
        outcome.is_ok()
    }

    /// Whether `tidy` has something to do.
    pub(crate) fn is_untidy(&self) -> bool {
        self.storage.as_ref().is_some_and(|storage| storage.foldable() > 0)
    }

    /// Whether so much is left to do that it can no longer wait for a quiet moment.
    pub(crate) fn is_overdue(&self) -> bool {
        self.storage.as_ref().is_some_and(|storage| storage.foldable() > FOLDABLE_ROWS_MAX)
    }

    fn make_durable(&mut self, after: i64, compacted: i64) -> Result<(), Box<redb::Error>> {
        let leases = self.leases.take_unsaved();
        let Some(storage) = &mut self.storage else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        let state = shared.read().map_err(|_| Box::new(redb::Error::DatabaseClosed))?;
        if state.revision == after && state.compacted == compacted && leases.is_empty() {
            return Ok(());
        }
        // Readers may go on meanwhile: they look at published revisions only.
        storage.commit(Commit { state: &state, after, leases })
    }

    fn expire(&mut self, state: &mut State, now: Moment) {
        for _ in 0..EXPIRIES_PER_BATCH_MAX {
            let Some(id) = self.leases.expired(now) else { break };
            // It was just found; and a lease without keys makes no revision.
            let _ended = self.revoke(state, id);
        }
    }

    fn revoke(&mut self, state: &mut State, id: i64) -> Result<i64, Refusal> {
        let keys = self.leases.revoke(id)?;
        let mut write = Write::begin(state, &mut self.leases);
        write.delete_keys(keys);
        Ok(write.finish())
    }

    fn apply(
        &mut self,
        state: &mut State,
        request: Request,
        now: Moment,
    ) -> Result<Answer, Refusal> {
        match request {
            Request::Put(request) => {
                let mut write = Write::begin(state, &mut self.leases);
                let answer = write.checked_put(request)?;
                write.finish();
                Ok(Answer::Put(answer))
            }
            Request::Delete(request) => {
                let mut write = Write::begin(state, &mut self.leases);
                let answer = write.delete_range(&request);
                write.finish();
                Ok(Answer::Delete(answer))
            }
            Request::Txn(request) => {
                let mut write = Write::begin(state, &mut self.leases);
                let answer = write.txn(request)?;
                write.finish();
                Ok(Answer::Txn(answer))
            }
            Request::Compact(at) => compact(state, at),
            request => self.apply_lease(state, &request, now),
        }
    }

    fn apply_lease(
        &mut self,
        state: &mut State,
        request: &Request,
        now: Moment,
    ) -> Result<Answer, Refusal> {
        let revision = state.revision;
        match *request {
            Request::Grant { id, ttl_seconds } => {
                let (id, ttl_seconds) = self.leases.grant(id, ttl_seconds, now)?;
                Ok(Answer::Granted { id, ttl_seconds, revision })
            }
            Request::Revoke(id) => self.revoke(state, id).map(Answer::Revision),
            Request::KeepAlive(id) => {
                let ttl_seconds = self.leases.renew(id, now).unwrap_or(0);
                Ok(Answer::Renewed { ttl_seconds, revision })
            }
            Request::TimeToLive { id, with_keys } => {
                let found = self.leases.time_to_live(id, with_keys, now);
                Ok(Answer::TimeToLive { found, revision })
            }
            _ => Ok(Answer::Leases { ids: self.leases.ids(), revision }),
        }
    }

    fn bound_history(&self, state: &mut State) {
        let oldest = state.compacted.max(state.log.first());
        let excess = state.revision - oldest - self.history.revisions_max;
        if excess > self.history.revisions_max / COMPACTION_STEPS {
            state.compact(oldest + excess);
        }
        if state.log.bytes() > self.history.bytes_max {
            // Half of the revisions is roughly half of the bytes; if not, the next batch goes on.
            let oldest = state.compacted.max(state.log.first());
            let half = oldest + (state.revision - oldest) / 2;
            if half > state.compacted {
                state.compact(half);
            }
        }
    }
}

fn compact(state: &mut State, at: i64) -> Result<Answer, Refusal> {
    if at <= state.compacted {
        return Err(error::COMPACTED);
    }
    if at > state.revision {
        return Err(error::FUTURE_REVISION);
    }
    state.compact(at);
    Ok(Answer::Revision(state.revision))
}
