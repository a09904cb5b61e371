//! Sessions that a scheduler found when it first listed the state, and that have not come to it since. What runs on such
//! a node is known from the store alone, and a store that was restored from an old state does not know it. So
//! nothing is placed, and no node is sent an assignment that it does not know yet, until each has attached and runs
//! nothing else, or has ended, and all of it with it.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_core::ids::{Incarnation, LoopKey, NodeName};
use flyball_store::Snapshot;
use jiff::Timestamp;

use super::Reactor;
use super::explain::Explanation;

/// How long a node that runs something unknown has for that to stop, before it is asked to come again. Until then its
/// reports are answered: a run that has only to hear that its end was recorded goes in this time.
const STOPPING: Duration = Duration::from_secs(1);

/// Who has not been heard of. Nobody, once it is known of all.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    listed: bool,
    nodes: BTreeMap<NodeName, Incarnation>,
    /// Those that are attached and run what is not known, and when they are to come again.
    stopping: BTreeMap<NodeName, Timestamp>,
    /// What waited for them has not been looked at since.
    held_up: bool,
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
            self.held_up = !self.nodes.is_empty();
        }
    }

    /// The store went back in time: the next listing that is accepted is again the first of its kind.
    pub(super) fn on_behind(&mut self) {
        self.listed = false;
    }

    pub(super) fn waits_for(&self, name: &NodeName) -> bool {
        self.nodes.contains_key(name)
    }

    /// What it runs has been compared with what the store knows, and is known there.
    pub(super) fn on_adopted(&mut self, name: &NodeName) {
        self.nodes.remove(name);
        self.stopping.remove(name);
    }

    /// It runs what the store does not know of, and was told to stop it.
    pub(super) fn on_unknown(&mut self, name: &NodeName, now: Timestamp) {
        self.stopping.insert(name.clone(), now + STOPPING);
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.stopping.values().min().copied()
    }

    /// Every lease of that time has ended or was renewed since: whoever still did not come is not waited for.
    pub(super) fn on_heard(&mut self) {
        self.listed = true;
        self.nodes.clear();
        self.stopping.clear();
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
    /// Why nothing is placed, while somebody is waited for.
    pub(super) fn explain_unheard(&self, told: &mut Explanation) {
        if !self.is_acting() || self.unheard.is_empty() {
            return;
        }
        told.findings.push(format!(
            "this scheduler began anew, and a store that was restored would not know what runs on {}: nothing is \
             assigned until each has attached and runs nothing unknown, or its lease has ended, some five \
             minutes at most",
            self.unheard.names()
        ));
        let step = "if they do not come back: see their workers' logs, or stop those workers";
        told.next_steps.push(step.to_owned());
    }

    /// Forgets those whose session has ended. True if somebody is left; if nobody is any more, all that waited is looked
    /// at again.
    pub(super) fn waits_for_nodes(&mut self) -> bool {
        let view = &self.view.nodes;
        self.unheard.nodes.retain(|name, incarnation| {
            let session = view.get(name).and_then(|entry| entry.session.get());
            session.is_some_and(|session| session.incarnation == *incarnation)
        });
        let waits = !self.unheard.is_empty();
        if !waits && std::mem::take(&mut self.unheard.held_up) {
            self.wake_all = true;
            let loops = self.view.loops.iter().filter(|(_, entry)| self.is_untold(entry));
            let loops: Vec<LoopKey> = loops.map(|(key, _)| key.clone()).collect();
            loops.iter().for_each(|key| self.view.touch(key));
        }
        waits
    }

    /// The view had got ahead of the store, which therefore was restored: what runs where is asked anew.
    pub(super) fn on_store_behind(&mut self) {
        self.unheard.on_behind();
        let names: Vec<NodeName> = self.view.nodes.keys().cloned().collect();
        names.iter().for_each(|name| self.send_back(name, "the store was restored; attach again"));
    }

    /// Nodes whose unknown runs had time to stop come again, without them in the end.
    pub(super) fn send_back_unheard(&mut self, now: Timestamp) {
        let due = self.unheard.stopping.iter().filter(|(_, at)| **at <= now);
        let due: Vec<NodeName> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            self.unheard.stopping.remove(&name);
            let why = "it runs what the store does not know of; attach again when that has stopped";
            self.send_back(&name, why);
        }
    }

    fn send_back(&mut self, name: &NodeName, why: &str) {
        let Some(entry) = self.view.nodes.get_mut(name) else { return };
        let Some(stream) = entry.stream.take() else { return };
        entry.adopted = false;
        self.close(stream.session, "attach-again", why);
    }
}
