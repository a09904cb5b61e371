//! Level-based reconciliation of one loop: from what its keys say now to the one thing that should
//! happen next. It may run at any time and any number of times.

use std::sync::Arc;

use flyball_core::ids::{LoopKey, Token};
use flyball_core::status::{LoopStatus, Phase, Unsealed};
use flyball_store::{LoopRecord, Mutation, OrphanKey, PutStatus, RemoveLoop, RemoveOrphan};
use jiff::Timestamp;

use super::event::Notice;
use super::view::LoopEntry;
use super::{CLOCK_SLACK, Reactor, duties, reports, status};

/// What should be written next for a loop.
pub(super) enum Step {
    /// Write the status; with a token if only the owner's run may.
    Put { status: Box<LoopStatus>, token: Option<Token>, notice: Option<Notice> },
    /// Make the reports of the owner durable.
    Reports(Box<reports::Folded>),
    /// Take back an assignment that its node was never told of.
    Unassign,
    /// Remove the loop.
    Remove,
    /// Remove a claim whose loop is gone.
    Orphan,
}

impl Reactor {
    pub(super) fn reconcile(&mut self, key: &LoopKey, now: Timestamp) {
        if !self.is_acting() || self.view.is_left_alone(key) {
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
        let facts = Facts {
            untold: self.is_untold_and_unwanted(key, entry),
            abandoned: self.is_abandoned(entry),
            sealed: self.sealed_of(entry),
            has_room: self.has_room_again(key, entry),
        };
        match next_step(key, entry, facts, now) {
            None => {}
            Some(Step::Put { status, token, notice }) => {
                self.put_status(key, *status, token, notice);
            }
            Some(Step::Reports(folded)) => self.commit_reports(key, *folded, now),
            Some(Step::Unassign) => self.unassign(key, now),
            Some(Step::Remove) => self.remove_loop(key, now),
            Some(Step::Orphan) => self.remove_orphan(key, now),
        }
    }

    /// True if the loop's claim would stay for ever: somebody put it without its lease, and the
    /// incarnation that owns it has no session any more. While it has one its run goes on.
    fn is_abandoned(&self, entry: &LoopEntry) -> bool {
        let detached = entry.claim.stored().filter(|claim| claim.lease == 0);
        detached.is_some_and(|claim| {
            let node = self.view.nodes.get(&claim.value.node);
            let session = node.and_then(|node| node.session.get());
            session.is_none_or(|session| session.incarnation != claim.value.incarnation)
        })
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

    /// What is still to be sealed of it becomes a record of its own in the same transaction.
    fn remove_loop(&mut self, key: &LoopKey, now: Timestamp) {
        let Some(entry) = self.view.loops.get(key) else { return };
        let loop_revision = entry.record.mod_revision();
        let runs = entry.status.get().map(|status| {
            let sealed = self.sealed_of(entry);
            let is_sealed = |run: &Unsealed| {
                sealed.iter().any(|(at, token)| *at == run.repository && run.token <= *token)
            };
            let runs = status.unsealed.iter().filter(|run| !is_sealed(run));
            runs.cloned().collect::<Vec<Unsealed>>()
        });
        let duty = self.duty_left(key, &runs.unwrap_or_default(), now);
        let remove = RemoveLoop { key: key.clone(), loop_revision, duty };
        self.commit_loop(key, Mutation::RemoveLoop(remove), Vec::new(), Vec::new());
    }

    /// A claim without its loop (somebody removed keys by hand, or re-created the loop under a
    /// running one), or one that lost its lease and its owner. Its node is told to stop, then the claim
    /// goes. Where no status can tell of its run, the seal duty takes the claim's place.
    fn remove_orphan(&mut self, key: &LoopKey, now: Timestamp) {
        self.stop_orphan(key);
        let Some(entry) = self.view.loops.get(key) else { return };
        let revision = entry.claim.mod_revision();
        let claim = entry.claim.stored().filter(|claim| entry.uid() != Some(&claim.value.uid));
        let runs: Vec<Unsealed> = claim.and_then(duties::run_of_claim).into_iter().collect();
        let duty = self.duty_left(key, &runs, now);
        let remove = RemoveOrphan { orphan: OrphanKey::Claim(key.clone()), revision, duty };
        self.commit_loop(key, Mutation::RemoveOrphan(remove), Vec::new(), Vec::new());
    }
}

/// What the next step depends on besides the loop itself.
struct Facts {
    /// Its node does not know of the assignment, and need not.
    untold: bool,
    /// Its claim lost its lease, and its incarnation has ended.
    abandoned: bool,
    /// Its journals that nobody has to seal any more, and through which token.
    sealed: Vec<(String, Token)>,
    /// It is parked for its budget, which has room again.
    has_room: bool,
}

fn next_step(key: &LoopKey, entry: &LoopEntry, facts: Facts, now: Timestamp) -> Option<Step> {
    let Some(record) = entry.record.get() else {
        // Somebody removed the loop's keys by hand, and left its claim or its status.
        let claimed = entry.claim.get().map(|_| Step::Orphan);
        return claimed.or_else(|| entry.status.get().map(|_| Step::Remove));
    };
    let status = entry.status.get()?;
    if let Some(claim) = entry.claim.get() {
        if claim.uid != record.uid || facts.abandoned {
            return Some(Step::Orphan);
        }
        let reports = reports::fold(entry).map(Box::new).map(Step::Reports);
        return reports.or_else(|| facts.untold.then_some(Step::Unassign));
    }
    if status.phase.is_owned() {
        // A scheduler that started after the claim vanished does not know its token. The revision of
        // the status stands for it: it is not lower, and lower than that of every later claim.
        let token = entry.last_token.unwrap_or_else(|| Token(entry.status.mod_revision()));
        let unsealed = unsealed_of(key, record, token, entry);
        return Some(lost_step(key, status, unsealed, now));
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
    if !unwanted && let Some(step) = move_on_step(key, record, status, facts.has_room, now) {
        return Some(step);
    }
    sealed_step(&facts.sealed, record, status, now)
}

/// Running without a claim is lost. The claim of a loop whose release is under way or committed is
/// gone together with the owned phase, so it never comes here.
///
/// Its journal has to be sealed even if its node is known to be gone with all its agents: a push
/// that was under way may still arrive at the repository's server.
fn lost_step(
    key: &LoopKey,
    status: &LoopStatus,
    unsealed: Option<Unsealed>,
    now: Timestamp,
) -> Step {
    let next = Box::new(status::lost(status, unsealed, now));
    let notice = Some(notice(key, "RunLost", &next.message, &next));
    Step::Put { status: next, token: None, notice }
}

/// What has to be sealed after a run that was not proven to have stopped; nothing if the loop has no
/// repository, since then nothing outside its node can be touched by it.
/// The set is that of the claim, if it was seen. Otherwise it is that of the spec: a spec with another
/// set or repository is not accepted while the loop is owned.
pub(super) fn unsealed_of(
    key: &LoopKey,
    record: &LoopRecord,
    token: Token,
    entry: &LoopEntry,
) -> Option<Unsealed> {
    let repository = record.spec.workspace.as_ref()?.git.url.clone();
    let resources = if entry.last_token == Some(token) {
        entry.last_resources.clone()
    } else {
        entry.set.canonical()
    };
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

/// The spec changed while nobody owned the loop, its pause is over, or its budget has room again.
fn move_on_step(
    key: &LoopKey,
    record: &LoopRecord,
    status: &LoopStatus,
    has_room: bool,
    now: Timestamp,
) -> Option<Step> {
    let (next, code) = if record.generation != status.observed_generation {
        (status::respecified(status, record, now), "Respecified")
    } else if status.phase == Phase::Parked && is_due(status, now) {
        (status::park_due(status, now), "Resumed")
    } else if has_room {
        (status::resumed(status, "its budget has room again", now), "Resumed")
    } else {
        return None;
    };
    let notice = Some(notice(key, code, &next.message, &next));
    Some(Step::Put { status: Box::new(next), token: None, notice })
}

/// A pause is over, or it began in the future: the clock was set back, and nobody knows how long it
/// has lasted.
fn is_due(status: &LoopStatus, now: Timestamp) -> bool {
    let ahead = |since: Timestamp| since.duration_since(now) > CLOCK_SLACK;
    status.parked_until.is_some_and(|at| at <= now || status.since.is_some_and(ahead))
}

fn sealed_step(
    sealed: &[(String, Token)],
    record: &LoopRecord,
    status: &LoopStatus,
    now: Timestamp,
) -> Option<Step> {
    let next = status::sealed(status, record, sealed, now);
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
