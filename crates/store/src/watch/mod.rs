//! The watch: one stream of everything under the prefix, in the order of revisions, without gaps.
//! A watch is a hint; transactions decide. What it must never do is to lose a change in silence,
//! so it resumes behind the last complete revision, says when history is compacted away, and asks
//! for a sign of life when it has been silent for too long.

mod decode;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use etcd_client::proto::{PbEvent, PbWatchResponse};
use tokio::time::Instant;

use crate::error::StoreError;
use crate::keys;
use crate::store::Store;

pub use decode::Change;
pub(crate) use decode::{decode_event, decode_put};

/// How patient a watch is.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Silent for this long: ask the server for progress.
    pub ask_after: Duration,
    /// Silent for this long after that: say [`WatchItem::Stale`], and start the stream anew.
    pub stale_after: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        // etcd itself shows progress every 10 minutes only. One small message per 2 s at idle is
        // no load, and a leader should know within a lease's time that it sees nothing any more.
        Self { ask_after: Duration::from_secs(2), stale_after: Duration::from_secs(3) }
    }
}

/// What a watch yields.
#[derive(Debug)]
pub enum WatchItem {
    /// Everything that one revision changed. A deletion is a change to `None` at that revision.
    Changes {
        /// The revision; never lower than the one before.
        revision: i64,
        /// Its changes.
        changes: Vec<Change>,
    },
    /// A sign of life without changes. The revision is the server's: some etcd versions (before
    /// 3.5.8, issue 15220) send it before all changes up to it, so it proves nothing about them.
    Progress {
        /// The server's revision.
        revision: i64,
    },
    /// Nothing was heard for too long, although asked: the view may be old. The next call starts
    /// the stream anew behind the last change.
    Stale {
        /// Since when nothing was heard.
        silent: Duration,
    },
    /// The history behind the last change is compacted away: list again. The watch is over.
    Compacted {
        /// First revision that is still there.
        revision: i64,
    },
    /// The stream ended. The next call starts it anew behind the last change, after a short pause.
    Ended(StoreError),
}

/// A watch of everything under the prefix.
pub struct WatchStream {
    store: Store,
    options: WatchOptions,
    /// The first revision not yet yielded.
    next_revision: i64,
    /// The first revision not yet received in full: behind what is ready.
    receive_from: i64,
    stream: Option<etcd_client::WatchStream>,
    /// The beginning of a revision whose rest is still to come.
    partial: Vec<PbEvent>,
    ready: VecDeque<WatchItem>,
    heard_at: Instant,
    asked: bool,
    /// Streams started in a row that brought nothing.
    failures: u32,
    compacted: Option<i64>,
}

impl std::fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchStream").field("next_revision", &self.next_revision).finish()
    }
}

impl Store {
    /// Watches everything from `from_revision` on (a snapshot's revision + 1). Nothing is sent
    /// before the first call of [`WatchStream::next`].
    pub fn watch(&self, from_revision: i64) -> WatchStream {
        self.watch_with(from_revision, WatchOptions::default())
    }

    /// Like [`Store::watch`], with another patience.
    pub fn watch_with(&self, from_revision: i64, options: WatchOptions) -> WatchStream {
        WatchStream {
            store: self.clone(),
            options,
            // 0 would mean "from now on", and lose what happens before the stream is set up.
            next_revision: from_revision.max(1),
            receive_from: from_revision.max(1),
            stream: None,
            partial: Vec::new(),
            ready: VecDeque::new(),
            heard_at: Instant::now(),
            asked: false,
            failures: 0,
            compacted: None,
        }
    }
}

impl WatchStream {
    /// The first revision not yet yielded: where another watch would have to start.
    pub fn next_revision(&self) -> i64 {
        self.next_revision
    }

    /// Waits for the next item. Dropping the future loses nothing.
    pub async fn next(&mut self) -> WatchItem {
        loop {
            if let Some(item) = self.ready.pop_front() {
                if let WatchItem::Changes { revision, .. } = item {
                    self.next_revision = revision + 1;
                }
                return item;
            }
            if let Some(revision) = self.compacted {
                return WatchItem::Compacted { revision };
            }
            if self.stream.is_none()
                && let Err(error) = self.start().await
            {
                return WatchItem::Ended(error);
            }
            let Some(stream) = self.stream.as_mut() else { continue };
            let patience = if self.asked {
                self.options.ask_after + self.options.stale_after
            } else {
                self.options.ask_after
            };
            match tokio::time::timeout_at(self.heard_at + patience, stream.message()).await {
                Ok(Ok(Some(response))) => self.on_response(response.0),
                Ok(Ok(None)) => {
                    return self.end(StoreError::Unavailable {
                        why: "the server ended the watch".to_owned(),
                    });
                }
                Ok(Err(error)) => return self.end(StoreError::from(error).of_read()),
                Err(_) if self.asked => return self.on_silence(),
                Err(_) => {
                    self.asked = true;
                    // A full queue or a closed stream shows itself as silence or an end.
                    let ask = stream.request_progress();
                    let _ = tokio::time::timeout(self.options.stale_after, ask).await;
                }
            }
        }
    }

    /// Starts the stream behind the last complete revision.
    async fn start(&mut self) -> Result<(), StoreError> {
        if self.failures > 0 {
            // 50 ms doubling to 1.6 s: quick after a blip, no storm against a dead server.
            let pause = Duration::from_millis(50 << self.failures.min(6).saturating_sub(1));
            tokio::time::sleep(pause).await;
        }
        self.failures += 1;
        self.partial.clear();
        let options = etcd_client::WatchOptions::new()
            .with_range(keys::behind(keys::PREFIX))
            .with_start_revision(self.receive_from)
            .with_fragment();
        let mut client = self.store.etcd.watch_client();
        let started = self.store.etcd.call(client.watch(keys::PREFIX, Some(options))).await;
        self.stream = Some(started.map_err(StoreError::of_read)?);
        self.heard_at = Instant::now();
        self.asked = false;
        Ok(())
    }

    fn end(&mut self, error: StoreError) -> WatchItem {
        self.stream = None;
        tracing::debug!(%error, next_revision = self.receive_from, "the watch ended");
        WatchItem::Ended(error)
    }

    fn on_silence(&mut self) -> WatchItem {
        self.stream = None;
        let silent = self.heard_at.elapsed();
        tracing::warn!(?silent, next_revision = self.receive_from, "the watch is silent");
        WatchItem::Stale { silent }
    }

    fn on_response(&mut self, response: PbWatchResponse) {
        self.heard_at = Instant::now();
        self.asked = false;
        if response.canceled {
            self.on_cancelled(&response);
            return;
        }
        if response.created {
            return; // not yet a success: a server without a leader creates watches and cuts them
        }
        self.failures = 0;
        if response.events.is_empty() && !response.fragment && self.partial.is_empty() {
            let revision = response.header.map_or(0, |header| header.revision);
            self.ready.push_back(WatchItem::Progress { revision });
            return;
        }
        self.on_events(response.events, response.fragment);
    }

    fn on_cancelled(&mut self, response: &PbWatchResponse) {
        self.stream = None;
        if response.compact_revision > 0 {
            self.compacted = Some(response.compact_revision);
        } else {
            let why = format!("the server cancelled the watch: {}", response.cancel_reason);
            self.ready.push_back(WatchItem::Ended(StoreError::Unavailable { why }));
        }
    }

    /// Yields the events revision by revision. The last revision of a fragment waits for its rest.
    fn on_events(&mut self, events: Vec<PbEvent>, more_follows: bool) {
        for event in events {
            let revision = revision_of(&event);
            // A resumed stream starts at a whole revision; anything older was yielded before.
            if revision < self.receive_from {
                continue;
            }
            if self.partial.first().is_some_and(|first| revision_of(first) != revision) {
                self.yield_partial();
            }
            self.partial.push(event);
        }
        if !more_follows {
            self.yield_partial();
        }
    }

    fn yield_partial(&mut self) {
        let Some(revision) = self.partial.first().map(revision_of) else { return };
        let changes = self.partial.drain(..).filter_map(decode_event).collect();
        self.ready.push_back(WatchItem::Changes { revision, changes });
        self.receive_from = revision + 1;
    }
}

fn revision_of(event: &PbEvent) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
