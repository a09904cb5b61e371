//! Following loops through a watch that survives a restart of the scheduler: after a break it is
//! opened again, and what happened in between is told from the new list.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_proto::v1::{GetLoopRequest, LoopChange, LoopObject, WatchLoopsRequest};
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use crate::client::Clients;
use crate::failure::Failure;

/// How long a scheduler may be away before a watch gives up: longer than a restart or the election
/// of a new leader takes.
const AWAY_MAX: Duration = Duration::from_secs(30);
/// First and longest pause between two tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What a watch saw.
#[derive(Debug)]
pub(crate) enum Seen {
    /// A loop as it is now.
    Object(LoopObject),
    /// A loop that is gone.
    Deleted(LoopObject),
    /// Everything that existed at the start has been told.
    Synced,
}

type Key = (String, String);

/// A watch on loops.
pub(crate) struct LoopWatch {
    clients: Clients,
    request: WatchLoopsRequest,
    stream: Option<Streaming<LoopChange>>,
    /// The loops as they were last told.
    known: BTreeMap<Key, LoopObject>,
    /// While a list is being told: the loops that it has not named yet.
    unconfirmed: BTreeMap<Key, LoopObject>,
    /// Told next, before the stream is read on.
    queue: std::collections::VecDeque<Seen>,
    synced: bool,
    away_since: Option<Instant>,
}

impl LoopWatch {
    /// A watch that begins with the first call of [`Self::next`].
    pub(crate) fn new(clients: &Clients, request: WatchLoopsRequest) -> Self {
        Self {
            clients: clients.clone(),
            request,
            stream: None,
            known: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            queue: std::collections::VecDeque::new(),
            synced: false,
            away_since: None,
        }
    }

    /// The next thing that happened; waits for it.
    ///
    /// # Errors
    /// When the scheduler refuses, or is away for more than 30 seconds.
    pub(crate) async fn next(&mut self) -> Result<Seen, Failure> {
        loop {
            if let Some(seen) = self.queue.pop_front() {
                return Ok(seen);
            }
            match self.receive().await {
                Ok(change) => {
                    self.away_since = None;
                    self.take(change);
                }
                Err(status) => self.pause_after(status).await?,
            }
        }
    }

    /// Whether a loop exists in the store, whatever the scheduler's view has seen of it: what was
    /// just written may not have reached the view that the watch is told from.
    ///
    /// # Errors
    /// When the scheduler cannot say.
    pub(crate) async fn exists(&mut self, name: &str) -> Result<bool, Failure> {
        let namespace = self.request.namespace.clone();
        let request = GetLoopRequest { namespace, name: name.to_owned() };
        match self.clients.loops.get(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status.into()),
        }
    }

    async fn receive(&mut self) -> Result<LoopChange, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let answer = self.clients.loops.watch(self.request.clone()).await?;
                self.unconfirmed = self.known.clone();
                self.stream.insert(answer.into_inner())
            }
        };
        stream.message().await?.ok_or_else(|| Status::unavailable("the watch was closed"))
    }

    fn take(&mut self, change: LoopChange) {
        if change.synced {
            for (key, object) in std::mem::take(&mut self.unconfirmed) {
                self.known.remove(&key);
                self.queue.push_back(Seen::Deleted(object));
            }
            if !std::mem::replace(&mut self.synced, true) {
                self.queue.push_back(Seen::Synced);
            }
            return;
        }
        let Some(object) = change.object else { return };
        let key = (object.namespace.clone(), object.name.clone());
        self.unconfirmed.remove(&key);
        if change.deleted {
            self.known.remove(&key);
            self.queue.push_back(Seen::Deleted(object));
        } else if self.known.get(&key).is_none_or(|known| *known != object) {
            self.known.insert(key, object.clone());
            self.queue.push_back(Seen::Object(object));
        }
    }

    /// Waits before the next try, or gives up.
    async fn pause_after(&mut self, status: Status) -> Result<(), Failure> {
        self.stream = None;
        let broken =
            [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal, Code::Aborted];
        let now = Instant::now();
        let since = *self.away_since.get_or_insert(now);
        if !broken.contains(&status.code()) || now - since > AWAY_MAX {
            return Err(status.into());
        }
        // Doubles by itself: a pause as long as the absence so far, within bounds.
        tokio::time::sleep((now - since).clamp(PAUSE.0, PAUSE.1)).await;
        Ok(())
    }
}
