//! What the store's event log says, read from outside, and the lines of the history that follow from it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use flyball_core::ids::LoopKey;
use flyball_core::status::{LoopStatus, Phase, Reason};
use flyball_store::{Change, ClaimRecord};
use flyball_tests::history::Event;

use crate::surgeon::put_field;

/// A claim that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) token: i64,
    pub(crate) node: String,
    incarnation: String,
    resources: Vec<String>,
}

/// Whose lease is to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Revoke {
    /// Of one of the sessions, counted around.
    Session(usize),
    /// Of this node's session.
    Node(String),
    /// Of the leader.
    Leader,
}

/// The store's contents, as far as the history needs them.
#[derive(Default)]
pub(crate) struct View {
    /// Newest revision that was read.
    pub(crate) revision: i64,
    /// Every lease that a session had: its node and the newest token claimed on it.
    pub(crate) leases: BTreeMap<i64, (String, i64)>,
    /// Leases that were ended against the rules, so that their end says nothing about their runs.
    pub(crate) unfair: BTreeSet<i64>,
    /// Nodes' present leases.
    pub(crate) sessions: BTreeMap<String, i64>,
    /// Loops whose submission was acknowledged.
    pub(crate) acknowledged: BTreeSet<String>,
    /// Loops that are over: ended, or given up on until somebody looks.
    over: BTreeSet<String>,
    /// Loops that were parked because several runs in a row were lost: with so many faults that is how
    /// it has to be, and only a person takes them up again.
    pub(crate) given_up: BTreeSet<String>,
    /// A lease is to be ended against the rules.
    pub(crate) revoke: Option<Revoke>,
    /// Live claims, by loop.
    pub(crate) claims: BTreeMap<String, Held>,
    /// Loops whose run has told of itself.
    pub(crate) running: BTreeSet<String>,
    /// Loops that were removed.
    pub(crate) removed: BTreeSet<String>,
    /// Who leads, and its lease.
    pub(crate) leader: Option<(String, i64)>,
    /// Uids of loops for which the repository took a push.
    pub(crate) pushed: BTreeSet<String>,
    uids: BTreeMap<String, String>,
}

impl View {
    pub(crate) fn is_over(&self, key: &str) -> bool {
        self.over.contains(key) || self.given_up.contains(key)
    }

    /// Whether the repository took a push of the loop with this uid.
    pub(crate) fn has_pushed(&self, uid: &str) -> bool {
        self.pushed.contains(uid)
    }

    /// The bytes by which a renewal of this node's lease is told from others: the message's only field.
    pub(crate) fn renewal_of(&self, node: &str) -> Vec<u8> {
        let mut message = BytesMut::new();
        put_field(&mut message, 1, self.sessions.get(node).copied().unwrap_or(0));
        message.to_vec()
    }

    pub(crate) fn apply(&mut self, revision: i64, change: Change) -> Option<Event> {
        match change {
            Change::Loop(key, Some(found)) => {
                self.uids.insert(key.to_string(), found.value.uid.to_string());
                None
            }
            Change::Loop(key, None) => {
                self.removed.insert(key.to_string());
                None
            }
            Change::Status(key, Some(found)) => Some(self.status(revision, &key, &found.value)),
            Change::Claim(key, Some(found)) => {
                let token = found.create_revision;
                let held = Held {
                    token,
                    node: found.value.node.to_string(),
                    incarnation: found.value.incarnation.to_string(),
                    resources: found.value.resources.clone(),
                };
                // Put again as it was is nothing new.
                let known = self.claims.insert(key.to_string(), held.clone());
                (known != Some(held))
                    .then(|| self.claimed(revision, found.value, token, found.lease))
            }
            Change::Claim(key, None) => {
                let key = key.to_string();
                let token = self.claims.remove(&key).map_or(0, |held| held.token);
                Some(Event::Unclaimed { key, token, revision })
            }
            Change::Session(node, Some(found)) => {
                let lease = found.value.lease;
                self.sessions.insert(node.to_string(), lease);
                self.leases.entry(lease).or_insert_with(|| (node.to_string(), 0));
                None
            }
            Change::Session(node, None) => self.session_over(node.as_str()),
            Change::Leader(found) => {
                self.leader = found.map(|found| (found.value.id, found.lease));
                let id = self.leader.as_ref().map(|leader| leader.0.clone()).unwrap_or_default();
                Some(Event::Leader { id, revision })
            }
            _ => None,
        }
    }

    /// A session goes with its lease, and a lease may only end when its runs are dead.
    fn session_over(&mut self, node: &str) -> Option<Event> {
        let lease = self.sessions.remove(node)?;
        let token_max = self.leases.get(&lease).map_or(0, |lease| lease.1);
        let fair = !self.unfair.contains(&lease);
        (fair && token_max > 0).then(|| Event::DeadBy { node: node.to_owned(), token_max })
    }

    fn claimed(&mut self, revision: i64, claim: ClaimRecord, token: i64, lease: i64) -> Event {
        let node = claim.node.to_string();
        let newest = self.leases.entry(lease).or_insert_with(|| (node.clone(), 0));
        newest.1 = newest.1.max(token);
        Event::Claimed {
            key: claim.key.to_string(),
            uid: claim.uid.to_string(),
            node,
            incarnation: claim.incarnation.to_string(),
            token,
            lease,
            resources: claim.resources,
            revision,
        }
    }

    fn status(&mut self, revision: i64, key: &LoopKey, status: &LoopStatus) -> Event {
        let key = key.to_string();
        let ended = status.phase.is_terminal();
        mark(&mut self.over, &key, ended);
        let lost = status.phase == Phase::Parked && status.reason == Reason::RunsLost;
        mark(&mut self.given_up, &key, lost);
        mark(&mut self.running, &key, status.phase == Phase::Running);
        let published = status.progress.published.clone().unwrap_or_default();
        Event::Status {
            uid: self.uids.get(&key).cloned().unwrap_or_default(),
            key,
            generation: status.observed_generation,
            phase: status.phase.to_string(),
            result: if ended { published } else { String::new() },
            unsealed: status.unsealed.iter().map(|unsealed| unsealed.token.0).collect(),
            revision,
        }
    }
}

fn mark(set: &mut BTreeSet<String>, key: &str, there: bool) {
    if there {
        set.insert(key.to_owned());
    } else {
        set.remove(key);
    }
}
