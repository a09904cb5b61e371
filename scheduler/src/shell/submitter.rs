//! The submitter: new loops that arrive together are created by one transaction, one at a time; at
//! idle nothing waits. The reactor is told at once, without waiting for the watch.

use std::sync::Arc;

use flyball_core::status::LoopStatus;
use flyball_store::{Change, CreateLoop, LoopRecord, NewLoop, Store, StoreError, Stored};
use tokio::sync::{mpsc, oneshot};

use super::core::Handle;
use crate::reactor::Event;

/// Submissions waiting; senders wait when it is full.
const QUEUE_MAX: usize = 256;
/// Submissions per call of the store, which splits them into transactions of a size etcd takes.
const BATCH_MAX: usize = 128;

type Answer = oneshot::Sender<Result<CreateLoop, StoreError>>;

/// The way to the submitter.
#[derive(Clone)]
pub(crate) struct Submitter(mpsc::Sender<(NewLoop, Answer)>);

impl Submitter {
    /// A submitter and the queue that [`run`] empties.
    pub(crate) fn new() -> (Self, SubmitQueue) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        (Self(sender), SubmitQueue(receiver))
    }

    /// Creates a loop unless its name is taken.
    pub(crate) async fn create(
        &self,
        record: Arc<LoopRecord>,
        status: Arc<LoopStatus>,
    ) -> Result<CreateLoop, StoreError> {
        let stopped = || StoreError::Unavailable { why: "shutting down".to_owned() };
        let (answer, answered) = oneshot::channel();
        let new = NewLoop { record, status };
        self.0.send((new, answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

/// Submissions on their way.
pub(crate) struct SubmitQueue(mpsc::Receiver<(NewLoop, Answer)>);

/// Creates loops until the submitter is gone.
pub(crate) async fn run(store: Store, core: Handle, mut queue: SubmitQueue) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while queue.0.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let (loops, answers): (Vec<NewLoop>, Vec<Answer>) = batch.drain(..).unzip();
        let results = store.create_loops(&loops).await;
        for ((new, answer), result) in loops.into_iter().zip(answers).zip(results) {
            if let Ok(CreateLoop::Created { revision }) = &result {
                let told = core.tell(created(new, *revision)).await;
                if told.is_err() {
                    return;
                }
            }
            // The client may have gone away; the loop stays.
            let _ = answer.send(result);
        }
    }
}

fn created(new: NewLoop, revision: i64) -> Event {
    let key = new.record.key.clone();
    let record =
        Stored { value: new.record, mod_revision: revision, create_revision: revision, lease: 0 };
    let status =
        Stored { value: new.status, mod_revision: revision, create_revision: revision, lease: 0 };
    let changes = vec![Change::Loop(key.clone(), Some(record)), Change::Status(key, Some(status))];
    Event::Written { revision, changes }
}
