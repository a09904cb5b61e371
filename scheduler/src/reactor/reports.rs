//! What workers report of their runs: folded into one status write per loop, acknowledged when it
//! is durable, refused for good when the reporter is not the owner.

use std::sync::Arc;

use flyball_core::ids::{Incarnation, LoopKey, NodeName, Token};
use flyball_core::status::{LoopStatus, Phase, Progress, Unsealed};
use flyball_store::{Mutation, PutStatus, Release};
use jiff::Timestamp;

use super::event::{Effect, Notice, Report, ReportBody, SessionId, ToNode};
use super::view::LoopEntry;
use super::{REPORTS_MAX, Reactor, oversize, reconcile, status};

/// Why a report is refused for good: its run is not the owner.
const FENCED: &str = "fenced";

/// Reports of one run, to be made durable by one commit: the newest says it all.
pub(super) struct Folded {
    pub(super) last: Report,
    pub(super) events: Vec<String>,
    /// How many of the waiting reports it stands for, from the front.
    pub(super) count: usize,
}

/// Takes all waiting reports together. `None` if there are none.
pub(super) fn fold(entry: &LoopEntry) -> Option<Folded> {
    let mut count = 0;
    let mut events = Vec::new();
    let mut last = None;
    for report in &entry.reports {
        count += 1;
        if let ReportBody::Update { event } = &report.body
            && !event.is_empty()
        {
            events.push(event.clone());
        }
        last = Some(report);
        if matches!(report.body, ReportBody::Ended { .. }) {
            break;
        }
    }
    last.map(|last| Folded { last: last.clone(), events, count })
}

impl Reactor {
    pub(super) fn on_report(&mut self, mut report: Report) {
        if !self.is_leading() {
            return;
        }
        report.from = self.reporter(report.session);
        // While the view is not current nothing is known for sure, so the report waits.
        if self.current && !self.view.loops.contains_key(&report.key) {
            self.ack(report.session, report.sequence, FENCED);
            return;
        }
        let entry = self.view.loops.entry(report.key.clone()).or_default();
        // Sent again by a newer stream: it is the same report, and is answered there.
        let same = |one: &&mut Report| {
            one.sequence == report.sequence && one.token == report.token && one.uid == report.uid
        };
        if let Some(waiting) = entry.reports.iter_mut().find(same) {
            *waiting = report;
            return;
        }
        if entry.reports.len() >= REPORTS_MAX {
            // What is not acknowledged is sent again by the next session.
            let message = "too many reports wait for one loop";
            self.drop_session(report.session, message);
            return;
        }
        let key = report.key.clone();
        entry.reports.push_back(report);
        self.view.touch(&key);
    }

    /// The node whose stream this is.
    fn reporter(&self, session: SessionId) -> Option<(NodeName, Incarnation)> {
        let mut streams = self.view.nodes.values().filter_map(|node| node.stream.as_ref());
        let stream = streams.find(|stream| stream.session == session)?;
        Some((stream.node.clone(), stream.incarnation.clone()))
    }

    /// Answers reports of runs that do not own the loop, and of nodes that do not run it: uid and
    /// token are no secret, so knowing them proves nothing.
    pub(super) fn refuse_foreign_reports(&mut self, key: &LoopKey) {
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        if entry.reports.is_empty() {
            return;
        }
        let claim = entry.claim.stored();
        let owner = claim.map(|claim| {
            let (run, token) = (&claim.value, Token(claim.create_revision));
            (run.uid.clone(), token, (run.node.clone(), run.incarnation.clone()))
        });
        let released = entry.released;
        let mut answers = Vec::new();
        entry.reports.retain(|report| {
            let owned = owner.as_ref().is_some_and(|(uid, token, node)| {
                let its = report.from.as_ref().is_some_and(|from| from == node);
                *uid == report.uid && *token == report.token && its
            });
            if !owned {
                let ended = matches!(report.body, ReportBody::Ended { .. });
                let repeated = ended && released == Some(report.token);
                let refused = if repeated { "" } else { FENCED };
                answers.push((report.session, report.sequence, refused));
            }
            owned
        });
        for (session, sequence, refused) in answers {
            self.ack(session, sequence, refused);
        }
    }

    pub(super) fn ack(&mut self, session: SessionId, sequence: u64, refused: &'static str) {
        let attached = |node: &super::view::NodeEntry| {
            node.stream.as_ref().is_some_and(|stream| stream.session == session)
        };
        if self.view.nodes.values().any(attached) {
            let message = ToNode::Ack { sequence, refused };
            self.effects.push(Effect::Send { session, message });
        }
    }

    /// Starts the commit that makes the folded reports durable.
    pub(super) fn commit_reports(&mut self, key: &LoopKey, folded: Folded, now: Timestamp) {
        let Folded { last, events, count } = folded;
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        let count = count.min(entry.reports.len());
        let reports: Vec<Report> = entry.reports.drain(..count).collect();
        let Some(old) = entry.status.get().cloned() else { return };
        // Whatever it was that the node started: it starts things.
        let grown = last.progress.as_ref().is_some_and(|p| p.iterations > old.progress.iterations);
        let judged =
            matches!(&last.body, ReportBody::Ended { outcome, .. } if verdict(outcome.phase));
        if let Some(node) = old.node.as_ref().filter(|_| grown || judged) {
            self.wake_all |= self.rests.on_started(node);
        }
        let mut notices: Vec<Notice> = events
            .into_iter()
            .map(|message| reconcile::notice(key, "Progress", &message, &old))
            .collect();
        let mutation = match &last.body {
            ReportBody::Update { .. } => {
                self.note_sealed(key);
                self.update_mutation(key, &old, &last, now)
            }
            ReportBody::Ended { outcome, .. } => {
                if verdict(outcome.phase) {
                    self.note_sealed(key);
                }
                self.release_mutation(key, &old, &last, now)
            }
        };
        if let Some(mutation) = mutation {
            notices.extend(phase_notice(key, old.phase, &mutation));
            self.commit_loop(key, mutation, reports, notices);
        }
    }

    /// A run that reports progress has sealed every journal it was given: they need not be listed
    /// any longer.
    fn note_sealed(&mut self, key: &LoopKey) {
        let Some(entry) = self.view.loops.get_mut(key) else { return };
        for (other, sealed) in std::mem::take(&mut entry.carried) {
            let journal = (sealed.repository, sealed.token);
            // Its loop may have been removed since, and its duty is a record of its own then.
            self.note_duty_sealed(&sealed.loop_uid, &journal);
            let Some(other) = other else { continue };
            let Some(entry) = self.view.loops.get_mut(&other) else { continue };
            let Some(status) = entry.status.get() else { continue };
            entry.sealed.push(journal);
            // What was written down already needs no memory.
            let listed = |(repository, token): &(String, Token)| {
                let of = |run: &Unsealed| run.repository == *repository && run.token <= *token;
                status.unsealed.iter().any(of)
            };
            entry.sealed.retain(listed);
            self.view.touch(&other);
        }
    }

    fn update_mutation(
        &mut self,
        key: &LoopKey,
        old: &LoopStatus,
        last: &Report,
        now: Timestamp,
    ) -> Option<Mutation> {
        let entry = self.view.loops.get(key)?;
        let oversize = entry.oversize == Some(last.token);
        let status = status::progressed(old, &progress_of(old, last, oversize), now);
        Some(Mutation::PutStatus(PutStatus {
            key: key.clone(),
            status: Arc::new(status),
            status_revision: entry.status.mod_revision(),
            token: Some(last.token),
        }))
    }

    fn release_mutation(
        &mut self,
        key: &LoopKey,
        old: &LoopStatus,
        last: &Report,
        now: Timestamp,
    ) -> Option<Mutation> {
        let ReportBody::Ended { outcome, stopped } = &last.body else { return None };
        let entry = self.view.loops.get(key)?;
        let record = entry.record.get()?;
        let unsealed =
            if *stopped { None } else { reconcile::unsealed_of(key, record, last.token, entry) };
        let deleted = record.delete.then_some("deleted");
        let cancel = record.cancel.as_deref().or(deleted);
        // A run that reached a verdict has sealed and begun, though it may not have said so before.
        let began = verdict(outcome.phase) && old.phase == Phase::Assigned;
        let oversize = entry.oversize == Some(last.token);
        let progress = &progress_of(old, last, oversize);
        let outcome = if oversize { &oversize::outcome(outcome) } else { outcome };
        let old = if began { &status::progressed(old, progress, now) } else { old };
        let status = status::ended(old, progress, outcome, unsealed, cancel, now);
        let claim = entry.claim.get()?;
        Some(Mutation::Release(Release {
            key: key.clone(),
            uid: last.uid.clone(),
            status: Arc::new(status),
            status_revision: entry.status.mod_revision(),
            token: last.token,
            owners: super::derived::owners_of(&claim.resources),
        }))
    }
}

fn progress_of(old: &LoopStatus, report: &Report, oversize: bool) -> Progress {
    match &report.progress {
        None => old.progress.clone(),
        Some(progress) if oversize => oversize::progress(&old.progress, progress),
        Some(progress) => progress.clone(),
    }
}

/// Phases that only a run which has really begun can end in.
fn verdict(phase: Phase) -> bool {
    matches!(phase, Phase::Converged | Phase::Unreachable | Phase::Exhausted)
}

/// What users are told of the phase that a mutation leads to, if it is a new one.
fn phase_notice(key: &LoopKey, old: Phase, mutation: &Mutation) -> Option<Notice> {
    let status = match mutation {
        Mutation::PutStatus(put) => &put.status,
        Mutation::Release(release) => &release.status,
        _ => return None,
    };
    let reason = phase_name(status.phase);
    (status.phase != old).then(|| reconcile::notice(key, reason, &status.message, status))
}

/// The event code for a loop that reached a phase.
fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "RunReturned",
        Phase::Assigned => "Assigned",
        Phase::Running => "Running",
        Phase::Parked => "Parked",
        Phase::Converged => "Converged",
        Phase::Unreachable => "Unreachable",
        Phase::Exhausted => "Exhausted",
        Phase::Failed => "Failed",
        Phase::Cancelled => "Cancelled",
    }
}
