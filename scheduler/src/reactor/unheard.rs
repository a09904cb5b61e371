//! Sessions that a scheduler found when it first listed the state, and that have not come to it since. What runs on such
//! a node is known from the store alone, and a store that was restored from an old state does not know it. So
//! nothing is placed until each has attached and runs nothing else, or has ended, and all of it with it.

use std::collections::BTreeMap;

use flyball_core::ids::{Incarnation, NodeName};
use flyball_store::Snapshot;

use super::Reactor;

/// Who has not been heard of. Nobody, once it is known of all.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    listed: bool,
    nodes: BTreeMap<NodeName, Incarnation>,
}

impl Unheard {
    /// The first listing says who there is. Later ones come to a view that has followed the store since; one that was
    /// restored meanwhile with raised revisions looks the same (ARCHITECTURE, decision 47).
    pub(super) fn on_snapshot(&mut self, snapshot: &Snapshot) {
        if !std::mem::replace(&mut self.listed, true) {
            let sessions = snapshot.sessions.iter();
            self.nodes = sessions
                .map(|(name, found)| (name.clone(), found.value.incarnation.clone()))
                .collect();
        }
    }

    pub(super) fn waits_for(&self, name: &NodeName) -> bool {
        self.nodes.contains_key(name)
    }

    /// What it runs has been compared with what the store knows, and is known there.
    pub(super) fn on_adopted(&mut self, name: &NodeName) {
        self.nodes.remove(name);
    }

    /// Every lease of that time has ended or was renewed since: whoever still did not come is not waited for.
    pub(super) fn on_heard(&mut self) {
        self.listed = true;
        self.nodes.clear();
    }

    /// Names of some of them, for people.
    pub(super) fn names(&self) -> String {
        let some: Vec<&str> = self.nodes.keys().take(5).map(NodeName::as_str).collect();
        let more = self.nodes.len().saturating_sub(some.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", some.join(", "))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl Reactor {
    /// Forgets those whose session has ended. True if somebody is left.
    pub(super) fn waits_for_nodes(&mut self) -> bool {
        if self.unheard.is_empty() {
            return false;
        }
        let view = &self.view.nodes;
        self.unheard.nodes.retain(|name, incarnation| {
            let session = view.get(name).and_then(|entry| entry.session.get());
            session.is_some_and(|session| session.incarnation == *incarnation)
        });
        // Whatever waited for this can be placed now.
        self.wake_all |= self.unheard.is_empty();
        !self.unheard.is_empty()
    }
}
