//! Reading the view: what the API answers from memory. A follower's view is as good as its watch;
//! a leader's also knows why loops wait.

use std::sync::Arc;
use std::time::Duration;

use flyball_core::ids::{Incarnation, LoopKey, NodeName, Token};
use flyball_core::lease::Margins;
use flyball_core::node::{NodeRecord, Resources};
use flyball_core::placement::{Placement, place};
use flyball_core::spec::LoopSpec;
use flyball_core::status::{LoopStatus, Phase};
use flyball_store::{ClaimRecord, LeaderRecord, LoopRecord, SessionRecord, Stored};

use super::Reactor;
use super::event::SessionId;
use super::view::LoopEntry;

/// A loop as users see it.
#[derive(Debug, Clone)]
pub struct LoopView {
    /// What is wanted.
    pub record: Arc<LoopRecord>,
    /// Revision of the record.
    pub revision: i64,
    /// What is; for a waiting loop with the reason as of the last look.
    pub status: Arc<LoopStatus>,
}

/// A live claim.
#[derive(Debug, Clone)]
pub struct ClaimView {
    /// The claim.
    pub claim: ClaimRecord,
    /// Its token.
    pub token: Token,
    /// What its owner keeps back of its lease; `None` if that is not known.
    pub margins: Option<Margins>,
}

/// A node with what is known of it now.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// Its record.
    pub record: NodeRecord,
    /// Its session key exists: the incarnation holds its lease.
    pub session: Option<Incarnation>,
    /// Its stream is here.
    pub attached: bool,
    /// What its live claims need together.
    pub used: Resources,
    /// The loops with live claims on it.
    pub runs: Vec<LoopKey>,
    /// Its lease, if it has a session.
    pub lease: Option<i64>,
}

impl Reactor {
    /// One loop.
    pub fn loop_view(&self, key: &LoopKey) -> Option<LoopView> {
        self.view.loops.get(key).and_then(view_of)
    }

    /// All loops of a namespace (all, if it is empty) in the order of their keys.
    pub fn loop_views<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = LoopView> + 'a {
        let wanted = move |key: &&LoopKey| namespace.is_empty() || key.namespace == namespace;
        let entries = self.view.loops.iter().filter(move |(key, _)| wanted(key));
        entries.filter_map(|(_, entry)| view_of(entry))
    }

    /// Live claims of a namespace's loops (all, if it is empty).
    pub fn claim_views(&self, namespace: &str) -> Vec<ClaimView> {
        let wanted = |key: &LoopKey| namespace.is_empty() || key.namespace == namespace;
        let entries = self.view.loops.iter().filter(|(key, _)| wanted(key));
        let claims = entries.filter_map(|(_, entry)| entry.claim.stored());
        claims.map(|claim| self.claim_view_of(claim)).collect()
    }

    /// The run that has a loop now.
    pub fn claim_view(&self, key: &LoopKey) -> Option<ClaimView> {
        let claim = self.view.loops.get(key)?.claim.stored()?;
        Some(self.claim_view_of(claim))
    }

    fn claim_view_of(&self, claim: &Stored<ClaimRecord>) -> ClaimView {
        let (token, margins) = (Token(claim.create_revision), self.margins_of(&claim.value));
        ClaimView { claim: claim.value.clone(), token, margins }
    }

    /// The margins of the very incarnation that has the claim. A version that does not tell them reads as no kill
    /// budget, which no worker can have.
    fn margins_of(&self, claim: &ClaimRecord) -> Option<Margins> {
        let entry = self.view.nodes.get(&claim.node)?;
        let stream = entry.stream.as_ref().map(|stream| (&stream.incarnation, &stream.facts));
        let record = entry.record.get().map(|record| (&record.incarnation, &record.facts));
        let mut known = stream.into_iter().chain(record);
        let (_, facts) = known.find(|(incarnation, _)| **incarnation == claim.incarnation)?;
        let abilities = facts.abilities.as_deref().filter(|has| has.kill_budget_ms > 0)?;
        let kill_budget = Duration::from_millis(abilities.kill_budget_ms);
        Some(Margins { drift_ppm: abilities.drift_ppm, kill_budget })
    }

    /// All nodes in the order of their names.
    pub fn node_statuses(&self) -> Vec<NodeStatus> {
        self.view.nodes.keys().filter_map(|name| self.node_status(name)).collect()
    }

    /// One node.
    pub fn node_status(&self, name: &NodeName) -> Option<NodeStatus> {
        let entry = self.view.nodes.get(name)?;
        let record = entry.record.get().map(|record| NodeRecord::clone(record)).or_else(|| {
            let stream = entry.stream.as_ref()?;
            Some(NodeRecord {
                name: name.clone(),
                facts: stream.facts.clone(),
                incarnation: stream.incarnation.clone(),
                ..NodeRecord::default()
            })
        })?;
        let (used, _) = self.view.usage(name);
        let on_node = |claim: &ClaimRecord| claim.node == *name;
        let claimed = self.view.loops.iter();
        let runs = claimed.filter(|(_, entry)| entry.claim.get().is_some_and(on_node));
        let runs = runs.map(|(key, _)| key.clone()).collect();
        Some(NodeStatus {
            record,
            session: entry.session.get().map(|session| session.incarnation.clone()),
            attached: entry.stream.is_some(),
            used,
            runs,
            lease: entry.session.get().map(|session| session.lease),
        })
    }

    /// Sessions of nodes that have no stream here though this scheduler leads; `None` while its view is not current.
    pub fn silent_sessions(&self) -> Option<Vec<SessionRecord>> {
        if !self.is_acting() {
            return None;
        }
        let away = self.view.nodes.values().filter(|entry| entry.stream.is_none());
        let sessions = away.filter_map(|entry| entry.session.stored());
        // One without a lease does not end with one (see the keeper).
        let bound = sessions.filter(|found| found.lease != 0);
        Some(bound.map(|found| found.value.clone()).collect())
    }

    /// The stream of a node, if it is attached here.
    pub fn session_of(&self, name: &NodeName) -> Option<SessionId> {
        self.view.nodes.get(name)?.stream.as_ref().map(|stream| stream.session)
    }

    /// A warning if no known node could ever take such a loop.
    pub fn never_fits(&self, spec: &LoopSpec) -> Option<String> {
        match place(spec, &self.node_views(), None) {
            Placement::Never { summary, .. } => Some(summary),
            Placement::On { .. } | Placement::Wait { .. } => None,
        }
    }

    /// The leader, as far as known.
    pub fn leader(&self) -> Option<&LeaderRecord> {
        self.view.leader.get()
    }

    /// The revision that the view is known to have reached.
    pub fn revision(&self) -> i64 {
        self.view.revision
    }
}

fn view_of(entry: &LoopEntry) -> Option<LoopView> {
    let record = entry.record.get()?.clone();
    let mut status = entry.status.get()?.clone();
    if status.phase == Phase::Pending
        && let Some(waiting) = &entry.waiting
    {
        let status = Arc::make_mut(&mut status);
        status.reason = waiting.reason();
        status.message = waiting.to_string();
    }
    Some(LoopView { record, revision: entry.record.mod_revision(), status })
}
