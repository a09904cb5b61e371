//! Telling nodes: assignments that a worker does not know of yet, reasons to stop, and taking back
//! what it was never told of.

use std::sync::Arc;

use flyball_core::ids::{LoopKey, Token};
use flyball_core::planted::{self, Bug};
use flyball_core::status::Unsealed;
use flyball_store::{ClaimRecord, Mutation, Release};
use jiff::Timestamp;

use super::event::{Assignment, Effect, StopReason, ToNode};
use super::view::{LoopEntry, NodeEntry, Sent};
use super::{Reactor, SessionId, status};

impl Reactor {
    /// Sends what the loop's node should know: the assignment if it has not been told in this
    /// session, and a reason to stop.
    pub(super) fn tell_node(&mut self, key: &LoopKey) {
        self.stop_lost(key);
        let Some(entry) = self.view.loops.get(key) else { return };
        let Some(claim) = entry.claim.stored() else { return };
        let token = Token(claim.create_revision);
        let Some(node) = self.view.nodes.get(&claim.value.node) else { return };
        let Some(stream) = node.stream.as_ref().filter(|_| node.adopted) else { return };
        if stream.incarnation != claim.value.incarnation {
            return;
        }
        let (session, wish) = (stream.session, node.wish());
        let releasing = entry.is_releasing();
        if !is_told(entry, session) {
            // What should stop is not started: the assignment is taken back.
            let unwanted = node.leaving || stop_reason(entry, wish).is_some();
            // A claim may be of a state that was restored: what runs elsewhere is heard first.
            let start = !unwanted && !releasing && self.unheard.is_empty();
            if start && entry.uid() == Some(&claim.value.uid) {
                self.send_assignment(key);
            }
            return;
        }
        let Some(reason) = stop_reason(entry, wish).filter(|_| !releasing) else { return };
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        let Some(uid) = entry.claim.get().map(|claim| claim.uid.clone()) else { return };
        // One stop per session, and a cancel may follow a milder one.
        let stop = (session, token, reason);
        let sent = entry.stopping;
        if sent != Some(stop) && !is_milder_repeat(sent, stop) {
            entry.stopping = Some(stop);
            let message = ToNode::Stop { uid, token, reason };
            self.effects.push(Effect::Send { session, message });
        }
    }

    fn send_assignment(&mut self, key: &LoopKey) {
        let Some(entry) = self.view.loops.get(key) else { return };
        let (Some(claim), Some(record)) = (entry.claim.stored(), entry.record.get()) else {
            return;
        };
        let Some(status) = entry.status.get() else { return };
        let node = self.view.nodes.get(&claim.value.node);
        let Some(session) = node.and_then(|n| n.stream.as_ref()).map(|s| s.session) else { return };
        let token = Token(claim.create_revision);
        let uid = claim.value.uid.clone();
        let (unsealed, carried) = self.unsealed_for(key, &claim.value);
        let previous = status.progress.recent.last().map(|iteration| iteration.node.0.clone());
        let assignment = Assignment {
            key: key.clone(),
            uid: record.uid.clone(),
            generation: record.generation,
            token,
            attempt: claim.value.attempt.clone(),
            spec: record.spec.clone(),
            progress: status.progress.clone(),
            unsealed,
            traceparent: record.traceparent.clone(),
            previous_node: previous.unwrap_or_default(),
        };
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        entry.sent = Some(Sent { session, uid, token });
        entry.carried = carried;
        let message = ToNode::Assign(Box::new(assignment));
        self.effects.push(Effect::Send { session, message });
    }

    /// All unsealed journals whose set overlaps this claim, and where each is listed.
    fn unsealed_for(
        &self,
        key: &LoopKey,
        claim: &ClaimRecord,
    ) -> (Vec<Unsealed>, Vec<(Option<LoopKey>, Unsealed)>) {
        let set = super::derived::set_of_entries(&claim.resources);
        let (mut unsealed, mut carried) = (Vec::new(), Vec::new());
        for other in &self.view.derived.unsealed {
            if planted::is(Bug::UnsealedIgnored) && other != key {
                continue;
            }
            let status = self.view.loops.get(other).and_then(|entry| entry.status.get());
            for entry in status.into_iter().flat_map(|status| &status.unsealed) {
                let blocked = super::derived::set_of_entries(&entry.resources);
                if other == key || set.conflicts(&blocked) {
                    unsealed.push(entry.clone());
                    carried.push((Some(other.clone()), entry.clone()));
                }
            }
        }
        if !planted::is(Bug::UnsealedIgnored) && !planted::is(Bug::DutyIgnored) {
            for entry in self.duties_over(&set) {
                unsealed.push(entry.clone());
                carried.push((None, entry.clone()));
            }
        }
        (unsealed, carried)
    }

    /// Takes back an assignment whose loop changed before its node was told: nothing of it has run.
    pub(super) fn unassign(&mut self, key: &LoopKey, now: Timestamp) {
        let Some(entry) = self.view.loops.get(key) else { return };
        let (Some(claim), Some(token)) = (entry.claim.get(), entry.token()) else { return };
        let Some(old) = entry.status.get() else { return };
        let status = Arc::new(status::unassigned(old, now));
        let release = Release {
            key: key.clone(),
            uid: claim.uid.clone(),
            status,
            status_revision: entry.status.mod_revision(),
            token,
            owners: super::derived::owners_of(&claim.resources),
        };
        self.commit_loop(key, Mutation::Release(release), Vec::new(), Vec::new());
    }

    /// True if the loop's node is attached, has told what runs on it, and does not know of this
    /// assignment, though the loop is not to run as it was assigned, or the node is shutting down.
    pub(super) fn is_untold_and_unwanted(&self, key: &LoopKey, entry: &LoopEntry) -> bool {
        let node = entry.claim.get().and_then(|claim| self.view.nodes.get(&claim.node));
        let stream = node.filter(|node| node.adopted).and_then(|node| node.stream.as_ref());
        let of_claim =
            stream.zip(entry.claim.get()).filter(|(s, c)| s.incarnation == c.incarnation);
        of_claim.is_some_and(|(stream, _)| !is_told(entry, stream.session))
            && (node.is_some_and(|node| node.leaving)
                || stop_reason(entry, node_wish(self, key)).is_some())
    }

    /// True if the loop's node is attached and does not know of its claim.
    pub(super) fn is_untold(&self, entry: &LoopEntry) -> bool {
        let node = entry.claim.get().and_then(|claim| self.view.nodes.get(&claim.node));
        let stream = node.and_then(|node| node.stream.as_ref());
        stream.is_some_and(|stream| !is_told(entry, stream.session))
    }

    /// The run of a claim whose loop is gone is killed before others can own its resources.
    pub(super) fn stop_orphan(&mut self, key: &LoopKey) {
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        let (Some(claim), Some(token)) = (entry.claim.get(), entry.token()) else { return };
        let node = self.view.nodes.get(&claim.node);
        let stream = node.filter(|node| node.adopted).and_then(|node| node.stream.as_ref());
        let Some(stream) = stream.filter(|s| s.incarnation == claim.incarnation) else { return };
        let (session, uid) = (stream.session, claim.uid.clone());
        entry.sent.take_if(|sent| sent.token == token);
        let message = ToNode::Stop { uid, token, reason: StopReason::Lost };
        self.effects.push(Effect::Send { session, message });
    }

    /// A run that the node was told of and whose claim is gone must be killed, if it still can be
    /// reached. (Its guard does so at the deadline in any case.)
    fn stop_lost(&mut self, key: &LoopKey) {
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        let told = entry.sent.as_ref().map(|sent| sent.token);
        // While a release is under way the watch may show the claim's end before the commit's answer.
        if entry.token() == told || entry.is_releasing() {
            return;
        }
        let Some(Sent { session, uid, token }) = entry.sent.take() else { return };
        if entry.released == Some(token) {
            return;
        }
        let message = ToNode::Stop { uid, token, reason: StopReason::Lost };
        self.effects.push(Effect::Send { session, message });
    }
}

/// The node of the loop's claim knows of its run, by this session.
fn is_told(entry: &LoopEntry, session: SessionId) -> bool {
    let sent = entry.sent.as_ref();
    sent.is_some_and(|sent| sent.session == session && Some(sent.token) == entry.token())
}

/// What the runs of the loop's node are to do.
fn node_wish(reactor: &Reactor, key: &LoopKey) -> Option<StopReason> {
    let entry = reactor.view.loops.get(key);
    let claim = entry.and_then(|entry| entry.claim.get());
    let node = claim.and_then(|claim| reactor.view.nodes.get(&claim.node));
    node.and_then(NodeEntry::wish)
}

/// Why the run of this loop should stop, if it should.
fn stop_reason(entry: &LoopEntry, wish: Option<StopReason>) -> Option<StopReason> {
    let record = entry.record.get()?;
    let status = entry.status.get()?;
    if record.cancel.is_some() || record.delete {
        Some(StopReason::Cancel)
    } else if wish.is_some() {
        wish
    } else if record.generation != status.observed_generation {
        Some(StopReason::Respec)
    } else {
        None
    }
}

/// After a cancel nothing milder is sent to the same run.
fn is_milder_repeat(
    sent: Option<(SessionId, Token, StopReason)>,
    next: (SessionId, Token, StopReason),
) -> bool {
    sent.is_some_and(|(session, token, reason)| {
        session == next.0 && token == next.1 && reason == StopReason::Cancel
    })
}
