//! Schedulers: they campaign, list, place what is free by the real claim index, and resolve what they do
//! not know. Their writes go to the store one by one, each with everything it relies on.

use std::collections::{BTreeMap, BTreeSet};

use flyball_core::ids::Token;
use flyball_core::planted::{self, Bug};
use flyball_core::resource::ClaimIndex;

use crate::store::{Claim, Outcome, Row, Session, Write};
use crate::world::{Event, World};

const LEADER_TTL_MS: u64 = 2000;
/// A request without an answer by then has an unknown outcome.
const ANSWER_MAX_MS: u64 = 700;

#[derive(Debug, Clone)]
pub(crate) struct Commit {
    scheduler: usize,
    boot: u64,
    id: u64,
    /// Create revision of the leader key that it compares.
    term: i64,
    at: usize,
    status: i64,
    write: Write,
}

/// What a scheduler hears of a commit.
#[derive(Debug, Clone)]
pub(crate) enum Resolved {
    /// The answer, and the loop as it was right after.
    Known(Outcome, Box<Row>),
    Unknown,
}

/// A run's report of its end: nothing of it is alive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) at: usize,
    pub(crate) token: i64,
    pub(crate) node: usize,
    pub(crate) life: u64,
}

struct Term {
    create: i64,
    lease: i64,
    renewed_at: u64,
    /// Has listed what is not older than its leadership.
    acting: bool,
}

struct InFlight {
    id: u64,
    write: Write,
    unknown: bool,
}

pub(crate) struct Scheduler {
    boot: u64,
    down_until: u64,
    paused_until: u64,
    /// Its watch is silent until then.
    pub(crate) deaf_until: u64,
    term: Option<Term>,
    rows: Vec<Row>,
    revision: i64,
    sessions: Vec<Option<Session>>,
    index: ClaimIndex<usize>,
    in_flight: BTreeMap<usize, InFlight>,
    sent: BTreeMap<usize, i64>,
    ended: BTreeMap<usize, Ended>,
    sealed: BTreeSet<(usize, i64)>,
    pub(crate) proven: BTreeSet<(usize, u64)>,
    /// Renewals answered before, for the bug that answers with them.
    pub(crate) renewals: BTreeMap<i64, u64>,
}

impl Scheduler {
    pub(crate) fn new(loops: usize, nodes: usize) -> Self {
        Self {
            boot: 0,
            down_until: 0,
            paused_until: 0,
            deaf_until: 0,
            term: None,
            rows: vec![Row::default(); loops],
            revision: 0,
            sessions: vec![None; nodes],
            index: ClaimIndex::new(),
            in_flight: BTreeMap::new(),
            sent: BTreeMap::new(),
            ended: BTreeMap::new(),
            sealed: BTreeSet::new(),
            proven: BTreeSet::new(),
            renewals: BTreeMap::new(),
        }
    }

    /// When it runs again, if it does not run now.
    pub(crate) fn asleep(&self, now: u64) -> Option<u64> {
        Some(self.down_until.max(self.paused_until)).filter(|until| *until > now)
    }

    pub(crate) fn pause(&mut self, until: u64) {
        self.paused_until = self.paused_until.max(until);
    }

    /// What only a leader knows is forgotten.
    fn step_down(&mut self) {
        self.term = None;
        self.in_flight.clear();
        self.sent.clear();
        self.ended.clear();
        self.sealed.clear();
        self.proven.clear();
    }
}

impl World {
    pub(crate) fn crash_scheduler(&mut self, at: usize, span: u64) {
        self.say(|| format!("scheduler {at} crashes for {span} ms"));
        let scheduler = &mut self.schedulers[at];
        scheduler.step_down();
        scheduler.boot += 1;
        scheduler.down_until = scheduler.down_until.max(self.now + span);
        scheduler.renewals.clear();
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        let term = |it: &usize| self.schedulers[*it].term.as_ref().map(|term| term.create);
        (0..self.schedulers.len()).filter(|it| term(it).is_some()).max_by_key(term)
    }

    pub(crate) fn on_tick(&mut self, at: usize) {
        if let Some(until) = self.schedulers[at].asleep(self.now) {
            let wait = until - self.now;
            return self.after(wait, Event::Tick(at));
        }
        let pause = self.dice.between(30, 120);
        self.after(pause, Event::Tick(at));
        if self.schedulers[at].deaf_until <= self.now && self.dice.chance(900) {
            (0..self.owned.len()).for_each(|it| self.refresh(at, it, self.store.rows[it].clone()));
            self.schedulers[at].sessions.clone_from(&self.store.sessions);
            self.schedulers[at].revision = self.store.revision;
        }
        self.hold_or_campaign(at);
        // The one that waits longest comes first, and what overlaps it waits behind it.
        let mut order: Vec<usize> = (0..self.owned.len()).collect();
        order.sort_by_key(|it| self.schedulers[at].rows[*it].status);
        let mut waiting = Vec::new();
        for it in order {
            self.act(at, it, &mut waiting);
        }
    }

    fn hold_or_campaign(&mut self, at: usize) {
        let now = self.now;
        let Some(term) = &mut self.schedulers[at].term else {
            if self.store.leader.is_none() {
                let lease = self.store.grant(now, LEADER_TTL_MS);
                let create = self.store.lead(at, lease);
                let acting = planted::is(Bug::StaleList);
                let scheduler = &mut self.schedulers[at];
                scheduler.step_down();
                scheduler.term = Some(Term { create, lease, renewed_at: now, acting });
                let boot = scheduler.boot;
                (0..self.owned.len()).for_each(|it| self.reindex(at, it));
                let delay = self.delay();
                self.after(delay, Event::List { scheduler: at, boot });
                self.say(|| format!("scheduler {at} leads since {create}"));
            }
            return;
        };
        if now - term.renewed_at < LEADER_TTL_MS / 3 {
            return;
        }
        if self.store.renew(now, term.lease) {
            term.renewed_at = now;
        } else {
            self.schedulers[at].step_down();
        }
    }

    /// A list came, possibly from a member of the store that lags behind.
    pub(crate) fn on_list(&mut self, at: usize, boot: u64) {
        if let Some(until) = self.schedulers[at].asleep(self.now) {
            let wait = until - self.now;
            return self.after(wait, Event::List { scheduler: at, boot });
        }
        let stale = self.fault(200);
        if !stale {
            (0..self.owned.len()).for_each(|it| self.refresh(at, it, self.store.rows[it].clone()));
            self.schedulers[at].sessions.clone_from(&self.store.sessions);
            self.schedulers[at].revision = self.store.revision;
        }
        let scheduler = &mut self.schedulers[at];
        let Some(term) = scheduler.term.as_mut().filter(|_| scheduler.boot == boot) else { return };
        if scheduler.revision >= term.create {
            term.acting = true;
        } else {
            self.after(20, Event::List { scheduler: at, boot });
        }
    }

    /// Takes a newer state of a loop into the view.
    fn refresh(&mut self, at: usize, it: usize, row: Row) {
        let scheduler = &mut self.schedulers[at];
        if row.changed <= scheduler.rows[it].changed {
            return;
        }
        scheduler.rows[it] = row;
        if scheduler.in_flight.contains_key(&it) {
            return;
        }
        self.reindex(at, it);
    }

    /// A loop holds its set while it has a claim, and until its lost run is written down.
    fn reindex(&mut self, at: usize, it: usize) {
        let scheduler = &mut self.schedulers[at];
        match scheduler.rows[it].claim.or(scheduler.rows[it].assigned) {
            Some(claim) => scheduler.index.insert(it, Token(claim.token), &self.owned[it].set),
            None => drop(scheduler.index.remove(&it)),
        }
    }

    fn act(&mut self, at: usize, it: usize, waiting: &mut Vec<usize>) {
        let scheduler = &self.schedulers[at];
        if scheduler.term.as_ref().is_none_or(|term| !term.acting) {
            return;
        }
        if let Some(found) = scheduler.in_flight.get(&it) {
            if found.unknown {
                self.resolve(at, it, found.id);
            }
            return;
        }
        let row = &scheduler.rows[it];
        let ended = scheduler.ended.get(&it).copied();
        let sealed = row.unsealed.iter().find(|token| scheduler.sealed.contains(&(it, **token)));
        match (row.assigned, row.claim) {
            (_, Some(claim)) if ended.is_some_and(|ended| ended.token == claim.token) => {
                self.commit(at, it, Write::Release { token: claim.token });
            }
            _ if sealed.is_some() => {
                let write = sealed.map(|token| Write::Sealed { token: *token });
                write.into_iter().for_each(|write| self.commit(at, it, write));
            }
            (Some(lost), None) => {
                let proven = scheduler.proven.contains(&(lost.node, lost.life));
                self.commit(at, it, Write::Lost { proven });
            }
            (None, None) => self.place(at, it, waiting),
            (_, Some(claim)) => self.tell(at, it, claim),
        }
    }

    fn place(&mut self, at: usize, it: usize, waiting: &mut Vec<usize>) {
        let scheduler = &self.schedulers[at];
        let set = &self.owned[it].set;
        let behind = waiting.iter().any(|other| self.owned[*other].set.conflicts(set));
        if behind || !scheduler.index.is_free(set) {
            return waiting.push(it);
        }
        let node = self.dice.index(scheduler.sessions.len());
        let Some(session) = scheduler.sessions[node] else { return waiting.push(it) };
        self.schedulers[at].index.insert(it, Token(0), &self.owned[it].set);
        let attempt = self.next_number();
        self.commit(at, it, Write::Assign { session, node, attempt });
    }

    /// Sends an assignment, once per term, with every journal that has to be sealed first.
    fn tell(&mut self, at: usize, it: usize, claim: Claim) {
        if self.schedulers[at].sent.insert(it, claim.token) == Some(claim.token) {
            return;
        }
        let mut carried = Vec::new();
        for (other, row) in self.schedulers[at].rows.iter().enumerate() {
            let overlaps = || self.owned[it].set.conflicts(&self.owned[other].set);
            if other == it || (!planted::is(Bug::UnsealedIgnored) && overlaps()) {
                carried.extend(row.unsealed.iter().map(|token| (other, *token)));
            }
        }
        if self.nodes[claim.node].cut_until > self.now || self.fault(20) {
            // The stream broke; on the next one it is sent again.
            self.schedulers[at].sent.remove(&it);
            return;
        }
        let delay = self.delay();
        self.after(delay, Event::Assign { claim, at: it, carried });
    }

    fn commit(&mut self, at: usize, it: usize, write: Write) {
        let id = match &write {
            Write::Assign { attempt, .. } => *attempt,
            _ => self.next_number(),
        };
        let scheduler = &mut self.schedulers[at];
        let Some(term) = scheduler.term.as_ref().map(|term| term.create) else { return };
        let (boot, status) = (scheduler.boot, scheduler.rows[it].status);
        scheduler.in_flight.insert(it, InFlight { id, write: write.clone(), unknown: false });
        self.send(Commit { scheduler: at, boot, id, term, at: it, status, write });
    }

    fn send(&mut self, commit: Commit) {
        let (delay, lost) = (self.delay(), self.fault(20));
        if delay > ANSWER_MAX_MS || lost {
            let (commit, resolved) = (Box::new(commit.clone()), Resolved::Unknown);
            self.after(ANSWER_MAX_MS, Event::Applied { commit, resolved });
        }
        if !lost {
            self.after(delay, Event::Apply(Box::new(commit)));
        }
    }

    /// Asks by a transaction after which the attempt cannot be applied any more.
    fn resolve(&mut self, at: usize, it: usize, attempt: u64) {
        if planted::is(Bug::NoReadBack) {
            self.schedulers[at].in_flight.remove(&it);
            self.reindex(at, it);
            return;
        }
        let scheduler = &mut self.schedulers[at];
        let Some(term) = scheduler.term.as_ref().map(|term| term.create) else { return };
        if let Some(found) = scheduler.in_flight.get_mut(&it) {
            found.unknown = false;
        }
        let (boot, status) = (scheduler.boot, self.store.rows[it].status);
        let write = Write::Ask;
        self.send(Commit { scheduler: at, boot, id: attempt, term, at: it, status, write });
    }

    pub(crate) fn on_apply(&mut self, commit: Box<Commit>) {
        let Commit { term, at, status, .. } = *commit;
        let outcome = self.store.commit(term, at, status, &commit.write, &self.owned[at]);
        self.say(|| format!("commit {commit:?}: {outcome:?}"));
        let row = Box::new(self.store.rows[at].clone());
        let (resolved, delay) = if self.fault(20) {
            (Resolved::Unknown, ANSWER_MAX_MS)
        } else {
            (Resolved::Known(outcome, row), self.delay())
        };
        self.after(delay, Event::Applied { commit, resolved });
    }

    pub(crate) fn on_applied(&mut self, commit: &Commit, resolved: Resolved) {
        let Commit { scheduler: at, boot, id, at: it, .. } = *commit;
        if let Some(until) = self.schedulers[at].asleep(self.now) {
            let wait = until - self.now;
            let commit = Box::new(commit.clone());
            return self.after(wait, Event::Applied { commit, resolved });
        }
        let scheduler = &mut self.schedulers[at];
        let current = scheduler.boot == boot
            && scheduler.term.as_ref().is_some_and(|term| term.create == commit.term)
            && scheduler.in_flight.get(&it).is_some_and(|found| found.id == id);
        if !current {
            return;
        }
        match resolved {
            Resolved::Known(Outcome::Fenced, _) => scheduler.step_down(),
            // An ask that came too late is asked again.
            Resolved::Known(Outcome::Refused, _) if matches!(commit.write, Write::Ask) => {
                scheduler.in_flight.entry(it).and_modify(|found| found.unknown = true);
            }
            Resolved::Known(_, row) => {
                self.refresh(at, it, *row);
                if let Some(done) = self.schedulers[at].in_flight.remove(&it)
                    && matches!(done.write, Write::Release { .. })
                {
                    self.schedulers[at].ended.remove(&it);
                }
                self.reindex(at, it);
                // An assignment is told at once, the others wait for their turn.
                if self.schedulers[at].rows[it].claim.is_some() {
                    self.act(at, it, &mut Vec::new());
                }
            }
            Resolved::Unknown => {
                scheduler.in_flight.entry(it).and_modify(|found| found.unknown = true);
            }
        }
    }

    /// A run's end is told; the run is told that it was heard.
    pub(crate) fn on_run_ended(&mut self, ended: Ended) {
        let Ended { at, token, node, life } = ended;
        let Some(leader) = self.leader() else { return };
        let scheduler = &mut self.schedulers[leader];
        if scheduler.asleep(self.now).is_some() {
            return;
        }
        if scheduler.rows[at].claim.is_some_and(|claim| claim.token == token) {
            scheduler.ended.insert(at, ended);
            self.act(leader, at, &mut Vec::new());
        } else if scheduler.revision >= token {
            // It is released, or it was lost before: either way nobody waits for it any more.
            self.nodes[node].on_ack(life, at, token);
        }
    }

    pub(crate) fn on_sealed(&mut self, carried: Vec<(usize, i64)>) {
        if let Some(leader) = self.leader() {
            self.schedulers[leader].sealed.extend(carried);
        }
    }
}
