//! The reactor: sole writer of the scheduler's in-memory view. It takes one event at a time and
//! returns effects; it has no async, no clock and no randomness, so text scripts and a simulation
//! can drive it.
//!
//! Its rules:
//! - Watches are hints, transactions decide. What the leader itself commits enters the view from the
//!   commit's answer; the watch repeats it later and changes nothing ([`slot`]).
//! - At most one commit is under way per loop. One whose outcome is unknown keeps its resources
//!   blocked until it is read back.
//! - Everything is level-based: after every event each touched loop is reconciled from its state
//!   ([`reconcile`]), so news that is lost, repeated or reordered does no harm.
//! - "Running without a claim" is the definition of lost, for the watch and for a listing alike.
//! - A leader decides nothing before its view comes from a listing at least as new as its own
//!   leader key, and nothing while the watch is known to be stale.
//! - One that has just started places nothing while a node may run what its store does not know of
//!   ([`unheard`]).

mod budgets;
mod commits;
mod derived;
mod duties;
mod event;
mod explain;
mod next_steps;
mod oversize;
mod placement;
mod query;
mod reconcile;
mod reports;
mod resting;
mod sessions;
mod slot;
mod status;
mod telling;
mod unheard;
mod view;

pub use duties::DutyView;
pub use event::{
    Assignment, Attached, CommitId, CommitResult, Effect, Event, LiveRun, Notice, Report,
    ReportBody, SessionId, StopReason, ToNode,
};
pub use explain::Explanation;
pub use query::{ClaimView, LoopView, NodeStatus};

use std::collections::{BTreeMap, BTreeSet};

use flyball_core::ids::{LoopKey, LoopUid, NodeName};
use flyball_core::planted::{self, Bug};
use jiff::Timestamp;

use view::View;

/// How often later loops may be placed past a waiting one that wants some of the same resources or
/// the same kind of room, before they have to wait behind it.
pub const PASSED_OVER_MAX: u32 = 8;

/// Reports waiting for one loop's commit: a worker has one run per loop and waits for the answer to
/// each report but for the last, so more means a worker that does not keep the protocol.
pub const REPORTS_MAX: usize = 16;

/// Pause before a refused or unavailable commit is planned again: long enough for the watch to
/// bring what refused it, short enough to go unnoticed.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(100);

/// Pause before a commit that can never be written as it is is planned again: its loop may have
/// changed by then, and until it has nothing is gained by hurry.
const RETRY_INVALID_AFTER: std::time::Duration = std::time::Duration::from_secs(10);

/// A clock that goes back by less is being adjusted; by more, it was set.
pub(super) const CLOCK_SLACK: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

/// Whether this scheduler leads, and since which revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Follower,
    /// Leads, with the create revision of its leader key.
    Leader(i64),
}

/// The scheduler's state and all of its decisions.
#[derive(Debug)]
pub struct Reactor {
    view: View,
    role: Role,
    /// The view comes from a listing new enough and the watch behind it is alive.
    current: bool,
    commits: BTreeMap<CommitId, commits::Subject>,
    commit_last: u64,
    /// The store is full: nothing new is begun, what runs goes on.
    full: bool,
    /// Nodes that may run what the store does not know of.
    unheard: unheard::Unheard,
    /// Time of the last event.
    latest: Timestamp,
    /// Nodes whose last commit was not done: not before this time.
    node_retries: BTreeMap<NodeName, Timestamp>,
    /// Seal duties whose last commit was not done: not before this time.
    duty_retries: BTreeMap<LoopUid, Timestamp>,
    /// Nodes that failed to start runs.
    rests: resting::Rests,
    /// The earliest deadline of a drain that has not been acted on.
    next_drain: Option<Timestamp>,
    /// Loops that became placeable since the last placement pass.
    woken: BTreeSet<derived::QueueKey>,
    /// Room or resources were set free: look at the whole queue.
    wake_all: bool,
    /// Loops whose user-visible state changed since the last `take_changed`.
    changed: BTreeSet<LoopKey>,
    effects: Vec<Effect>,
}

impl Default for Reactor {
    fn default() -> Self {
        Self::new()
    }
}

impl Reactor {
    /// A follower that knows nothing.
    pub fn new() -> Self {
        Self {
            view: View::default(),
            role: Role::Follower,
            current: false,
            commits: BTreeMap::new(),
            commit_last: 0,
            full: false,
            unheard: unheard::Unheard::default(),
            latest: Timestamp::MIN,
            node_retries: BTreeMap::new(),
            duty_retries: BTreeMap::new(),
            rests: resting::Rests::default(),
            next_drain: None,
            woken: BTreeSet::new(),
            wake_all: false,
            changed: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    /// Takes one event and returns what is to be done about it, in order. `now` is for display and
    /// for timers that are no safety matter.
    pub fn on_event(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        if now.duration_since(self.latest) < -CLOCK_SLACK {
            self.on_clock_set_back();
        }
        self.latest = now;
        match event {
            Event::Leading { create_revision } => self.on_leading(create_revision),
            Event::NotLeading => self.on_not_leading(),
            Event::Snapshot(snapshot) => self.on_snapshot(*snapshot),
            Event::Changes { revision, changes } => self.on_changes(revision, changes),
            // Some etcd versions show progress before the changes it speaks of: it proves nothing.
            Event::Progress => {}
            Event::WatchLost => self.on_watch_lost(),
            Event::Written { revision, changes } => self.on_written(revision, changes),
            Event::Committed { commit, result } => self.on_committed(commit, result, now),
            Event::Attached(attached) => self.on_attached(*attached, now),
            Event::Detached { session } => self.on_detached(session, now),
            Event::Leaving { session } => self.on_leaving(session),
            Event::StoreFull(full) => {
                self.wake_all |= self.full && !full;
                self.full = full;
            }
            Event::Heard => self.unheard.on_heard(),
            Event::StoreBehind => self.on_store_behind(),
            Event::Report(report) => self.on_report(*report),
            Event::Tick => {}
        }
        self.settle(now);
        std::mem::take(&mut self.effects)
    }

    /// The next moment at which a [`Event::Tick`] would have something to do.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let timer = self.view.derived.timers.first().map(|(at, _)| *at);
        let retries = self.node_retries.values().chain(self.duty_retries.values()).copied();
        let all = timer.into_iter().chain(retries).chain(self.next_drain);
        let all = all.chain(self.unheard.wake_at());
        all.chain(self.rests.wake_at()).min().filter(|_| self.is_acting())
    }

    /// True when this scheduler holds the leader key.
    pub fn is_leading(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// The create revision of the leader key it holds.
    pub fn term(&self) -> Option<i64> {
        match self.role {
            Role::Leader(create_revision) => Some(create_revision),
            Role::Follower => None,
        }
    }

    /// True when it may decide: it leads, and its view is current.
    pub fn is_acting(&self) -> bool {
        self.is_leading() && self.current
    }

    /// Loops that changed since the last call, for those who watch them.
    pub fn take_changed(&mut self) -> BTreeSet<LoopKey> {
        std::mem::take(&mut self.changed)
    }

    fn on_leading(&mut self, create_revision: i64) {
        self.role = Role::Leader(create_revision);
        self.current &= planted::is(Bug::StaleList);
        self.effects.push(Effect::RequestSnapshot { revision_min: create_revision });
    }

    /// Everything that only a leader knows is dropped: the next leader starts from the store.
    fn on_not_leading(&mut self) {
        if !self.is_leading() {
            return;
        }
        self.role = Role::Follower;
        self.commits.clear();
        self.node_retries.clear();
        self.forget_duty_work();
        self.rests.clear();
        self.woken.clear();
        self.close_all_sessions();
        for (key, entry) in &mut self.view.loops {
            entry.in_flight = None;
            entry.reports.clear();
            entry.retry_at = None;
            entry.sent = None;
            entry.stopping = None;
            entry.carried.clear();
            entry.sealed.clear();
            entry.waiting = None;
            entry.passed_over = 0;
            entry.released = None;
            entry.oversize = None;
            self.changed.insert(key.clone());
        }
        self.touch_all();
    }

    fn on_snapshot(&mut self, snapshot: flyball_store::Snapshot) {
        let fresh = match self.role {
            Role::Follower => true,
            Role::Leader(create_revision) => {
                snapshot.revision >= create_revision || planted::is(Bug::StaleList)
            }
        };
        if !fresh || snapshot.revision < self.view.revision {
            // Read from a member that lags behind: read again.
            let leader = if let Role::Leader(revision) = self.role { revision } else { 0 };
            let revision_min = leader.max(self.view.revision);
            self.effects.push(Effect::RequestSnapshot { revision_min });
            return;
        }
        self.unheard.on_snapshot(&snapshot);
        // Touches everything.
        self.view.reset(snapshot);
        self.current = true;
        self.wake_all = true;
    }

    fn on_changes(&mut self, revision: i64, changes: Vec<flyball_store::Change>) {
        self.view.revision = self.view.revision.max(revision);
        self.apply(revision, changes);
    }

    fn apply(&mut self, revision: i64, changes: Vec<flyball_store::Change>) {
        let unreadable = self.view.unreadable_claim().is_some();
        for change in changes {
            self.view.apply(change, revision);
        }
        self.wake_all |= unreadable && self.view.unreadable_claim().is_none();
    }

    /// A write told by the API of this process. What the watch has passed already is not news, and
    /// must not bring back what was removed since.
    fn on_written(&mut self, revision: i64, changes: Vec<flyball_store::Change>) {
        if revision > self.view.revision {
            self.apply(revision, changes);
        }
    }

    fn on_watch_lost(&mut self) {
        self.current = false;
        let leader = if let Role::Leader(revision) = self.role { revision } else { 0 };
        let revision_min = leader.max(self.view.revision);
        self.effects.push(Effect::RequestSnapshot { revision_min });
    }

    /// The wall clock was set back: moments that were near may be days away now. Every pause is over,
    /// since trying early does no harm and never trying does.
    fn on_clock_set_back(&mut self) {
        self.node_retries.clear();
        self.duty_retries.clear();
        self.rests.clear();
        for entry in self.view.loops.values_mut() {
            entry.retry_at = None;
        }
        self.touch_all();
        self.wake_all = true;
    }

    fn touch_all(&mut self) {
        let keys: Vec<LoopKey> = self.view.loops.keys().cloned().collect();
        for key in &keys {
            self.view.touch(key);
        }
        let names: Vec<NodeName> = self.view.nodes.keys().cloned().collect();
        for name in &names {
            self.view.touch_node(name);
        }
        let uids: Vec<LoopUid> = self.view.duties.keys().cloned().collect();
        for uid in &uids {
            self.view.touch_duty(uid);
        }
    }

    /// Follows every change to its end: reconcile what was touched, then place what can be placed.
    /// It ends, since every commit that is started makes its loop wait for the answer.
    fn settle(&mut self, now: Timestamp) {
        self.fire_timers(now);
        let touched = self.view.take_touched_nodes();
        if !touched.is_empty() {
            self.find_next_drain();
        }
        for name in touched {
            self.reconcile_node(&name, now);
        }
        let waits = self.is_acting() && self.waits_for_nodes();
        self.reconcile_duties();
        loop {
            let touched = self.view.take_touched();
            if touched.is_empty() {
                break;
            }
            let acts = self.is_acting();
            for key in touched {
                self.refresh(&key);
                if acts {
                    self.reconcile(&key, now);
                    self.refresh(&key);
                }
                self.changed.insert(key);
            }
            self.reconcile_duties();
        }
        if self.is_acting() && !self.full && !waits {
            self.place(now);
        }
    }

    fn refresh(&mut self, key: &LoopKey) {
        let refreshed = self.view.refresh(key);
        self.wake_all |= refreshed.freed;
        if refreshed.queued
            && let Some(entry) = self.view.loops.get(key)
        {
            self.woken.insert((derived::queue_position(entry), key.clone()));
        }
    }

    fn fire_timers(&mut self, now: Timestamp) {
        if !self.is_acting() {
            return;
        }
        self.node_retries.retain(|name, at| {
            let due = *at <= now;
            if due {
                self.view.touch_node(name);
            }
            !due
        });
        self.duty_retries.retain(|uid, at| {
            let due = *at <= now;
            if due {
                self.view.touch_duty(uid);
            }
            !due
        });
        self.wake_all |= self.rests.fire(now);
        self.send_back_unheard(now);
        if self.next_drain.is_some_and(|at| at <= now) {
            self.end_drains(now);
        }
        while let Some((at, key)) = self.view.derived.timers.first().cloned()
            && at <= now
        {
            self.view.derived.timers.remove(&(at, key.clone()));
            if let Some(entry) = self.view.loops.get_mut(&key)
                && entry.retry_at.is_some_and(|at| at <= now)
            {
                entry.retry_at = None;
            }
            self.view.touch(&key);
        }
    }
}
