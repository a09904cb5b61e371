//! The in-memory view: everything the reactor knows of the store, and what it derives from it (who
//! holds what, what nodes are used for, who waits in which order). Only the reactor writes it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use flyball_core::ids::{Incarnation, LoopKey, LoopUid, NodeName, Token};
use flyball_core::node::{NodeFacts, NodeMark, NodeRecord};
use flyball_core::resource::ResourceSet;
use flyball_core::seal::SealDuty;
use flyball_core::status::{LoopStatus, Unsealed};
use flyball_store::{Change, ClaimRecord, LeaderRecord, LoopRecord, Mutation, SessionRecord};
use flyball_store::{LoopPart, Snapshot, Stored, Undecodable, loop_part};

use super::budgets::Budgets;
use super::derived::{Derived, Indexed, set_of};
use super::event::{CommitId, Notice, Report, SessionId, StopReason};
use super::placement::Waiting;
use super::slot::Slot;

/// A loop: its three keys and what the leader is doing about it.
#[derive(Debug, Default)]
pub(super) struct LoopEntry {
    pub(super) record: Slot<Arc<LoopRecord>>,
    pub(super) status: Slot<Arc<LoopStatus>>,
    pub(super) claim: Slot<ClaimRecord>,
    /// The resource set of the record's spec.
    pub(super) set: ResourceSet,
    /// The set could not be read (a newer scheduler wrote it): the loop is not placed.
    pub(super) unreadable: bool,
    /// The token of the claim seen last.
    pub(super) last_token: Option<Token>,
    /// The canonical entries of the claim seen last.
    pub(super) last_resources: Vec<String>,
    /// The one commit under way for this loop.
    pub(super) in_flight: Option<InFlight>,
    /// Reports not yet committed, oldest first. Bounded by `REPORTS_MAX`.
    pub(super) reports: VecDeque<Report>,
    /// What the run with this token reports is too large to be stored: only its essence is.
    pub(super) oversize: Option<Token>,
    /// After a commit that was refused or unavailable: not before this time.
    pub(super) retry_at: Option<jiff::Timestamp>,
    /// The session that has been told of (or has told of) the run with this token.
    pub(super) sent: Option<Sent>,
    /// The stop that was sent last, so that it is sent once per session.
    pub(super) stopping: Option<(SessionId, Token, StopReason)>,
    /// Journals that the current run seals, by the loop that lists each, if it still exists.
    pub(super) carried: Vec<(Option<LoopKey>, Unsealed)>,
    /// Own journals that another loop's run has sealed: the repository of each, and the token of the
    /// last run that is shut out. No more than the status lists.
    pub(super) sealed: Vec<(String, Token)>,
    /// Why it is not placed, as of the last look.
    pub(super) waiting: Option<Waiting>,
    /// Later loops that were placed past this one.
    pub(super) passed_over: u32,
    /// What of it stands in the indexes.
    pub(super) indexed: Indexed,
    /// The run that ended last, to acknowledge a repeated report of its end.
    pub(super) released: Option<Token>,
}

/// A run that a worker knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) session: SessionId,
    pub(super) uid: LoopUid,
    pub(super) token: Token,
}

/// A commit under way.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) commit: CommitId,
    pub(super) mutation: Mutation,
    /// Reports that this commit makes durable, to be acknowledged then.
    pub(super) reports: Vec<Report>,
    /// What users are told once it is durable.
    pub(super) notices: Vec<Notice>,
    /// Its answer was "unknown": it is being read back.
    pub(super) unresolved: bool,
}

impl LoopEntry {
    /// The token of the claim, if there is one.
    pub(super) fn token(&self) -> Option<Token> {
        self.claim.stored().map(|claim| Token(claim.create_revision))
    }

    /// Keeps what has to be sealed if this claim is lost.
    fn remember_claim(&mut self, claim: Option<&Stored<ClaimRecord>>) {
        if let Some(claim) = claim {
            self.last_token = Some(Token(claim.create_revision));
            self.last_resources.clone_from(&claim.value.resources);
        }
    }

    /// A release of its claim is under way.
    pub(super) fn is_releasing(&self) -> bool {
        let mutation = self.in_flight.as_ref().map(|in_flight| &in_flight.mutation);
        matches!(mutation, Some(Mutation::Release(_)))
    }

    /// The uid, if the record is known.
    pub(super) fn uid(&self) -> Option<&LoopUid> {
        self.record.get().map(|record| &record.uid)
    }
}

/// A node: its durable record, its session key and, on the leader, its stream.
#[derive(Debug, Default)]
pub(super) struct NodeEntry {
    pub(super) record: Slot<Arc<NodeRecord>>,
    pub(super) session: Slot<SessionRecord>,
    pub(super) stream: Option<super::event::Attached>,
    /// The stream's live runs have been compared with the claims.
    pub(super) adopted: bool,
    /// The stream's worker is shutting down and takes no new work.
    pub(super) leaving: bool,
    /// The deadline of its drain that has passed and was acted on.
    pub(super) drain_over: Option<jiff::Timestamp>,
    pub(super) in_flight: Option<InFlight>,
    /// News of the node that its durable record does not show yet.
    pub(super) news: Option<NodeNews>,
}

impl NodeEntry {
    /// When runs that have not reached their iteration's edge are stopped, if it is draining.
    pub(super) fn drain_deadline(&self) -> Option<jiff::Timestamp> {
        let record = self.record.get().filter(|record| record.mark == NodeMark::Draining)?;
        record.mark_deadline
    }

    /// What its runs are to do.
    pub(super) fn wish(&self) -> Option<StopReason> {
        let record = self.record.get().filter(|record| record.mark == NodeMark::Draining)?;
        let over = record.mark_deadline.is_some() && record.mark_deadline == self.drain_over;
        Some(if over { StopReason::Evict } else { StopReason::Drain })
    }
}

/// What a life of a loop that is gone leaves to be sealed.
#[derive(Debug, Default)]
pub(super) struct DutyEntry {
    pub(super) record: Slot<Arc<SealDuty>>,
    pub(super) in_flight: Option<InFlight>,
    /// What has been sealed of it: the repository, and the token of the last run that is shut out. No
    /// more than it lists.
    pub(super) sealed: Vec<(String, Token)>,
}

/// What the durable record of a node should say from now on.
#[derive(Debug, Clone)]
pub(super) struct NodeNews {
    pub(super) facts: NodeFacts,
    pub(super) incarnation: Incarnation,
    pub(super) seen_at: jiff::Timestamp,
}

/// The view.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) loops: BTreeMap<LoopKey, LoopEntry>,
    pub(super) nodes: BTreeMap<NodeName, NodeEntry>,
    pub(super) duties: BTreeMap<LoopUid, DutyEntry>,
    pub(super) leader: Slot<LeaderRecord>,
    /// The watch or a snapshot has delivered everything up to here.
    pub(super) revision: i64,
    pub(super) derived: Derived,
    pub(super) budgets: Budgets,
    /// Keys of loops whose values cannot be read: a newer scheduler wrote them. Few if any; each is
    /// forgotten with the next change of its key, so there are never more than keys of loops. True where what
    /// it is about may be alive.
    undecodable: BTreeMap<(LoopKey, LoopPart), bool>,
    /// What changed since the last call of `take_touched`.
    touched: BTreeSet<LoopKey>,
    touched_nodes: BTreeSet<NodeName>,
    touched_duties: BTreeSet<LoopUid>,
}

impl View {
    /// Takes one change; everything derived is brought up to date by `refresh`.
    pub(super) fn apply(&mut self, change: Change, revision: i64) {
        match change {
            Change::Loop(key, value) => {
                self.undecodable.remove(&(key.clone(), LoopPart::Spec));
                let entry = self.loops.entry(key.clone()).or_default();
                if entry.record.apply(value, revision) {
                    self.on_record(&key);
                }
                // Also for old news: it may have been the last that a gone loop was kept for.
                self.touched.insert(key);
            }
            Change::Status(key, value) => {
                self.undecodable.remove(&(key.clone(), LoopPart::Status));
                let entry = self.loops.entry(key.clone()).or_default();
                entry.status.apply(value, revision);
                self.touched.insert(key);
            }
            Change::Claim(key, value) => {
                self.undecodable.remove(&(key.clone(), LoopPart::Claim));
                let entry = self.loops.entry(key.clone()).or_default();
                // Also when it is gone already: its run may not be.
                let before = entry.last_token.unwrap_or_default();
                if value.as_ref().is_some_and(|claim| Token(claim.create_revision) >= before) {
                    entry.remember_claim(value.as_ref());
                }
                entry.claim.apply(value, revision);
                self.touched.insert(key);
            }
            Change::Node(name, value) => {
                let entry = self.nodes.entry(name.clone()).or_default();
                if entry.record.apply(value, revision) {
                    self.touched_nodes.insert(name);
                }
            }
            Change::Session(name, value) => {
                let entry = self.nodes.entry(name.clone()).or_default();
                if entry.session.apply(value, revision) {
                    self.touched_nodes.insert(name);
                }
            }
            Change::Duty(uid, value) => {
                // The loop, if it exists, may have been waiting for it.
                if let Some(duty) = &value {
                    self.touched.insert(super::duties::key_of(&duty.value));
                }
                self.duties.entry(uid.clone()).or_default().record.apply(value, revision);
                self.touched_duties.insert(uid);
            }
            change @ (Change::LoopAccount(..)
            | Change::NamespaceAccount(..)
            | Change::Budget(..)) => {
                self.touched.extend(self.budgets.on_change(change, revision));
            }
            Change::Leader(value) => {
                self.leader.apply(value, revision);
            }
            Change::Undecodable { key, held, .. } => {
                // An owner key or somebody else's is nothing that its loop's next step depends on.
                self.undecodable.extend(loop_part(&key).map(|part| (part, held)));
            }
            Change::Owner(..)
            | Change::Role(..)
            | Change::Binding(..)
            | Change::Revocation(..)
            | Change::Probe(..)
            | Change::Event(..)
            | Change::ForeignGone { .. } => {}
        }
    }

    /// Takes a whole listing: what it does not contain is gone, unless newer news is known.
    pub(super) fn reset(&mut self, mut snapshot: Snapshot) {
        let revision = snapshot.revision;
        self.budgets.reset(&mut snapshot);
        let mut records: BTreeMap<_, _> = snapshot.loops.into_iter().collect();
        let mut statuses: BTreeMap<_, _> = snapshot.statuses.into_iter().collect();
        let mut claims: BTreeMap<_, _> = snapshot.claims.into_iter().collect();
        let mut nodes: BTreeMap<_, _> = snapshot.nodes.into_iter().collect();
        let mut sessions: BTreeMap<_, _> = snapshot.sessions.into_iter().collect();
        for key in records.keys().chain(statuses.keys()).chain(claims.keys()) {
            self.loops.entry(key.clone()).or_default();
        }
        for name in nodes.keys().chain(sessions.keys()) {
            self.nodes.entry(name.clone()).or_default();
        }
        let keys: Vec<LoopKey> = self.loops.keys().cloned().collect();
        for key in keys {
            if let Some(entry) = self.loops.get_mut(&key) {
                entry.record.reset(records.remove(&key), revision);
                entry.status.reset(statuses.remove(&key), revision);
                entry.claim.reset(claims.remove(&key), revision);
                entry.remember_claim(entry.claim.stored().cloned().as_ref());
            }
            self.on_record(&key);
        }
        for (name, entry) in &mut self.nodes {
            entry.record.reset(nodes.remove(name), revision);
            entry.session.reset(sessions.remove(name), revision);
            self.touched_nodes.insert(name.clone());
        }
        let mut duties: BTreeMap<_, _> = snapshot.duties.into_iter().collect();
        for uid in duties.keys() {
            self.duties.entry(uid.clone()).or_default();
        }
        for (uid, entry) in &mut self.duties {
            entry.record.reset(duties.remove(uid), revision);
            self.touched_duties.insert(uid.clone());
        }
        self.leader.reset(snapshot.leader, revision);
        let undecodable = snapshot.undecodable.iter();
        let part = |one: &Undecodable| loop_part(&one.key).map(|part| (part, one.held));
        self.undecodable = undecodable.filter_map(part).collect();
        self.revision = self.revision.max(revision);
    }

    fn on_record(&mut self, key: &LoopKey) {
        self.touched.insert(key.clone());
        let Some(entry) = self.loops.get_mut(key) else { return };
        let set = entry.record.get().map(|record| set_of(record));
        entry.unreadable = set.as_ref().is_some_and(Option::is_none);
        entry.set = set.flatten().unwrap_or_default();
    }

    /// True if a key of this loop cannot be read: then nothing is decided about it.
    pub(super) fn is_left_alone(&self, key: &LoopKey) -> bool {
        if self.undecodable.is_empty() {
            return false;
        }
        let first = (key.clone(), LoopPart::Spec);
        self.undecodable.range(first..).next().is_some_and(|((other, _), _)| other == key)
    }

    /// The first loop whose claim cannot be read and may be that of a live run. Linear in the keys that
    /// cannot be read, which are few.
    pub(super) fn unreadable_claim(&self) -> Option<&LoopKey> {
        let is_claim = |one: &(&(LoopKey, LoopPart), &bool)| one.0.1 == LoopPart::Claim && *one.1;
        self.undecodable.iter().find(is_claim).map(|((key, _), _)| key)
    }

    /// Marks a loop for another look.
    pub(super) fn touch(&mut self, key: &LoopKey) {
        self.touched.insert(key.clone());
    }

    /// Marks the loops of a node's live claims for another look. A loop whose claim has changed since the last
    /// `refresh` is marked already.
    pub(super) fn touch_loops_of(&mut self, node: &NodeName) {
        self.touched.extend(self.derived.loops_of(node).cloned());
    }

    /// Loops that changed since the last call.
    pub(super) fn take_touched(&mut self) -> BTreeSet<LoopKey> {
        std::mem::take(&mut self.touched)
    }

    /// Nodes that changed since the last call.
    pub(super) fn take_touched_nodes(&mut self) -> BTreeSet<NodeName> {
        std::mem::take(&mut self.touched_nodes)
    }

    /// Duties that changed since the last call.
    pub(super) fn take_touched_duties(&mut self) -> BTreeSet<LoopUid> {
        std::mem::take(&mut self.touched_duties)
    }

    /// Marks a duty for another look.
    pub(super) fn touch_duty(&mut self, uid: &LoopUid) {
        self.touched_duties.insert(uid.clone());
    }

    /// Marks a node for another look.
    pub(super) fn touch_node(&mut self, name: &NodeName) {
        self.touched_nodes.insert(name.clone());
    }
}
