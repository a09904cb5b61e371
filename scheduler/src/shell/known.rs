//! What the stream of changes says about sessions and odd keys, kept beside the reactor: heartbeats
//! look up whose lease they name without waiting behind it, and what somebody else wrote under the
//! prefix is named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use flyball_core::ids::{Incarnation, NodeName};
use flyball_store::{Change, LoopPart, SessionRecord, Snapshot, Stored, loop_part};

use super::heard::Heard;
use crate::access::{Policies, RevokedList};
use crate::findings::{
    Findings, PERMANENT_KEY as PERMANENT, STORE_BEHIND, STORE_BEHIND_STEP, Severity,
    UNREADABLE_KEY as UNREADABLE,
};

const UNREADABLE_STEP: &str = "find out who writes there; if nobody runs a newer version of Flyball, \
                               delete the key: etcdctl del <key>";
const PERMANENT_STEP: &str = "nothing, it is removed as soon as its owner is gone; find out who put \
                              it without its lease";

/// The live sessions as the watch tells them. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions(Arc<RwLock<BTreeMap<NodeName, Stored<SessionRecord>>>>, Heard);

impl Sessions {
    /// From whom this scheduler hears.
    pub(crate) fn heard(&self) -> &Heard {
        &self.1
    }

    /// True if this lease is known to be the one of the node's incarnation. What is known may be
    /// old, but a lease never changes hands: once true it is true for ever, whether or not the lease
    /// still lives. False says nothing: ask the store.
    pub(crate) fn is_of(&self, node: &str, incarnation: &str, lease: i64) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&NodeName(node.to_owned())).is_some_and(|session| {
            session.value.incarnation.as_str() == incarnation && session.value.lease == lease
        })
    }

    /// True if this life of the node has its session, as far as known. False says nothing: ask the store.
    pub(crate) fn is_alive(&self, node: &NodeName, incarnation: &Incarnation) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(node).is_some_and(|session| session.value.incarnation == *incarnation)
    }

    /// Nodes whose session key lost its lease, so that it does not end with its incarnation.
    pub(crate) fn detached(&self) -> Vec<NodeName> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let detached = known.iter().filter(|(_, session)| session.lease == 0);
        detached.map(|(name, _)| name.clone()).collect()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<NodeName, Stored<SessionRecord>>)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Reads along with the feeder.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    sessions: Sessions,
    findings: Findings,
    policies: Policies,
    revoked: RevokedList,
    /// Keys of which a condition holds; usually none, so that most changes cost nothing here.
    odd: BTreeSet<String>,
}

impl Observer {
    pub(crate) fn new(
        sessions: Sessions,
        findings: Findings,
        policies: Policies,
        revoked: RevokedList,
    ) -> Self {
        Self { sessions, findings, policies, revoked, odd: BTreeSet::new() }
    }

    /// The store does not reach a revision that this scheduler has seen.
    pub(crate) fn on_behind(&self, found: i64, wanted: i64) {
        let message = format!(
            "this scheduler has seen revision {wanted}, and the store is at {found}: it was restored \
             from an old state, and nothing is decided on it"
        );
        self.findings.raise(Severity::Error, (STORE_BEHIND, ""), message, STORE_BEHIND_STEP);
    }

    /// The whole state.
    pub(crate) fn on_snapshot(&mut self, snapshot: &Snapshot) {
        let sessions = snapshot.sessions.iter().cloned();
        self.sessions.change(|known| *known = sessions.collect());
        self.sessions.heard().on_snapshot(snapshot);
        self.policies.on_snapshot(snapshot);
        self.revoked.on_snapshot(snapshot);
        self.odd.clear();
        self.findings.clear(STORE_BEHIND, "");
        for one in &snapshot.undecodable {
            self.raise_unreadable(&one.key, &one.why, one.held);
        }
        for (key, stored) in &snapshot.claims {
            self.check_lease(stored, || Change::Claim(key.clone(), None));
        }
        for (key, stored) in &snapshot.owners {
            self.check_lease(stored, || Change::Owner(key.clone(), None));
        }
        for (name, stored) in &snapshot.sessions {
            self.check_lease(stored, || Change::Session(name.clone(), None));
        }
        if let Some(stored) = &snapshot.leader {
            self.check_lease(stored, || Change::Leader(None));
        }
        for name in [UNREADABLE, PERMANENT] {
            self.findings.retain(name, |key| self.odd.contains(key));
        }
    }

    /// One change.
    pub(crate) fn on_change(&mut self, change: &Change) {
        if !self.odd.is_empty()
            && let Some(key) = change.key()
            && self.odd.remove(&key)
        {
            self.findings.clear(UNREADABLE, &key);
            self.findings.clear(PERMANENT, &key);
        }
        match change {
            Change::Undecodable { key, why, held } => {
                self.revoked.on_change(change);
                self.raise_unreadable(key, why, *held);
            }
            Change::Revocation(..) => self.revoked.on_change(change),
            Change::Probe(name, stored) => self.sessions.heard().on_probe(name, stored.as_ref()),
            Change::Session(name, stored) => {
                if stored.is_none() {
                    self.sessions.heard().forget(name);
                }
                self.sessions.change(|known| {
                    match stored {
                        Some(stored) => known.insert(name.clone(), stored.clone()),
                        None => known.remove(name),
                    };
                });
                self.check_change(stored.as_ref(), change);
            }
            Change::Role(..) | Change::Binding(..) => self.policies.on_change(change),
            Change::Claim(_, stored) => self.check_change(stored.as_ref(), change),
            Change::Owner(_, stored) => self.check_change(stored.as_ref(), change),
            Change::Leader(stored) => self.check_change(stored.as_ref(), change),
            _ => {}
        }
    }

    fn check_change<T>(&mut self, stored: Option<&Stored<T>>, change: &Change) {
        if let Some(stored) = stored {
            self.check_lease(stored, || change.clone());
        }
    }

    /// A key that has to be bound to a lease and is not outlives its owner.
    fn check_lease<T>(&mut self, stored: &Stored<T>, change: impl FnOnce() -> Change) {
        if stored.lease != 0 {
            return;
        }
        let Some(key) = change().key() else { return };
        let message = format!("the key lost its lease at revision {}", stored.mod_revision);
        self.findings.raise(Severity::Warning, (PERMANENT, &key), message, PERMANENT_STEP);
        self.odd.insert(key);
    }

    fn raise_unreadable(&mut self, key: &str, why: &str, held: bool) {
        let mut message = format!("a key under our prefix cannot be read and is left alone: {why}");
        let stops_all = held && matches!(loop_part(key), Some((_, LoopPart::Claim)));
        let severity = if stops_all { Severity::Error } else { Severity::Warning };
        if stops_all {
            message +=
                "; nothing is assigned anywhere while it is there, as what it owns is not known";
        }
        self.findings.raise(severity, (UNREADABLE, key), message, UNREADABLE_STEP);
        self.odd.insert(key.to_owned());
    }
}
