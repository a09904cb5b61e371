//! Leadership: campaign for the leader key, keep its lease alive, step down in time. Safety does not
//! rest on it (every commit compares the key); it decides who tries.

use std::sync::Arc;
use std::time::Duration;

use flyball_store::{Campaign, KeepAlive, LeaderRecord, Leadership, Store};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::core::Handle;
use crate::reactor::Event;

/// Pause after a failed try to reach the store.
const RETRY: Duration = Duration::from_millis(200);

/// Campaigns until the process ends.
pub(crate) struct Elector {
    pub(crate) store: Store,
    pub(crate) record: LeaderRecord,
    pub(crate) ttl: Duration,
    pub(crate) current: watch::Sender<Option<Leadership>>,
    /// Create revisions of leader keys that a transaction found gone.
    pub(crate) fenced: mpsc::Receiver<i64>,
    /// The watch saw the leader key change.
    pub(crate) moved: Arc<Notify>,
    pub(crate) core: Handle,
    pub(crate) stop: CancellationToken,
    /// Whoever waits for the first campaign to be decided, or to have failed.
    pub(crate) campaigned: Option<oneshot::Sender<()>>,
}

impl Elector {
    pub(crate) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let campaign = tokio::select! {
                biased;
                campaign = self.store.campaign(&self.record, self.ttl) => campaign,
                () = self.stop.cancelled() => return,
            };
            match campaign {
                Ok(Campaign::Won(leadership)) => self.lead(leadership).await,
                Ok(Campaign::Held(held)) => {
                    self.tell_campaigned();
                    tracing::debug!(leader = %held.value.id, "another scheduler leads");
                    self.wait(self.ttl / 2).await;
                }
                Err(error) => {
                    self.tell_campaigned();
                    tracing::warn!(%error, "cannot campaign for leadership");
                    self.wait(RETRY).await;
                }
            }
        }
    }

    fn tell_campaigned(&mut self) {
        if let Some(waiting) = self.campaigned.take() {
            // Whoever waited may have ended.
            let _ = waiting.send(());
        }
    }

    /// Waits until the leader key changes, at most this long: the watch may be down.
    async fn wait(&self, longest: Duration) {
        tokio::select! {
            biased;
            () = self.moved.notified() => {}
            () = tokio::time::sleep(longest) => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn lead(&mut self, leadership: Leadership) {
        let create_revision = leadership.create_revision;
        tracing::info!(id = %self.record.id, create_revision, "leading");
        self.current.send_replace(Some(leadership.clone()));
        if self.core.tell(Event::Leading { create_revision }).await.is_err() {
            return;
        }
        self.tell_campaigned();
        self.hold(&leadership).await;
        self.current.send_replace(None);
        // At shutdown the core task may be gone already.
        let _ = self.core.tell(Event::NotLeading).await;
        tracing::info!(id = %self.record.id, create_revision, "not leading any more");
        // Lets the next one start at once; if it fails the lease ends by itself.
        let resign = self.store.resign(&leadership);
        if let Ok(Err(error)) = tokio::time::timeout(self.ttl / 3, resign).await {
            tracing::debug!(%error, "could not resign");
        }
    }

    /// Renews until the lease is lost, may have ended, or the process ends.
    async fn hold(&mut self, leadership: &Leadership) {
        // Counted from before the campaign would be exact; the answer's arrival is at most one
        // request timeout later, and commits are fenced in any case.
        let mut deadline = Instant::now() + leadership.ttl;
        let interval = leadership.ttl / 3;
        let mut pause = interval;
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause.min(deadline - Instant::now())) => {}
                found = self.fenced.recv() => {
                    if found.is_none_or(|revision| revision == leadership.create_revision) {
                        return;
                    }
                    continue;
                }
                () = self.stop.cancelled() => return,
            }
            let sent = Instant::now();
            if sent >= deadline {
                tracing::warn!("leadership could not be renewed in time");
                return;
            }
            let renewal = self.store.renew_leadership(leadership);
            match tokio::time::timeout_at(deadline, renewal).await {
                Ok(Ok(KeepAlive::Renewed { ttl })) => {
                    deadline = deadline.max(sent + ttl);
                    pause = interval;
                }
                Ok(Ok(KeepAlive::Lost)) => {
                    tracing::warn!("the leader's lease is lost");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "could not renew leadership");
                    pause = (interval / 4).min(RETRY);
                }
                Err(_) => return,
            }
        }
    }
}
