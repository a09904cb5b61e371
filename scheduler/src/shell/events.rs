//! Events for users: written in batches, dropped before they would hold up work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flyball_store::{EventRecord, Store};
use tokio::sync::mpsc;

/// Events waiting to be written: some seconds' worth of a busy scheduler.
const QUEUE_MAX: usize = 4096;
/// Events written by one call.
const BATCH_MAX: usize = 100;

/// Takes events without waiting.
#[derive(Clone)]
pub(crate) struct Emitter {
    queue: mpsc::Sender<EventRecord>,
    dropped: Arc<AtomicU64>,
}

impl Emitter {
    /// An emitter and the queue that a [`write`] empties.
    pub(crate) fn new() -> (Self, mpsc::Receiver<EventRecord>) {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        (Self { queue, dropped: Arc::default() }, receiver)
    }

    /// Queues an event, or counts it as dropped.
    pub(crate) fn emit(&self, event: EventRecord) {
        if self.queue.try_send(event).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "events are dropped: the store is too slow for them");
            }
        }
    }
}

/// Writes events until the emitter is gone.
pub(crate) async fn write(store: Store, mut queue: mpsc::Receiver<EventRecord>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
        if let Err(error) = store.put_events(std::mem::take(&mut batch)).await {
            tracing::warn!(%error, "events could not be written");
        }
    }
}
