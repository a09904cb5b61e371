//! Workers' sessions: attach, adoption of live runs, marks, and the durable record of each node.

use std::sync::Arc;

use flyball_core::ids::{NodeName, Token};
use flyball_core::node::NodeRecord;
use flyball_store::{Mutation, PutNode};
use jiff::Timestamp;

use super::Reactor;
use super::event::{Attached, Effect, SessionId, StopReason, ToNode};
use super::view::{NodeNews, Sent};

impl Reactor {
    pub(super) fn on_attached(&mut self, attached: Attached, now: Timestamp) {
        let session = attached.session;
        if !self.is_leading() {
            self.close(session, "not-leader", "this scheduler does not lead");
            return;
        }
        let name = attached.node.clone();
        let news = NodeNews {
            facts: attached.facts.clone(),
            incarnation: attached.incarnation.clone(),
            seen_at: now,
        };
        let entry = self.view.nodes.entry(name.clone()).or_default();
        entry.news = Some(news);
        entry.adopted = false;
        entry.leaving = false;
        if let Some(old) = entry.stream.replace(attached) {
            // The store holds one session per node, so the old stream is dead or of this very worker.
            self.close(old.session, "replaced", "the node has opened a newer session");
        }
        self.view.touch_node(&name);
    }

    pub(super) fn on_detached(&mut self, session: SessionId, now: Timestamp) {
        let gone = |stream: &Attached| stream.session == session;
        let Some((name, entry)) =
            self.view.nodes.iter_mut().find(|(_, entry)| entry.stream.as_ref().is_some_and(gone))
        else {
            return;
        };
        let Some(stream) = entry.stream.take() else { return };
        entry.adopted = false;
        entry.news =
            Some(NodeNews { facts: stream.facts, incarnation: stream.incarnation, seen_at: now });
        let name = name.clone();
        self.view.touch_node(&name);
    }

    /// The worker of this stream is shutting down. Its runs go on; it only gets nothing new.
    pub(super) fn on_leaving(&mut self, session: SessionId) {
        let of = |stream: &Attached| stream.session == session;
        let mut nodes = self.view.nodes.iter_mut();
        let Some((name, entry)) = nodes.find(|(_, node)| node.stream.as_ref().is_some_and(of))
        else {
            return;
        };
        entry.leaving = true;
        let name = name.clone();
        self.view.touch_node(&name);
    }

    /// Ends a stream that does not keep the protocol; the worker comes back with a new one.
    pub(super) fn drop_session(&mut self, session: SessionId, message: &str) {
        let of = |stream: &Attached| stream.session == session;
        for entry in self.view.nodes.values_mut() {
            if entry.stream.as_ref().is_some_and(of) {
                entry.stream = None;
                entry.adopted = false;
            }
        }
        self.close(session, "protocol", message);
    }

    pub(super) fn close(&mut self, session: SessionId, reason: &'static str, message: &str) {
        self.effects.push(Effect::Close { session, reason, message: message.to_owned() });
    }

    pub(super) fn close_all_sessions(&mut self) {
        for entry in self.view.nodes.values_mut() {
            entry.adopted = false;
            entry.news = None;
            entry.in_flight = None;
            if let Some(stream) = entry.stream.take() {
                self.effects.push(Effect::Close {
                    session: stream.session,
                    reason: "not-leader",
                    message: "this scheduler no longer leads".to_owned(),
                });
            }
        }
    }

    pub(super) fn reconcile_node(&mut self, name: &NodeName, now: Timestamp) {
        if !self.is_acting() {
            return;
        }
        self.end_lost_session(name);
        self.adopt(name, now);
        self.put_node(name);
        // A mark or a session may change what the node's loops are to be told.
        self.view.touch_loops_of(name);
        self.wake_all = true;
    }

    /// Drains whose deadline has passed: their runs are told to stop now.
    pub(super) fn end_drains(&mut self, now: Timestamp) {
        let mut over = Vec::new();
        for (name, entry) in &mut self.view.nodes {
            let due = entry.drain_deadline().filter(|at| *at <= now);
            if due.is_some() && due != entry.drain_over {
                entry.drain_over = due;
                over.push(name.clone());
            }
        }
        over.iter().for_each(|name| self.view.touch_node(name));
        self.find_next_drain();
    }

    pub(super) fn find_next_drain(&mut self) {
        let open = |entry: &super::view::NodeEntry| {
            entry.drain_deadline().filter(|at| Some(*at) != entry.drain_over)
        };
        self.next_drain = self.view.nodes.values().filter_map(open).min();
    }

    /// The session key is gone or another incarnation's: this one's lease has ended.
    fn end_lost_session(&mut self, name: &NodeName) {
        let Some(entry) = self.view.nodes.get_mut(name) else { return };
        let Some(stream) = &entry.stream else { return };
        let known_later = entry.session.revision() >= stream.session_revision;
        let same = entry.session.get().is_some_and(|s| s.incarnation == stream.incarnation);
        if known_later && !same {
            let session = stream.session;
            entry.stream = None;
            entry.adopted = false;
            self.close(session, "lost", "the lease of this incarnation has ended");
        }
    }

    /// Compares the runs that are alive in the worker with the claims. Those that match are its own
    /// and go on; those without a claim must stop; claims without a run are sent (again) when their
    /// loops are reconciled.
    fn adopt(&mut self, name: &NodeName, now: Timestamp) {
        let Some(entry) = self.view.nodes.get_mut(name) else { return };
        let Some(stream) = entry.stream.as_ref().filter(|_| !entry.adopted) else { return };
        let (session, incarnation) = (stream.session, stream.incarnation.clone());
        let runs = stream.runs.clone();
        entry.adopted = true;
        let mut unknown = false;
        for run in runs {
            let entry = self.view.loops.get_mut(&run.key);
            let owned = entry.filter(|entry| {
                entry.claim.stored().is_some_and(|claim| {
                    claim.value.uid == run.uid
                        && claim.value.incarnation == incarnation
                        && Token(claim.create_revision) == run.token
                })
            });
            if let Some(entry) = owned {
                entry.sent = Some(Sent { session, uid: run.uid, token: run.token });
            } else {
                unknown = true;
                let (uid, token, reason) = (run.uid, run.token, StopReason::Lost);
                let message = ToNode::Stop { uid, token, reason };
                self.effects.push(Effect::Send { session, message });
            }
        }
        if unknown && self.unheard.waits_for(name) {
            self.unheard.on_unknown(name, now);
        } else {
            self.unheard.on_adopted(name);
        }
    }

    /// Writes the node's record if there is news of it.
    fn put_node(&mut self, name: &NodeName) {
        let Some(entry) = self.view.nodes.get_mut(name) else { return };
        if entry.in_flight.is_some() || self.node_retries.contains_key(name) {
            return;
        }
        let Some(news) = entry.news.clone() else { return };
        let old = entry.record.get().cloned();
        let record = NodeRecord {
            name: name.clone(),
            facts: news.facts,
            incarnation: news.incarnation,
            seen_at: Some(news.seen_at),
            ..old.as_deref().cloned().unwrap_or_default()
        };
        if old.as_deref() == Some(&record) {
            entry.news = None;
            return;
        }
        let node_revision = entry.record.mod_revision();
        let record = Arc::new(record);
        self.commit_node(name, Mutation::PutNode(PutNode { record, node_revision }));
    }
}
