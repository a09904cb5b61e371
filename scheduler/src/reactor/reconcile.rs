//! Level-based reconciliation of one loop: from what its keys say now to the one thing that should
//! happen next. It may run at any time and any number of times.

use std::sync::Arc;

use flyball_core::ids::{LoopKey, Token};
use flyball_core::node::NodeMark;
use flyball_core::status::{LoopStatus, Phase, Unsealed};
use flyball_store::{
    ClaimRecord, LoopRecord, Mutation, OrphanKey, PutStatus, RemoveLoop, RemoveOrphan,
};
use jiff::Timestamp;

use super::event::{Assignment, Effect, Notice, StopReason, ToNode};
use super::view::LoopEntry;
use super::{Reactor, reports, status};

/// What should be written next for a loop.
pub(super) enum Step {
    /// Write the status; with a token if only the owner's run may.
    Put { status: Box<LoopStatus>, token: Option<Token>, notice: Option<Notice> },
    /// Make the reports of the owner durable.
    Reports(Box<reports::Folded>),
    /// Remove the loop.
    Remove,
    /// Remove a claim whose loop is gone.
    Orphan,
}

impl Reactor {
    pub(super) fn reconcile(&mut self, key: &LoopKey, now: Timestamp) {
        if !self.is_acting() {
            return;
        }
        let ready = self.view.loops.get(key).is_some_and(|e| e.in_flight.is_none());
        if ready {
            self.refuse_foreign_reports(key);
        }
        self.tell_node(key);
        let Some(entry) = self.view.loops.get(key) else { return };
        if entry.in_flight.is_some() || entry.retry_at.is_some_and(|at| at > now) {
            return;
        }
        match next_step(key, entry, self.proven_of(entry), now) {
            None => {}
            Some(Step::Put { status, token, notice }) => {
                self.put_status(key, *status, token, notice);
            }
            Some(Step::Reports(folded)) => self.commit_reports(key, *folded, now),
            Some(Step::Remove) => self.remove_loop(key),
            Some(Step::Orphan) => self.remove_orphan(key),
        }
    }

    /// True if the incarnation that owned the loop last is known to be gone with all its processes.
    fn proven_of(&self, entry: &LoopEntry) -> bool {
        let incarnation = entry.status.get().and_then(|status| status.incarnation.as_ref());
        incarnation.is_some_and(|incarnation| self.proven.contains(incarnation))
    }

    fn put_status(
        &mut self,
        key: &LoopKey,
        status: LoopStatus,
        token: Option<Token>,
        notice: Option<Notice>,
    ) {
        let Some(entry) = self.view.loops.get(key) else { return };
        let status_revision = entry.status.mod_revision();
        let put = PutStatus { key: key.clone(), status: Arc::new(status), status_revision, token };
        let notices = notice.into_iter().collect();
        self.commit_loop(key, Mutation::PutStatus(put), Vec::new(), notices);
    }

    fn remove_loop(&mut self, key: &LoopKey) {
        let Some(entry) = self.view.loops.get(key) else { return };
        let loop_revision = entry.record.mod_revision();
        let remove = RemoveLoop { key: key.clone(), loop_revision };
        self.commit_loop(key, Mutation::RemoveLoop(remove), Vec::new(), Vec::new());
    }

    /// A claim without its loop: somebody removed keys by hand, or re-created the loop under a
    /// running one. Its node is told to stop, then the claim goes.
    fn remove_orphan(&mut self, key: &LoopKey) {
        let Some(entry) = self.view.loops.get(key) else { return };
        let revision = entry.claim.mod_revision();
        let remove = RemoveOrphan { orphan: OrphanKey::Claim(key.clone()), revision };
        self.commit_loop(key, Mutation::RemoveOrphan(remove), Vec::new(), Vec::new());
    }

    /// Sends what the loop's node should know: the assignment if it has not been told in this
    /// session, and a reason to stop.
    fn tell_node(&mut self, key: &LoopKey) {
        self.stop_lost(key);
        let Some(entry) = self.view.loops.get(key) else { return };
        let Some(claim) = entry.claim.stored() else { return };
        let token = Token(claim.create_revision);
        let Some(node) = self.view.nodes.get(&claim.value.node) else { return };
        let Some(stream) = node.stream.as_ref().filter(|_| node.adopted) else { return };
        if stream.incarnation != claim.value.incarnation {
            return;
        }
        let session = stream.session;
        let told = entry.sent == Some((session, token));
        let releasing = entry.is_releasing();
        if !told && !releasing && entry.uid() == Some(&claim.value.uid) {
            self.send_assignment(key);
        }
        let mark = node_mark(self, key);
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        let Some(reason) = stop_reason(entry, mark).filter(|_| !releasing) else { return };
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
        entry.sent = Some((session, token));
        entry.carried = carried;
        let message = ToNode::Assign(Box::new(assignment));
        self.effects.push(Effect::Send { session, message });
    }

    /// All unsealed journals whose set overlaps this claim, and where each is listed.
    fn unsealed_for(
        &self,
        key: &LoopKey,
        claim: &ClaimRecord,
    ) -> (Vec<Unsealed>, Vec<(LoopKey, Token)>) {
        let set = super::derived::set_of_entries(&claim.resources);
        let (mut unsealed, mut carried) = (Vec::new(), Vec::new());
        for other in &self.view.derived.unsealed {
            let status = self.view.loops.get(other).and_then(|entry| entry.status.get());
            for entry in status.into_iter().flat_map(|status| &status.unsealed) {
                let blocked = super::derived::set_of_entries(&entry.resources);
                if other == key || set.conflicts(&blocked) {
                    unsealed.push(entry.clone());
                    carried.push((other.clone(), entry.token));
                }
            }
        }
        (unsealed, carried)
    }

    /// A run that the node was told of and whose claim is gone must be killed, if it still can be
    /// reached. (Its guard does so at the deadline in any case.)
    fn stop_lost(&mut self, key: &LoopKey) {
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        let Some((session, token)) = entry.sent else { return };
        // While a release is under way the watch may show the claim's end before the commit's answer.
        if entry.token() == Some(token) || entry.is_releasing() {
            return;
        }
        entry.sent = None;
        if entry.released == Some(token) {
            return;
        }
        let uid = entry.record.get().map(|record| record.uid.clone());
        if let Some(uid) = uid {
            let message = ToNode::Stop { uid, token, reason: StopReason::Lost };
            self.effects.push(Effect::Send { session, message });
        }
    }
}

fn node_mark(reactor: &Reactor, key: &LoopKey) -> NodeMark {
    let entry = reactor.view.loops.get(key);
    let claim = entry.and_then(|entry| entry.claim.get());
    let node = claim.and_then(|claim| reactor.view.nodes.get(&claim.node));
    node.and_then(|node| node.record.get()).map(|record| record.mark).unwrap_or_default()
}

/// Why the run of this loop should stop, if it should.
fn stop_reason(entry: &LoopEntry, mark: NodeMark) -> Option<StopReason> {
    let record = entry.record.get()?;
    let status = entry.status.get()?;
    if record.cancel.is_some() || record.delete {
        Some(StopReason::Cancel)
    } else if mark == NodeMark::Draining {
        Some(StopReason::Drain)
    } else if record.generation != status.observed_generation {
        Some(StopReason::Respec)
    } else {
        None
    }
}

/// After a cancel nothing milder is sent to the same run.
fn is_milder_repeat(
    sent: Option<(super::SessionId, Token, StopReason)>,
    next: (super::SessionId, Token, StopReason),
) -> bool {
    sent.is_some_and(|(session, token, reason)| {
        session == next.0 && token == next.1 && reason == StopReason::Cancel
    })
}

fn next_step(key: &LoopKey, entry: &LoopEntry, proven: bool, now: Timestamp) -> Option<Step> {
    let Some(record) = entry.record.get() else {
        return entry.claim.get().map(|_| Step::Orphan);
    };
    let status = entry.status.get()?;
    if let Some(claim) = entry.claim.get() {
        if claim.uid != record.uid {
            return Some(Step::Orphan);
        }
        return reports::fold(entry).map(Box::new).map(Step::Reports);
    }
    if status.phase.is_owned() {
        // A scheduler that started after the claim vanished does not know its token. The revision of
        // the status stands for it: it is not lower, and lower than that of every later claim.
        let token = entry.last_token.unwrap_or_else(|| Token(entry.status.mod_revision()));
        return Some(lost_step(key, record, status, (!proven).then_some(token), now));
    }
    let unwanted = record.cancel.is_some() || record.delete;
    if unwanted && !status.phase.is_terminal() {
        let reason = record.cancel.as_deref().unwrap_or("deleted");
        let status = Box::new(status::cancelled(status, reason, now));
        let notice = Some(notice(key, "Cancelled", &status.message, &status));
        return Some(Step::Put { status, token: None, notice });
    }
    if status.phase.is_terminal() && is_over(record, status, now) {
        return Some(Step::Remove);
    }
    if !unwanted && let Some(step) = move_on_step(key, record, status, now) {
        return Some(step);
    }
    sealed_step(entry, record, status, now)
}

/// Running without a claim is lost. The claim of a loop whose release is under way or committed is
/// gone together with the owned phase, so it never comes here.
///
/// `token` is that of the lost run, absent if all of its processes are known to be gone.
fn lost_step(
    key: &LoopKey,
    record: &LoopRecord,
    status: &LoopStatus,
    token: Option<Token>,
    now: Timestamp,
) -> Step {
    let unsealed = token.and_then(|token| unsealed_of(key, record, token));
    let next = Box::new(status::lost(status, unsealed, now));
    let notice = Some(notice(key, "RunLost", &next.message, &next));
    Step::Put { status: next, token: None, notice }
}

/// What has to be sealed after a run that was not proven to have stopped; nothing if the loop has no
/// repository, since then nothing outside its node can be touched by it.
pub(super) fn unsealed_of(key: &LoopKey, record: &LoopRecord, token: Token) -> Option<Unsealed> {
    let repository = record.spec.workspace.as_ref()?.git.url.clone();
    let resources = super::derived::set_of(record).canonical();
    Some(Unsealed {
        loop_uid: record.uid.clone(),
        loop_key: key.to_string(),
        token,
        resources,
        repository,
    })
}

/// An ended loop is to be removed: a user said so, or its time has passed.
fn is_over(record: &LoopRecord, status: &LoopStatus, now: Timestamp) -> bool {
    let over = record
        .spec
        .ttl_after_finished
        .zip(status.finished_at)
        .is_some_and(|(ttl, at)| at.checked_add(ttl.0).is_ok_and(|due| due <= now));
    let outdated = record.generation != status.observed_generation && record.cancel.is_none();
    record.delete || (over && !outdated)
}

/// The spec changed while nobody owned the loop, or its pause is over.
fn move_on_step(
    key: &LoopKey,
    record: &LoopRecord,
    status: &LoopStatus,
    now: Timestamp,
) -> Option<Step> {
    let (next, code) = if record.generation != status.observed_generation {
        (status::respecified(status, record, now), "Respecified")
    } else if status.phase == Phase::Parked && status.parked_until.is_some_and(|at| at <= now) {
        (status::park_due(status, now), "Resumed")
    } else {
        return None;
    };
    let notice = Some(notice(key, code, &next.message, &next));
    Some(Step::Put { status: Box::new(next), token: None, notice })
}

fn sealed_step(
    entry: &LoopEntry,
    record: &LoopRecord,
    status: &LoopStatus,
    now: Timestamp,
) -> Option<Step> {
    let through = entry.sealed?;
    let next = status::sealed(status, record, through, now);
    (next != *status).then(|| Step::Put { status: Box::new(next), token: None, notice: None })
}

pub(super) fn notice(
    key: &LoopKey,
    reason: &'static str,
    message: &str,
    status: &LoopStatus,
) -> Notice {
    Notice { key: key.clone(), reason, message: message.to_owned(), node: status.node.clone() }
}
