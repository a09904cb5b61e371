//! The worker's half of the session stream: what must reach the scheduler is kept until it is
//! acknowledged and sent again after every reconnect.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flyball_core::ids::{LoopKey, LoopUid, Token};
use flyball_core::status::{Outcome, Phase, Progress, Reason};
use flyball_proto::v1::{Ack, NodeMessage, RunEnded, RunUpdate, node_message::Message};
use tokio::sync::{mpsc, oneshot};

/// Messages waiting in the stream's own buffer. Every run has at most one report in flight, so a
/// full buffer means a stream that no longer moves; what is kept is sent again on the next one.
pub(crate) const OUTBOX_MESSAGES_MAX: usize = 256;

/// The scheduler refused a report for good: this worker is not the owner any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the report was refused: {0}")]
pub struct Refused(pub String);

/// Who reports.
#[derive(Debug, Clone)]
pub struct RunId {
    /// The loop's name.
    pub key: LoopKey,
    /// Which loop of that name.
    pub uid: LoopUid,
    /// Of the claim it runs under.
    pub token: Token,
}

struct Pending {
    message: NodeMessage,
    done: oneshot::Sender<Result<(), Refused>>,
}

#[derive(Default)]
struct State {
    sequence: u64,
    pending: BTreeMap<u64, Pending>,
    outbox: Option<mpsc::Sender<NodeMessage>>,
    /// The incarnation has ended: nobody will ever acknowledge anything.
    closed: bool,
}

/// Reports with acknowledgement over whatever stream is up at the time.
#[derive(Default)]
pub struct Link {
    state: Mutex<State>,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves the maps whole: every change is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses a new stream and sends everything that is not acknowledged yet, in order.
    pub(crate) fn attach(&self, outbox: mpsc::Sender<NodeMessage>) {
        let mut state = self.lock();
        for pending in state.pending.values() {
            post(&outbox, pending.message.clone());
        }
        state.outbox = Some(outbox);
    }

    /// The stream is gone.
    pub(crate) fn detach(&self) {
        self.lock().outbox = None;
    }

    /// Sends what needs no acknowledgement; false when no stream is up or it does not move.
    pub(crate) async fn send(&self, message: Message) -> bool {
        let Some(outbox) = self.lock().outbox.clone() else { return false };
        outbox.send(NodeMessage { message: Some(message) }).await.is_ok()
    }

    /// Reports progress; returns once it is durable.
    ///
    /// # Errors
    /// [`Refused`]: this worker is not the owner any more.
    pub async fn update(
        &self,
        run: &RunId,
        progress: &Progress,
        event: String,
    ) -> Result<(), Refused> {
        let progress_json = json(progress);
        self.report(|sequence| {
            Message::RunUpdate(RunUpdate {
                sequence,
                namespace: run.key.namespace.clone(),
                r#loop: run.key.name.clone(),
                uid: run.uid.to_string(),
                token: run.token.0,
                progress_json: progress_json.into(),
                event,
            })
        })
        .await
    }

    /// Hands back an assignment that cannot be read; nothing of it was started.
    pub(crate) async fn unreadable(&self, run: &RunId, why: &str) -> Result<(), Refused> {
        let version = env!("CARGO_PKG_VERSION");
        let outcome = Outcome {
            phase: Phase::Pending,
            reason: Reason::RunLost,
            message: format!("the node failed: its worker, {version}, cannot read the work: {why}"),
            evidence: Vec::new(),
            retry_after_ms: 0,
            need: None,
        };
        // Without progress: what is stored stays.
        self.end(run, Vec::new(), &outcome, true).await
    }

    /// Reports the end of a run; returns once it is durable.
    ///
    /// # Errors
    /// [`Refused`]: this worker is not the owner any more.
    pub async fn ended(
        &self,
        run: &RunId,
        progress: &Progress,
        outcome: &Outcome,
        stopped: bool,
    ) -> Result<(), Refused> {
        self.end(run, json(progress), outcome, stopped).await
    }

    async fn end(
        &self,
        run: &RunId,
        progress_json: Vec<u8>,
        outcome: &Outcome,
        stopped: bool,
    ) -> Result<(), Refused> {
        let outcome_json = json(outcome);
        self.report(|sequence| {
            Message::RunEnded(RunEnded {
                sequence,
                namespace: run.key.namespace.clone(),
                r#loop: run.key.name.clone(),
                uid: run.uid.to_string(),
                token: run.token.0,
                progress_json: progress_json.into(),
                outcome_json: outcome_json.into(),
                stopped,
            })
        })
        .await
    }

    async fn report(&self, message: impl FnOnce(u64) -> Message) -> Result<(), Refused> {
        let (done, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.closed {
                return Err(ended());
            }
            state.sequence += 1;
            let sequence = state.sequence;
            let message = NodeMessage { message: Some(message(sequence)) };
            if let Some(outbox) = &state.outbox {
                post(outbox, message.clone());
            }
            state.pending.insert(sequence, Pending { message, done });
        }
        // The sender is dropped only when the incarnation ends, and then it owns nothing.
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// The scheduler's answer to a report.
    pub(crate) fn on_ack(&self, ack: Ack) {
        let Some(pending) = self.lock().pending.remove(&ack.sequence) else { return };
        let answer = if ack.refused.is_empty() { Ok(()) } else { Err(Refused(ack.refused)) };
        // The run may have been stopped meanwhile; then nobody waits.
        let _ = pending.done.send(answer);
    }

    /// Ends every waiting report: this incarnation has lost everything.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.outbox = None;
        state.pending.clear();
    }
}

fn ended() -> Refused {
    Refused("the incarnation has ended".to_owned())
}

/// Puts a report into the stream's buffer. While that is full (a client reads a large log) the
/// report waits beside it: a run has one report under way at most, so none overtakes another.
fn post(outbox: &mpsc::Sender<NodeMessage>, message: NodeMessage) {
    if let Err(mpsc::error::TrySendError::Full(message)) = outbox.try_send(message) {
        let outbox = outbox.clone();
        // A stream that ends meanwhile loses nothing: the report stays pending for the next one.
        tokio::spawn(async move { outbox.send(message).await });
    }
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // Serialising our own plain types fails only on non-text map keys, which they do not have.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunId {
        RunId { key: LoopKey::new("default", "a"), uid: "u".into(), token: Token(7) }
    }

    #[tokio::test]
    async fn a_report_survives_a_broken_stream() {
        let link = std::sync::Arc::new(Link::default());
        let (first, mut first_end) = mpsc::channel(4);
        link.attach(first);
        let report = tokio::spawn({
            let link = link.clone();
            async move { link.update(&run(), &Progress::default(), String::new()).await }
        });
        let sent = first_end.recv().await.unwrap();
        link.detach();
        let (second, mut second_end) = mpsc::channel(4);
        link.attach(second);
        assert_eq!(second_end.recv().await.unwrap(), sent);
        link.on_ack(Ack { sequence: 1, refused: String::new() });
        assert_eq!(report.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_full_buffer_delays_a_report_and_never_loses_it() {
        let link = std::sync::Arc::new(Link::default());
        let (outbox, mut inbox) = mpsc::channel(1);
        link.attach(outbox);
        assert!(link.send(Message::LogChunk(flyball_proto::v1::LogChunk::default())).await);
        let report = tokio::spawn({
            let link = link.clone();
            async move { link.update(&run(), &Progress::default(), String::new()).await }
        });
        while link.lock().pending.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(inbox.recv().await.unwrap().message, Some(Message::LogChunk(_))));
        assert!(matches!(inbox.recv().await.unwrap().message, Some(Message::RunUpdate(_))));
        link.on_ack(Ack { sequence: 1, refused: String::new() });
        assert_eq!(report.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn nobody_waits_after_the_end() {
        let link = Link::default();
        link.close();
        assert_eq!(link.update(&run(), &Progress::default(), String::new()).await, Err(ended()));
    }

    #[tokio::test]
    async fn a_refusal_reaches_the_run() {
        let link = std::sync::Arc::new(Link::default());
        let report = tokio::spawn({
            let link = link.clone();
            async move { link.update(&run(), &Progress::default(), String::new()).await }
        });
        while link.lock().pending.is_empty() {
            tokio::task::yield_now().await;
        }
        link.on_ack(Ack { sequence: 1, refused: "fenced".to_owned() });
        assert_eq!(report.await.unwrap(), Err(Refused("fenced".to_owned())));
    }
}
