//! Seal duties as records of their own: what loops that are gone leave to whoever owns an overlapping
//! set next, and what operators have given up. They end when they are sealed or given up, not before.

use std::sync::Arc;

use flyball_core::ids::{LoopKey, LoopUid, Token};
use flyball_core::planted::{self, Bug};
use flyball_core::resource::ResourceSet;
use flyball_core::seal::{GivenUp, SealDuty, add_unsealed};
use flyball_core::status::Unsealed;
use flyball_store::{ClaimRecord, PutDuty, Stored};
use jiff::Timestamp;

use super::Reactor;
use super::derived::set_of_entries;
use super::event::Notice;
use super::view::{DutyEntry, LoopEntry};

/// The event that says that a duty was given up.
const ABANDONED: &str = "SealAbandoned";

/// What is to be sealed of one life of a loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DutyView {
    /// The life of the loop.
    pub uid: LoopUid,
    /// Its namespace and name.
    pub key: LoopKey,
    /// The loop is gone; else its own status lists the runs.
    pub removed: bool,
    /// The runs.
    pub runs: Vec<Unsealed>,
    /// Since when a removed loop's duty stands alone.
    pub since: Option<Timestamp>,
    /// An operator has given it up, and the leader has not acted on it yet.
    pub given_up: Option<GivenUp>,
}

impl Reactor {
    /// All that is to be sealed of a namespace's loops (of all, if it is empty).
    pub fn duty_views(&self, namespace: &str) -> Vec<DutyView> {
        let listed = self.view.derived.unsealed.iter().filter_map(|key| {
            let entry = self.view.loops.get(key)?;
            let uid = entry.uid()?.clone();
            let given_up = self.given_up(&uid).cloned();
            let runs = entry.status.get()?.unsealed.clone();
            Some(DutyView { uid, key: key.clone(), removed: false, runs, since: None, given_up })
        });
        let alone = self.view.duties.values().filter_map(|entry| entry.record.get());
        let alone = alone.filter(|duty| !duty.runs.is_empty()).map(|duty| DutyView {
            uid: duty.loop_uid.clone(),
            key: key_of(duty),
            removed: true,
            runs: duty.runs.clone(),
            since: duty.since,
            given_up: duty.given_up.clone(),
        });
        let wanted = |view: &DutyView| namespace.is_empty() || view.key.namespace == namespace;
        listed.chain(alone).filter(wanted).collect()
    }

    /// Runs of loops that are gone whose journals are to be sealed before this set is worked on.
    pub(super) fn duties_over<'a>(
        &'a self,
        set: &'a ResourceSet,
    ) -> impl Iterator<Item = &'a Unsealed> {
        let duties = self.view.duties.values().filter_map(|entry| entry.record.get());
        let runs = duties.flat_map(|duty| &duty.runs);
        runs.filter(|run| set.conflicts(&set_of_entries(&run.resources)))
    }

    /// Lives of other loops whose journals are to be sealed before this one can start.
    pub(super) fn blocking(&self, key: &LoopKey, set: &ResourceSet) -> Vec<Unsealed> {
        let others = self.view.derived.unsealed.iter().filter(|other| *other != key);
        let statuses = others.filter_map(|other| self.view.loops.get(other)?.status.get());
        let listed = statuses.flat_map(|status| &status.unsealed);
        let listed = listed.filter(|run| set.conflicts(&set_of_entries(&run.resources)));
        listed.chain(self.duties_over(set)).cloned().collect()
    }

    fn given_up(&self, uid: &LoopUid) -> Option<&GivenUp> {
        self.view.duties.get(uid)?.record.get()?.given_up.as_ref()
    }

    /// What nobody has to seal any more of a loop that still exists.
    pub(super) fn sealed_of(&self, entry: &LoopEntry) -> Vec<(String, Token)> {
        let mut sealed = entry.sealed.clone();
        let given_up = entry.uid().and_then(|uid| self.given_up(uid));
        if let (Some(given_up), Some(status)) = (given_up, entry.status.get()) {
            let covered = status.unsealed.iter().filter(|run| run.token <= given_up.through);
            sealed.extend(covered.map(|run| (run.repository.clone(), run.token)));
        }
        sealed
    }

    /// A journal was sealed: what is left of the duty is written down.
    pub(super) fn note_duty_sealed(&mut self, uid: &LoopUid, journal: &(String, Token)) {
        let Some(entry) = self.view.duties.get_mut(uid) else { return };
        let Some(duty) = entry.record.get() else { return };
        let (repository, token) = journal;
        if duty.runs.iter().any(|run| run.repository == *repository && run.token <= *token) {
            entry.sealed.push(journal.clone());
            self.view.touch_duty(uid);
        }
    }

    /// The duty that is left when a loop is removed with these runs still to be sealed.
    pub(super) fn duty_left(
        &self,
        key: &LoopKey,
        runs: &[Unsealed],
        now: Timestamp,
    ) -> Option<PutDuty> {
        if planted::is(Bug::DutyDropped) {
            return None;
        }
        let uid = runs.first()?.loop_uid.clone();
        let entry = self.view.duties.get(&uid);
        let before = entry.and_then(|entry| entry.record.get());
        let mut duty = before.map_or_else(
            || SealDuty::of(uid.clone(), key.to_string(), now),
            |before| SealDuty::clone(before),
        );
        for run in runs {
            add_unsealed(&mut duty.runs, run);
        }
        let revision = entry.map_or(0, |entry| entry.record.mod_revision());
        Some(PutDuty { uid, duty: Some(Arc::new(duty)), revision })
    }

    /// Everything that depends on duties that changed.
    pub(super) fn reconcile_duties(&mut self) {
        for uid in self.view.take_touched_duties() {
            self.reconcile_duty(&uid);
        }
    }

    fn reconcile_duty(&mut self, uid: &LoopUid) {
        let seen = self.view.revision;
        let Some(entry) = self.view.duties.get(uid) else { return };
        if entry.in_flight.is_some() {
            return;
        }
        if entry.record.is_forgettable(seen) {
            self.view.duties.remove(uid);
            return;
        }
        if !self.is_acting() || self.duty_retries.contains_key(uid) {
            return;
        }
        let Some((put, notices)) = self.next_duty(uid, entry) else { return };
        self.commit_duty(put, notices);
    }

    /// What should be written next of a duty.
    fn next_duty(&self, uid: &LoopUid, entry: &DutyEntry) -> Option<(PutDuty, Vec<Notice>)> {
        let duty = entry.record.get()?;
        let left = duty.left(&entry.sealed);
        let revision = entry.record.mod_revision();
        if !left.is_empty() {
            let runs = left;
            let changed = runs != duty.runs;
            let duty = Some(Arc::new(SealDuty { runs, ..SealDuty::clone(duty) }));
            return changed.then(|| (PutDuty { uid: uid.clone(), duty, revision }, Vec::new()));
        }
        // As long as the loop's own status lists what was given up, this says so.
        let listed = self.view.loops.get(&key_of(duty)).filter(|entry| entry.uid() == Some(uid));
        let listed = listed.and_then(|entry| entry.status.get());
        let given_up = duty.given_up.as_ref();
        let waits = listed.zip(given_up).is_some_and(|(status, given_up)| {
            status.unsealed.iter().any(|run| run.token <= given_up.through)
        });
        let notices = given_up.map(|given_up| notice(duty, given_up)).into_iter().collect();
        (!waits).then(|| (PutDuty { uid: uid.clone(), duty: None, revision }, notices))
    }

    /// What only a leader knows of duties.
    pub(super) fn forget_duty_work(&mut self) {
        self.duty_retries.clear();
        for entry in self.view.duties.values_mut() {
            entry.in_flight = None;
            entry.sealed.clear();
        }
    }
}

/// What the run of a claim leaves to be sealed; nothing if it had no repository.
pub(super) fn run_of_claim(claim: &Stored<ClaimRecord>) -> Option<Unsealed> {
    let Stored { value: claim, create_revision, .. } = claim;
    (!claim.repository.is_empty()).then(|| Unsealed {
        loop_uid: claim.uid.clone(),
        loop_key: claim.key.to_string(),
        token: Token(*create_revision),
        resources: claim.resources.clone(),
        repository: claim.repository.clone(),
    })
}

/// The name of the loop that a duty is left by.
pub(super) fn key_of(duty: &SealDuty) -> LoopKey {
    let (namespace, name) = duty.loop_key.split_once('/').unwrap_or(("", &duty.loop_key));
    LoopKey::new(namespace, name)
}

fn notice(duty: &SealDuty, given_up: &GivenUp) -> Notice {
    let at = given_up.at.map(|at| format!(" at {at}")).unwrap_or_default();
    let message = format!(
        "{} gave up the seal of runs up to token {} of {}{at}: {}",
        given_up.by, given_up.through, duty.loop_uid, given_up.reason
    );
    Notice { key: key_of(duty), reason: ABANDONED, message, node: None }
}
