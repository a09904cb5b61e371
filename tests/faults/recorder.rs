//! Reads the store's own event log from its first revision, and writes down who owned what. It asks
//! the members directly, one after the other, so that no fault between the processes blinds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_core::ids::LoopKey;
use flyball_core::status::LoopStatus;
use flyball_store::{Change, ClaimRecord, Store, WatchItem, WatchOptions};
use flyball_tests::history::{Event, Writer};

use super::work::now_us;

/// A claim as last seen.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) token: i64,
    pub(crate) node: String,
    pub(crate) lease: i64,
}

/// The store as last seen.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Everything up to here has been seen.
    pub(crate) revision: i64,
    pub(crate) claims: BTreeMap<String, Claim>,
    pub(crate) statuses: BTreeMap<String, LoopStatus>,
    /// Nodes with a session, and its incarnation.
    pub(crate) sessions: BTreeMap<String, String>,
    /// The scheduler that leads; empty: none. One that was killed leads until its key ends.
    pub(crate) leader: String,
    /// Create revision of the newest leader key, also of one that is gone.
    pub(crate) led_since: i64,
    /// When claims went, microseconds, by loop and token: those that nothing was told of at the same
    /// revision, so that it was no end of the loop's.
    pub(crate) lost_at_us: BTreeMap<(String, i64), u64>,
    /// When a session ended last whose runs had to be dead, microseconds.
    pub(crate) fenced_at_us: u64,
    /// Leases that end by somebody's fault before their time, so that their end says nothing about
    /// their runs.
    pub(crate) unfair: BTreeSet<i64>,
    /// All of them are such.
    pub(crate) all_unfair: bool,
    /// Of each node with a session: its lease.
    leases: BTreeMap<String, i64>,
    /// The newest token claimed on each lease.
    tokens_on: BTreeMap<i64, i64>,
    /// The newest token, per loop, also of claims that are gone.
    pub(crate) tokens: BTreeMap<String, i64>,
    /// Claims made so far, per loop.
    pub(crate) owners: BTreeMap<String, u32>,
    /// Uids of loops by name.
    uids: BTreeMap<String, (String, u64)>,
}

/// What every part of a fleet shares.
pub(crate) struct Record {
    pub(crate) history: Writer,
    pub(crate) view: Mutex<View>,
}

impl Record {
    /// Writes an event, now.
    pub(crate) fn event(&self, event: Event) {
        self.history.write(now_us(), event);
    }

    /// Looks at the store as last seen.
    pub(crate) fn see<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.lock().unwrap())
    }
}

/// Watches for ever.
pub(crate) async fn watch(stores: Vec<Store>, record: Arc<Record>) {
    let options =
        WatchOptions { ask_after: Duration::from_millis(300), stale_after: Duration::from_secs(2) };
    let (mut next, mut compacted) = (1, 0);
    for member in (0..stores.len()).cycle() {
        let mut stream = stores[member].watch_with(next, options.clone());
        loop {
            match stream.next().await {
                WatchItem::Changes { revision, changes } => {
                    let mut view = record.view.lock().unwrap();
                    view.note_losses(&changes);
                    changes.into_iter().for_each(|change| {
                        if let Some(event) = view.apply(revision, change) {
                            record.history.write(now_us(), event);
                        }
                    });
                    view.revision = view.revision.max(revision);
                }
                WatchItem::Progress { revision } => {
                    let mut view = record.view.lock().unwrap();
                    view.revision = view.revision.max(revision);
                }
                WatchItem::Stale { .. } | WatchItem::Ended(_) => break,
                WatchItem::Compacted { revision } => {
                    let seen = record.see(|view| view.revision);
                    assert!(revision <= seen + 1, "revisions {seen} to {revision} are gone");
                    compacted = revision;
                    break;
                }
            }
        }
        next = stream.next_revision().max(compacted);
        // A member that refuses at once must not be asked without a pause.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl View {
    /// Notes claims that go without a word on their loops.
    fn note_losses(&mut self, changes: &[Change]) {
        for change in changes {
            let Change::Claim(key, None) = change else { continue };
            let told = |other: &Change| matches!(other, Change::Status(of, _) if of == key);
            let held = self.claims.get(&key.to_string()).filter(|_| !changes.iter().any(told));
            if let Some(claim) = held {
                self.lost_at_us.insert((key.to_string(), claim.token), now_us());
            }
        }
    }

    fn apply(&mut self, revision: i64, change: Change) -> Option<Event> {
        match change {
            Change::Loop(key, found) => {
                if let Some(found) = found {
                    let of = (found.value.uid.to_string(), found.value.generation);
                    self.uids.insert(key.to_string(), of);
                }
                None
            }
            Change::Status(key, Some(found)) => Some(self.status(revision, &key, &found.value)),
            Change::Claim(key, Some(found)) => {
                // Put again with the same owner and lease is nothing new.
                let token = found.create_revision;
                let known = self.claims.get(&key.to_string());
                let known = known.map(|claim| (claim.token, claim.lease));
                (known != Some((token, found.lease)))
                    .then(|| self.claimed(revision, found.value, token, found.lease))
            }
            Change::Claim(key, None) => {
                let key = key.to_string();
                let token = self.claims.remove(&key).map_or(0, |claim| claim.token);
                Some(Event::Unclaimed { key, token, revision })
            }
            Change::Session(node, found) => {
                let life = found.map(|it| (it.value.incarnation.to_string(), it.value.lease));
                self.session(node.as_str(), life)
            }
            Change::Leader(found) => {
                if let Some(found) = &found {
                    self.led_since = found.create_revision;
                }
                let id = found.map(|found| found.value.id).unwrap_or_default();
                self.leader.clone_from(&id);
                Some(Event::Leader { id, revision })
            }
            _ => None,
        }
    }

    /// A session goes with its lease, and a lease may only end when its runs are dead.
    fn session(&mut self, node: &str, life: Option<(String, i64)>) -> Option<Event> {
        let lease = life.as_ref().map(|(_, lease)| *lease);
        match life {
            Some((incarnation, _)) => self.sessions.insert(node.to_owned(), incarnation),
            None => self.sessions.remove(node),
        };
        let before = match lease {
            Some(lease) => self.leases.insert(node.to_owned(), lease),
            None => self.leases.remove(node),
        };
        let ended = before.filter(|before| Some(*before) != lease)?;
        let fair = !self.all_unfair && !self.unfair.contains(&ended);
        let token_max = self.tokens_on.get(&ended).copied().filter(|_| fair)?;
        self.fenced_at_us = now_us();
        Some(Event::DeadBy { node: node.to_owned(), token_max })
    }

    fn claimed(&mut self, revision: i64, claim: ClaimRecord, token: i64, lease: i64) -> Event {
        let key = claim.key.to_string();
        let (node, incarnation) = (claim.node.to_string(), claim.incarnation.to_string());
        if self.claims.get(&key).is_none_or(|known| known.token != token) {
            *self.owners.entry(key.clone()).or_default() += 1;
            self.tokens.insert(key.clone(), token);
        }
        // A claim without a lease is a rogue's, not the node's own.
        if lease != 0 {
            let newest = self.tokens_on.entry(lease).or_default();
            *newest = token.max(*newest);
        }
        let seen = Claim { token, node: node.clone(), lease };
        self.claims.insert(key.clone(), seen);
        Event::Claimed {
            key,
            uid: claim.uid.to_string(),
            node,
            incarnation,
            token,
            lease,
            resources: claim.resources,
            revision,
        }
    }

    fn status(&mut self, revision: i64, key: &LoopKey, status: &LoopStatus) -> Event {
        let key = key.to_string();
        self.statuses.insert(key.clone(), status.clone());
        let (uid, _) = self.uids.get(&key).cloned().unwrap_or_default();
        let own = status.unsealed.iter().filter(|run| run.loop_uid.as_str() == uid);
        Event::Status {
            key,
            unsealed: own.map(|run| run.token.0).collect(),
            uid,
            generation: status.observed_generation,
            phase: status.phase.to_string(),
            result: result(status),
            revision,
        }
    }
}

/// How a loop ended, once it has.
pub(crate) fn result(status: &LoopStatus) -> String {
    match status.phase.is_terminal() {
        true => status.progress.published.clone().unwrap_or_default(),
        false => String::new(),
    }
}
