//! Commits under way: what was handed to the committer, and what its answers mean for the view.

use std::sync::Arc;

use flyball_core::ids::{AttemptId, LoopKey, LoopUid, NodeName, Token};
use flyball_core::lifecycle::loop_pause;
use flyball_core::status::{LoopStatus, Reason};
use flyball_store::{
    Assign, Change, Found, Mutation, OrphanKey, PutDuty, PutNode, PutStatus, Release, RemoveLoop,
    RemoveOrphan, Stored,
};
use jiff::Timestamp;

use super::event::{CommitId, CommitResult, Effect, Notice, Report};
use super::view::InFlight;
use super::{RETRY_AFTER, RETRY_INVALID_AFTER, Reactor, Role};

/// What a commit is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    Loop(LoopKey),
    Node(NodeName),
    Duty(LoopUid),
}

impl Reactor {
    fn next_commit(&mut self) -> CommitId {
        self.commit_last += 1;
        CommitId(self.commit_last)
    }

    /// A fresh attempt id: unique in the installation, since the term is a revision of the store and
    /// the number is never used twice in it.
    pub(super) fn next_attempt(&mut self) -> AttemptId {
        let term = if let Role::Leader(revision) = self.role { revision } else { 0 };
        AttemptId(format!("{term}.{}", self.commit_last + 1))
    }

    /// Starts a commit for a loop; no other one may be under way for it.
    pub(super) fn commit_loop(
        &mut self,
        key: &LoopKey,
        mutation: Mutation,
        reports: Vec<Report>,
        notices: Vec<Notice>,
    ) {
        let commit = self.next_commit();
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        let copy = mutation.clone();
        entry.in_flight =
            Some(InFlight { commit, mutation: copy, reports, notices, unresolved: false });
        entry.retry_at = None;
        self.commits.insert(commit, Subject::Loop(key.clone()));
        self.effects.push(Effect::Commit { commit, mutation });
    }

    /// Starts a commit for a node; no other one may be under way for it.
    pub(super) fn commit_node(&mut self, name: &NodeName, mutation: Mutation) {
        let commit = self.next_commit();
        let Some(entry) = self.view.nodes.get_mut(name) else { return };
        let copy = mutation.clone();
        let (reports, notices) = (Vec::new(), Vec::new());
        entry.in_flight =
            Some(InFlight { commit, mutation: copy, reports, notices, unresolved: false });
        self.commits.insert(commit, Subject::Node(name.clone()));
        self.effects.push(Effect::Commit { commit, mutation });
    }

    /// Starts a commit for a seal duty; no other one may be under way for it.
    pub(super) fn commit_duty(&mut self, put: PutDuty, notices: Vec<Notice>) {
        let commit = self.next_commit();
        let Some(entry) = self.view.duties.get_mut(&put.uid) else { return };
        self.commits.insert(commit, Subject::Duty(put.uid.clone()));
        let mutation = Mutation::PutDuty(put);
        let (copy, reports) = (mutation.clone(), Vec::new());
        entry.in_flight =
            Some(InFlight { commit, mutation: copy, reports, notices, unresolved: false });
        self.effects.push(Effect::Commit { commit, mutation });
    }

    pub(super) fn on_committed(&mut self, commit: CommitId, result: CommitResult, now: Timestamp) {
        // An answer of an earlier term: the listing that began this one has told already.
        let Some(subject) = self.commits.get(&commit).cloned() else { return };
        if result == CommitResult::Unknown {
            self.on_unknown(commit, &subject);
            return;
        }
        self.commits.remove(&commit);
        let Some(in_flight) = self.take_in_flight(&subject, commit) else { return };
        match result {
            CommitResult::Committed { revision } => {
                self.on_done(&subject, in_flight, revision, now);
            }
            CommitResult::Refused { found } => {
                tracing::debug!(?subject, %found, "commit refused; planned again");
                self.on_not_done(&subject, in_flight, now);
                if let Subject::Loop(key) = &subject {
                    self.remove_orphan_owner(key, found);
                }
            }
            CommitResult::Unavailable => self.on_not_done(&subject, in_flight, now),
            CommitResult::Invalid { message } => {
                tracing::error!(?subject, %message, "commit can never succeed");
                self.forget_news(&in_flight.mutation);
                let reporter = in_flight.reports.first().map(|report| report.token);
                self.on_not_done(&subject, in_flight, now);
                self.on_invalid(&subject, reporter, now);
            }
            CommitResult::Unknown => {}
        }
    }

    fn take_in_flight(&mut self, subject: &Subject, commit: CommitId) -> Option<InFlight> {
        let slot = match subject {
            Subject::Loop(key) => {
                self.view.touch(key);
                &mut self.view.loops.get_mut(key)?.in_flight
            }
            Subject::Node(name) => {
                self.view.touch_node(name);
                &mut self.view.nodes.get_mut(name)?.in_flight
            }
            Subject::Duty(uid) => {
                self.view.touch_duty(uid);
                &mut self.view.duties.get_mut(uid)?.in_flight
            }
        };
        slot.take_if(|in_flight| in_flight.commit == commit)
    }

    /// Durable: the view takes it from here, the watch will repeat it.
    fn on_done(&mut self, subject: &Subject, in_flight: InFlight, revision: i64, now: Timestamp) {
        if let (Subject::Loop(key), Mutation::Release(release)) = (subject, &in_flight.mutation)
            && let Some(entry) = self.view.loops.get_mut(key)
        {
            entry.released = Some(release.token);
            self.rests.on_end(&release.status, now);
            if release.status.reason == Reason::CannotStart {
                let pause = loop_pause(release.status.start_faults);
                entry.retry_at = now.checked_add(pause).ok();
            }
        }
        if revision > self.view.revision {
            for change in changes_of(in_flight.mutation, revision, &self.view) {
                self.view.apply(change, revision);
            }
        }
        self.effects.extend(in_flight.notices.into_iter().map(Effect::Emit));
        for report in in_flight.reports {
            self.ack(report.session, report.sequence, "");
        }
    }

    /// Reports that cannot be written as they are are cut down at once; everything else waits.
    fn on_invalid(&mut self, subject: &Subject, reporter: Option<Token>, now: Timestamp) {
        let Subject::Loop(key) = subject else { return };
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        if reporter.is_none() || entry.oversize == reporter {
            entry.retry_at = now.checked_add(RETRY_INVALID_AFTER).ok();
        }
        entry.oversize = reporter.or(entry.oversize);
    }

    /// A node's record can never be written: the news that led to it is not tried again.
    fn forget_news(&mut self, mutation: &Mutation) {
        let Mutation::PutNode(PutNode { record, .. }) = mutation else { return };
        if let Some(entry) = self.view.nodes.get_mut(&record.name) {
            entry.news.take_if(|news| Some(news.seen_at) == record.seen_at);
        }
    }

    /// Provably not written: plan again a little later. Reports that it would have made durable are
    /// not acknowledged, so they are put back to the front.
    fn on_not_done(&mut self, subject: &Subject, in_flight: InFlight, now: Timestamp) {
        let retry_at = now.checked_add(RETRY_AFTER).ok();
        let key = match subject {
            Subject::Loop(key) => key,
            Subject::Node(name) => {
                self.node_retries.extend(retry_at.map(|at| (name.clone(), at)));
                return;
            }
            Subject::Duty(uid) => {
                self.duty_retries.extend(retry_at.map(|at| (uid.clone(), at)));
                return;
            }
        };
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        for report in in_flight.reports.into_iter().rev() {
            entry.reports.push_front(report);
        }
        entry.retry_at = retry_at;
        self.wake_all = true;
    }

    /// An assignment was refused because of an owner key that belongs to no claim: somebody deleted
    /// the claim by hand, or put the key without its lease. It is removed, or its resource would be
    /// blocked for as long as its lease lives, or for ever.
    fn remove_orphan_owner(&mut self, key: &LoopKey, found: Found) {
        let Found::Owned { owner, by, revision, .. } = found else { return };
        // What a claim that cannot be read owns is not known: it may be this.
        if self.view.unreadable_claim().is_some() {
            return;
        }
        // Claim and owner keys come and go by the same revision, so a view that has passed the
        // owner key's revision knows the claim if there is one.
        let claimed = by.and_then(|by| self.view.loops.get(&by)).and_then(|other| {
            let settled = other.claim.revision() <= self.view.revision;
            if settled { other.token().map(|token| token.0) } else { Some(revision) }
        });
        if claimed == Some(revision) || self.view.revision < revision {
            return;
        }
        // Overwritten without its lease, it has another revision than its claim, and is owned still.
        let wanted = (owner.access(), owner.resource());
        let owns = |entry: &super::view::LoopEntry| {
            entry.claim.get().is_some_and(|claim| {
                let mut owners = super::derived::owners_of(&claim.resources).into_iter();
                owners.any(|(access, resource)| (access, resource.as_str()) == wanted)
            })
        };
        if self.view.loops.values().any(owns) {
            return;
        }
        tracing::warn!(%key, resource = owner.resource(), "an owner key without a claim is removed");
        let remove = RemoveOrphan { orphan: OrphanKey::Owner(owner), revision, duty: None };
        self.commit_loop(key, Mutation::RemoveOrphan(remove), Vec::new(), Vec::new());
    }

    /// Nobody knows: it is read back, and until then its resources stay blocked.
    fn on_unknown(&mut self, commit: CommitId, subject: &Subject) {
        let in_flight = match subject {
            Subject::Loop(key) => self.view.loops.get_mut(key).and_then(|e| e.in_flight.as_mut()),
            Subject::Node(name) => self.view.nodes.get_mut(name).and_then(|e| e.in_flight.as_mut()),
            Subject::Duty(uid) => self.view.duties.get_mut(uid).and_then(|e| e.in_flight.as_mut()),
        };
        if let Some(in_flight) = in_flight.filter(|in_flight| in_flight.commit == commit) {
            in_flight.unresolved = true;
            let mutation = in_flight.mutation.clone();
            self.effects.push(Effect::Resolve { commit, mutation });
        }
    }
}

/// What a committed mutation changed, as the watch will tell it too.
fn changes_of(mutation: Mutation, revision: i64, view: &super::view::View) -> Vec<Change> {
    let status_of = |key: &LoopKey, status: Arc<LoopStatus>| {
        let created = view.loops.get(key).map_or(0, |entry| entry.status.create_revision());
        let create_revision = if created == 0 { revision } else { created };
        let stored = Stored { value: status, mod_revision: revision, create_revision, lease: 0 };
        Change::Status(key.clone(), Some(stored))
    };
    let duty_of = |put: PutDuty| {
        let created = view.duties.get(&put.uid).map_or(0, |entry| entry.record.create_revision());
        let create_revision = if created == 0 { revision } else { created };
        let stored = |value| Stored { value, mod_revision: revision, create_revision, lease: 0 };
        Change::Duty(put.uid, put.duty.map(stored))
    };
    match mutation {
        Mutation::Assign(Assign { claim, status, .. }) => {
            let key = claim.key.clone();
            let (mod_revision, create_revision, lease) = (revision, revision, claim.lease);
            let claim = Stored { value: claim, mod_revision, create_revision, lease };
            vec![status_of(&key, status), Change::Claim(key, Some(claim))]
        }
        Mutation::PutStatus(PutStatus { key, status, .. }) => vec![status_of(&key, status)],
        Mutation::Release(Release { key, status, .. }) => {
            vec![status_of(&key, status), Change::Claim(key, None)]
        }
        Mutation::RemoveLoop(RemoveLoop { key, duty, .. }) => {
            let gone = [Change::Loop(key.clone(), None), Change::Status(key, None)];
            gone.into_iter().chain(duty.map(duty_of)).collect()
        }
        Mutation::PutDuty(put) => vec![duty_of(put)],
        Mutation::PutNode(PutNode { record, .. }) => {
            let name = record.name.clone();
            let created = view.nodes.get(&name).map_or(0, |entry| entry.record.create_revision());
            let create_revision = if created == 0 { revision } else { created };
            let stored =
                Stored { value: record, mod_revision: revision, create_revision, lease: 0 };
            vec![Change::Node(name, Some(stored))]
        }
        Mutation::RemoveOrphan(RemoveOrphan { orphan, duty, .. }) => {
            let claim = match orphan {
                OrphanKey::Claim(key) => Some(Change::Claim(key, None)),
                // The view has no owner keys.
                OrphanKey::Owner(_) => None,
            };
            claim.into_iter().chain(duty.map(duty_of)).collect()
        }
    }
}
