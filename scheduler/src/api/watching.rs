//! Watching loops: all that match as they are, then every change; a watcher that falls behind is
//! told the whole state again.

use std::collections::{BTreeMap, BTreeSet};

use flyball_core::ids::LoopKey;
use flyball_proto::v1::LoopChange;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::documents::{gone_object, loop_object};
use crate::reactor::{LoopView, Reactor};
use crate::shell::Handle;

/// Messages on their way to one watcher.
const OUTBOX_MAX: usize = 64;

/// Which loops.
#[derive(Debug, Clone)]
pub(super) struct Selector {
    namespace: String,
    name: String,
    labels: BTreeMap<String, String>,
}

impl Selector {
    /// Empty texts select everything; all labels must match.
    pub(super) fn new(namespace: String, name: String, labels: BTreeMap<String, String>) -> Self {
        Self { namespace, name, labels }
    }

    fn takes_key(&self, key: &LoopKey) -> bool {
        (self.namespace.is_empty() || self.namespace == key.namespace)
            && (self.name.is_empty() || self.name == key.name)
    }

    fn takes(&self, view: &LoopView) -> bool {
        self.takes_key(&view.record.key)
            && self.labels.iter().all(|(key, value)| view.record.labels.get(key) == Some(value))
    }

    /// All loops that match.
    pub(super) fn select(&self, reactor: &Reactor) -> Vec<LoopView> {
        reactor.loop_views(&self.namespace).filter(|view| self.takes(view)).collect()
    }
}

/// Starts a watcher's stream; it ends when the watcher goes away.
pub(super) fn start(
    core: Handle,
    selector: Selector,
) -> ReceiverStream<Result<LoopChange, Status>> {
    let (sender, receiver) = mpsc::channel(OUTBOX_MAX);
    tokio::spawn(async move {
        let watcher = Watcher { core, selector, sender, sent: BTreeSet::new() };
        // Ends with the watcher or the scheduler; both know by themselves.
        let _ = watcher.run().await;
    });
    ReceiverStream::new(receiver)
}

/// The watcher or the scheduler is gone.
struct Gone;

struct Watcher {
    core: Handle,
    selector: Selector,
    sender: mpsc::Sender<Result<LoopChange, Status>>,
    /// Loops the watcher knows, to tell it of their end once and only then.
    sent: BTreeSet<LoopKey>,
}

impl Watcher {
    async fn run(mut self) -> Result<(), Gone> {
        let mut news = self.core.watch_loops();
        self.list().await?;
        self.send(LoopChange { synced: true, ..LoopChange::default() }).await?;
        loop {
            let change = tokio::select! {
                biased;
                change = news.recv() => change,
                () = self.sender.closed() => return Err(Gone),
                () = self.core.stopping() => return Err(Gone),
            };
            match change {
                Ok(change) if self.selector.takes_key(&change.key) => {
                    self.tell(&change.key, change.view.as_ref()).await?;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => self.list().await?,
                Err(RecvError::Closed) => return Err(Gone),
            }
        }
    }

    /// Tells the whole state, and the end of everything that is not in it any more.
    async fn list(&mut self) -> Result<(), Gone> {
        let selector = self.selector.clone();
        let views = self.core.ask(move |reactor, _| selector.select(reactor)).await;
        let views = views.map_err(|_| Gone)?;
        let here: BTreeSet<LoopKey> = views.iter().map(|view| view.record.key.clone()).collect();
        let gone: Vec<LoopKey> = self.sent.difference(&here).cloned().collect();
        for key in gone {
            self.tell(&key, None).await?;
        }
        for view in &views {
            self.tell(&view.record.key, Some(view)).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, key: &LoopKey, view: Option<&LoopView>) -> Result<(), Gone> {
        match view.filter(|view| self.selector.takes(view)) {
            Some(view) => {
                self.sent.insert(key.clone());
                let object = Some(loop_object(view));
                self.send(LoopChange { object, ..LoopChange::default() }).await
            }
            None if self.sent.remove(key) => {
                let object = Some(gone_object(key));
                self.send(LoopChange { object, deleted: true, synced: false }).await
            }
            None => Ok(()),
        }
    }

    async fn send(&self, change: LoopChange) -> Result<(), Gone> {
        self.sender.send(Ok(change)).await.map_err(|_| Gone)
    }
}
