//! The feeder: lists the whole state when it is asked to, then watches on from there.

use std::sync::Arc;
use std::time::Duration;

use flyball_store::{Change, Snapshot, Store, StoreError, WatchItem};
use tokio::sync::{Notify, mpsc, oneshot};

use super::core::{Handle, Stopped};
use super::known::Observer;
use crate::reactor::Event;

/// Pauses between tries to list.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Tries after which an answer that is too old is not a member's that lags, but the store's: about
/// five seconds.
const BEHIND_TRIES: u32 = 10;

/// The reactor needs a listing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListRequest {
    /// Oldest revision that will do.
    pub(crate) revision_min: i64,
}

/// Feeds the core task for as long as it lives.
pub(crate) struct Feeder {
    pub(crate) store: Store,
    pub(crate) requests: mpsc::UnboundedReceiver<ListRequest>,
    pub(crate) core: Handle,
    /// Told when the leader key changes.
    pub(crate) leader_moved: Arc<Notify>,
    /// Reads along.
    pub(crate) observer: Observer,
    /// Answered once the store has said who leads. A listing made after this scheduler won is one to
    /// lead from; made before, the whole state would have to be read a second time.
    pub(crate) campaigned: oneshot::Receiver<()>,
    /// Told after each listing that was handed to the core.
    pub(crate) listed: Arc<Notify>,
}

impl Feeder {
    pub(crate) async fn run(mut self) {
        // An elector that has ended answers nothing any more, and nothing is lost by listing.
        let _ = (&mut self.campaigned).await;
        let mut revision_min = 0;
        loop {
            let snapshot = self.list(revision_min).await;
            // Requests made until now are answered by a listing that was made after them only if
            // it is new enough; the reactor asks again otherwise.
            while self.requests.try_recv().is_ok() {}
            let from = snapshot.revision + 1;
            self.observer.on_snapshot(&snapshot);
            if self.core.tell(Event::Snapshot(Box::new(snapshot))).await.is_err() {
                return;
            }
            self.listed.notify_one();
            match self.watch(from).await {
                Ok(next) => revision_min = next,
                Err(Stopped) => return,
            }
        }
    }

    #[tracing::instrument(name = "list", skip(self))]
    async fn list(&mut self, revision_min: i64) -> Snapshot {
        let mut pause = RETRY_MIN;
        let mut behind = 0;
        loop {
            match self.store.snapshot(revision_min).await {
                Ok(snapshot) => return snapshot,
                Err(error) => {
                    tracing::warn!(%error, "cannot list the state");
                    if let StoreError::Stale { found, wanted } = error {
                        behind += 1;
                        if behind >= BEHIND_TRIES {
                            self.observer.on_behind(found, wanted);
                        }
                        if behind == BEHIND_TRIES {
                            // A core that has ended needs no listing either; the caller finds out.
                            let _ = self.core.tell(Event::StoreBehind).await;
                        }
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Watches until a new listing is asked for; answers the oldest revision that will do.
    async fn watch(&mut self, from: i64) -> Result<i64, Stopped> {
        let mut watch = self.store.watch(from);
        loop {
            let item = tokio::select! {
                biased;
                request = self.requests.recv() => {
                    return request.map(|request| request.revision_min).ok_or(Stopped);
                }
                item = watch.next() => item,
            };
            match item {
                WatchItem::Changes { revision, changes } => self.pass_on(revision, changes).await?,
                WatchItem::Progress { .. } => self.core.tell(Event::Progress).await?,
                WatchItem::Stale { .. } | WatchItem::Compacted { .. } | WatchItem::Ended(_) => {
                    tracing::warn!(?item, "the watch is lost; listing again");
                    self.core.tell(Event::WatchLost).await?;
                    // It asks for a listing in answer.
                    let request = self.requests.recv().await.ok_or(Stopped)?;
                    return Ok(request.revision_min);
                }
            }
        }
    }

    async fn pass_on(&mut self, revision: i64, changes: Vec<Change>) -> Result<(), Stopped> {
        let mut kept = Vec::with_capacity(changes.len());
        for change in changes {
            self.observer.on_change(&change);
            match change {
                Change::Event(event) => self.core.on_event_record(event.value),
                Change::Leader(leader) => {
                    self.leader_moved.notify_waiters();
                    kept.push(Change::Leader(leader));
                }
                // The observer has heard of it; no loop depends on it.
                Change::Role(..)
                | Change::Binding(..)
                | Change::Revocation(..)
                | Change::Probe(..) => {}
                change => kept.push(change),
            }
        }
        self.core.tell(Event::Changes { revision, changes: kept }).await
    }
}
