//! The placement pass: walks the waiting loops in the order of their creation and assigns those
//! whose resources are free and for which a node has room. The decisions themselves (who blocks a
//! set, which node fits) are core's; here is the order and its fairness.
//!
//! Fairness: first come, first served, but a loop that cannot go yet does not hold up those behind
//! it. Each time a later loop takes resources that a waiting one wants as well, the waiting one is
//! passed over; after [`PASSED_OVER_MAX`] times it reserves its set and nobody passes any more. The
//! same count serves for room on nodes: a loop that waits for room and was passed over that often
//! closes the first node it could run on to later loops until it is placed. So every loop that can
//! be placed at all is placed after a bounded number of others.

use std::sync::Arc;

use flyball_core::ids::{LoopKey, NodeName, Token};
use flyball_core::node::{NodeMark, Resources};
use flyball_core::placement::{NodeView, Placement, place};
use flyball_core::resource::{Blocker, ResourceSet};
use flyball_core::status::Reason;
use flyball_store::{Assign, ClaimRecord, LoopRecord, Mutation};
use jiff::Timestamp;

use super::derived::QueueKey;
use super::event::Notice;
use super::{PASSED_OVER_MAX, Reactor, status};

/// Most blockers kept per waiting loop, for display; there may be as many as claims.
const BLOCKERS_MAX: usize = 8;

/// Most waiting loops of one pass whose place in the queue is guarded; when they are placed, the
/// next ones are.
const GUARDED_MAX: usize = 64;

/// Why a loop is not placed.
#[derive(Debug, Clone)]
pub(super) enum Waiting {
    /// Others hold overlapping resources.
    Owned(Vec<Blocker>),
    /// An earlier loop has been passed over too often and goes first.
    Behind(LoopKey),
    /// The claim of this loop cannot be read: a newer scheduler, or somebody else, wrote it. It may own
    /// what overlaps, which owner keys do not show.
    Unreadable(LoopKey),
    /// No node has room now, or none ever will.
    Node { never: bool, summary: String },
}

impl Waiting {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Owned(_) | Self::Behind(_) | Self::Unreadable(_) => Reason::ResourcesOwned,
            Self::Node { never: true, .. } => Reason::NeverFits,
            Self::Node { never: false, .. } => Reason::NoNode,
        }
    }
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Owned(blockers) => match blockers.first() {
                Some(first) => write!(f, "{} is owned by another loop", first.held),
                None => f.write_str("its resources are owned"),
            },
            Self::Behind(first) => {
                write!(f, "waits behind {first}, which was passed over too often")
            }
            Self::Unreadable(other) => write!(
                f,
                "nothing is assigned while the claim of {other} cannot be read: what it owns is not known"
            ),
            Self::Node { summary, .. } => f.write_str(summary),
        }
    }
}

/// A loop passed by in this pass.
struct Guarded {
    key: LoopKey,
    set: ResourceSet,
    /// Nodes that it could run on if they were empty, when it waits for room.
    rooms: Vec<NodeName>,
    passed_over: u32,
}

impl Reactor {
    /// One pass over the queue, or over the loops that are new in it.
    pub(super) fn place(&mut self, now: Timestamp) {
        let woken = std::mem::take(&mut self.woken);
        let all = std::mem::take(&mut self.wake_all);
        if !all && woken.is_empty() {
            return;
        }
        let mut nodes = self.node_views();
        let mut guarded: Vec<Guarded> = Vec::new();
        let mut cursor: Option<QueueKey> = None;
        while has_room(&nodes) {
            let Some(position) = self.next_waiting(cursor.as_ref()) else { break };
            cursor = Some(position.clone());
            // Loops that were looked at before still guard their place; only new ones are looked at
            // again when nothing was set free.
            let look = all || woken.contains(&position);
            self.consider(&position.1, look, &mut nodes, &mut guarded, now);
        }
    }

    fn next_waiting(&self, after: Option<&QueueKey>) -> Option<QueueKey> {
        let queue = &self.view.derived.queue;
        match after {
            None => queue.first().cloned(),
            Some(position) => {
                let after = (std::ops::Bound::Excluded(position), std::ops::Bound::Unbounded);
                queue.range(after).next().cloned()
            }
        }
    }

    fn consider(
        &mut self,
        key: &LoopKey,
        look: bool,
        nodes: &mut [NodeView],
        guarded: &mut Vec<Guarded>,
        now: Timestamp,
    ) {
        let Some(entry) = self.view.loops.get(key) else { return };
        let waiting = if look {
            match self.try_place(key, nodes, guarded) {
                Ok(node) => {
                    self.assign(key, &node, now);
                    self.charge(&node, nodes);
                    self.count_passed_over(key, &node, guarded);
                    return;
                }
                Err(waiting) => Some(waiting),
            }
        } else {
            entry.waiting.clone()
        };
        let for_room = matches!(waiting, Some(Waiting::Node { never: false, .. }));
        let rooms = if for_room { self.rooms_for(key, nodes) } else { Vec::new() };
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        let never = matches!(waiting, Some(Waiting::Node { never: true, .. }));
        // A loop that can never be placed reserves nothing.
        if guarded.len() < GUARDED_MAX && !never {
            guarded.push(Guarded {
                key: key.clone(),
                set: entry.set.clone(),
                rooms,
                passed_over: entry.passed_over,
            });
        }
        let text = |waiting: &Option<Waiting>| waiting.as_ref().map(ToString::to_string);
        if text(&entry.waiting) != text(&waiting) {
            self.changed.insert(key.clone());
        }
        entry.waiting = waiting;
    }

    /// The node for a waiting loop, or why there is none.
    fn try_place(
        &self,
        key: &LoopKey,
        nodes: &[NodeView],
        guarded: &[Guarded],
    ) -> Result<NodeName, Waiting> {
        let Some(entry) = self.view.loops.get(key) else {
            return Err(Waiting::Owned(Vec::new()));
        };
        let Some(record) = entry.record.get().filter(|_| !self.view.is_left_alone(key)) else {
            return Err(Waiting::Owned(Vec::new()));
        };
        if let Some(other) = self.view.unreadable_claim() {
            return Err(Waiting::Unreadable(other.clone()));
        }
        let blockers = self.view.derived.index.blockers_up_to(&entry.set, BLOCKERS_MAX);
        if !blockers.is_empty() {
            return Err(Waiting::Owned(blockers));
        }
        let worn_out = |other: &&Guarded| other.passed_over >= PASSED_OVER_MAX;
        if let Some(first) = guarded.iter().filter(worn_out).find(|g| g.set.conflicts(&entry.set)) {
            return Err(Waiting::Behind(first.key.clone()));
        }
        let closed_by = |node: &NodeName| {
            let first = guarded.iter().filter(worn_out).find(|g| g.rooms.first() == Some(node));
            first.map(|first| first.key.clone())
        };
        let is_closed = |node: &NodeName| closed_by(node).is_some();
        let avoid = entry.status.get().and_then(|status| {
            let left =
                matches!(status.reason, Reason::RunLost | Reason::CannotStart | Reason::Drained);
            status.node.as_ref().filter(|_| left)
        });
        match place(&record.spec, nodes, avoid) {
            Placement::On { node, .. } if is_closed(&node) => {
                let open: Vec<NodeView> =
                    nodes.iter().filter(|node| !is_closed(&node.name)).cloned().collect();
                match (place(&record.spec, &open, avoid), closed_by(&node)) {
                    (Placement::On { node, .. }, _) => Ok(node),
                    (_, Some(first)) => Err(Waiting::Behind(first)),
                    (_, None) => Err(Waiting::Owned(Vec::new())),
                }
            }
            Placement::On { node, .. } => Ok(node),
            Placement::Wait { summary, .. } => Err(Waiting::Node { never: false, summary }),
            Placement::Never { summary, .. } => Err(Waiting::Node { never: true, summary }),
        }
    }

    /// Starts the commit that gives the loop to the node.
    fn assign(&mut self, key: &LoopKey, node: &NodeName, now: Timestamp) {
        let attempt = self.next_attempt();
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        let (Some(record), Some(old)) = (entry.record.get(), entry.status.get()) else { return };
        let stream = self.view.nodes.get(node).and_then(|node| node.stream.as_ref());
        let Some(stream) = stream else { return };
        let claim = ClaimRecord {
            key: key.clone(),
            uid: record.uid.clone(),
            node: node.clone(),
            incarnation: stream.incarnation.clone(),
            attempt,
            lease: stream.lease,
            resources: entry.set.canonical(),
            repository: repository_of(record),
            since: now,
        };
        let status = status::assigned(old, &claim, now);
        let mutation = Mutation::Assign(Assign {
            owners: entry.set.owner_keys().collect(),
            status: Arc::new(status),
            status_revision: entry.status.mod_revision(),
            loop_revision: entry.record.mod_revision(),
            session_revision: stream.session_revision,
            claim,
        });
        let message = format!("assigned to {node}");
        let notice =
            Notice { key: key.clone(), reason: "Assigned", message, node: Some(node.clone()) };
        entry.waiting = None;
        entry.passed_over = 0;
        self.commit_loop(key, mutation, Vec::new(), vec![notice]);
        self.refresh(key);
        self.changed.insert(key.clone());
    }

    /// Nodes that the loop would fit on if they were empty.
    fn rooms_for(&self, key: &LoopKey, nodes: &[NodeView]) -> Vec<NodeName> {
        let record = self.view.loops.get(key).and_then(|entry| entry.record.get());
        let Some(record) = record else { return Vec::new() };
        let empty = nodes.iter().map(|node| NodeView {
            used: Resources::default(),
            slots_used: 0,
            resting: None,
            ..node.clone()
        });
        empty
            .filter(|node| {
                let alone = std::slice::from_ref(node);
                matches!(place(&record.spec, alone, None), Placement::On { .. })
            })
            .map(|node| node.name)
            .collect()
    }

    fn charge(&self, node: &NodeName, nodes: &mut [NodeView]) {
        let Some(view) = nodes.iter_mut().find(|view| view.name == *node) else { return };
        (view.used, view.slots_used) = self.view.usage(node);
    }

    fn count_passed_over(&mut self, key: &LoopKey, node: &NodeName, guarded: &mut [Guarded]) {
        let Some(set) = self.view.loops.get(key).map(|entry| entry.set.clone()) else { return };
        for earlier in guarded.iter_mut() {
            if (earlier.rooms.contains(node) || earlier.set.conflicts(&set))
                && let Some(entry) = self.view.loops.get_mut(&earlier.key)
            {
                entry.passed_over += 1;
                earlier.passed_over += 1;
            }
        }
    }

    /// The nodes as placement sees them.
    pub(super) fn node_views(&self) -> Vec<NodeView> {
        let mut views = Vec::with_capacity(self.view.nodes.len());
        for (name, entry) in &self.view.nodes {
            let facts = entry.stream.as_ref().map(|stream| &stream.facts);
            let Some(facts) = facts.or_else(|| entry.record.get().map(|record| &record.facts))
            else {
                continue;
            };
            let (used, slots_used) = self.view.usage(name);
            let confined = facts.abilities.as_ref().filter(|abilities| abilities.confines);
            views.push(NodeView {
                name: name.clone(),
                labels: facts.labels.clone(),
                capacity: facts.capacity.clone(),
                used,
                slots: facts.slots,
                slots_used,
                mark: entry.record.get().map(|record| record.mark).unwrap_or_default(),
                online: entry.stream.is_some() && entry.adopted && !entry.leaving,
                resting: self.rests.of(name, self.latest),
                missing_layers: confined
                    .map(|abilities| abilities.missing_layers.keys().copied().collect()),
                offers: facts.abilities.as_ref().map(|a| a.offers.clone()).unwrap_or_default(),
            });
        }
        views
    }

    /// The token by which a blocker holds, for display; 0 while its commit is under way.
    pub(super) fn holder(&self, blocker: &Blocker) -> Option<(LoopKey, Token)> {
        let key = self.view.derived.holders.get(&blocker.uid)?;
        Some((key.clone(), blocker.token))
    }
}

/// Where the loop's runs push to; empty if nowhere.
fn repository_of(record: &LoopRecord) -> String {
    record.spec.workspace.as_ref().map(|workspace| workspace.git.url.clone()).unwrap_or_default()
}

/// True when some node could take one more run; otherwise a pass has nothing to decide.
fn has_room(nodes: &[NodeView]) -> bool {
    nodes.iter().any(|node| {
        node.online && node.mark == NodeMark::Schedulable && node.slots_used < node.slots
    })
}
