//! Nodes: a worker that renews its lease by the real lease clock, a guard that kills at the deadline, and
//! clocks that run at different speeds. A worker can be stopped or crash, a whole node can be frozen.

use std::collections::BTreeSet;
use std::time::Duration;

use flyball_core::lease::{Answer, BootInstant, Ended as Over, LeaseClock, Margins, Renewal};
use flyball_core::planted::{self, Bug};

use crate::dice::Dice;
use crate::judge::{DRIFT_PPM, Deadline, KILL_BUDGET_MS};
use crate::run::Run;
use crate::scheduler::Ended;
use crate::store::Claim;
use crate::world::{Event, TTL_MS, TTL_S, World};

const MARGINS: Margins =
    Margins { drift_ppm: DRIFT_PPM as u32, kill_budget: Duration::from_millis(KILL_BUDGET_MS) };

pub(crate) struct Node {
    /// Millionths by which its clock is faster than true time.
    rate: i64,
    offset: u64,
    pub(crate) life: u64,
    /// Its processes are being killed.
    dying: bool,
    pub(crate) crashed: bool,
    pub(crate) paused_until: u64,
    pub(crate) frozen_until: u64,
    pub(crate) cut_until: u64,
    pub(crate) lied_to_until: u64,
    /// In this life: it was frozen, its lease was ended early or it was lied to, its lease ran out.
    pub(crate) thawed: bool,
    pub(crate) deceived: bool,
    pub(crate) expired: bool,
    pub(crate) lease: i64,
    clock: Option<LeaseClock>,
    /// The guard's deadline, and whether it has acted on it.
    page: u64,
    page_over: bool,
    pub(crate) deadline: Deadline,
    tries: u64,
    /// The heartbeat under way, and when it was sent.
    waiting: Option<(u64, u64)>,
    pub(crate) runs: Vec<Run>,
    known: BTreeSet<(usize, i64)>,
    /// Ends that nobody has acknowledged yet, with the journals that the runs had sealed.
    pub(crate) reports: Vec<(Ended, Vec<(usize, i64)>)>,
}

impl Node {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let limit = DRIFT_PPM as i64;
        Self {
            rate: dice.between(0, 2 * DRIFT_PPM) as i64 - limit,
            offset: dice.below(1_000_000),
            life: 0,
            dying: false,
            crashed: false,
            paused_until: 0,
            frozen_until: 0,
            cut_until: 0,
            lied_to_until: 0,
            thawed: false,
            deceived: false,
            expired: false,
            lease: 0,
            clock: None,
            page: 0,
            page_over: false,
            deadline: Deadline::default(),
            tries: 0,
            waiting: None,
            runs: Vec::new(),
            known: BTreeSet::new(),
            reports: Vec::new(),
        }
    }

    pub(crate) fn local(&self, now: u64) -> u64 {
        self.offset + (now as i64 * (1_000_000 + self.rate) / 1_000_000) as u64
    }

    /// True milliseconds until its clock has gone on so far.
    fn real(&self, span: u64) -> u64 {
        (span as i64 * 1_000_000 / (1_000_000 + self.rate)) as u64 + 1
    }

    /// It was frozen until just now: its guard has not had its time to kill yet.
    pub(crate) fn is_just_thawed(&self, now: u64) -> bool {
        now <= self.frozen_until + self.real(KILL_BUDGET_MS) + 10
    }

    pub(crate) fn on_ack(&mut self, life: u64, at: usize, token: i64) {
        if self.life == life {
            self.reports.retain(|(ended, _)| (ended.at, ended.token) != (at, token));
        }
    }
}

impl World {
    /// If the worker does not run now: how long not. Who wakes first after a freeze is chance.
    pub(crate) fn worker_sleeps(&mut self, node: usize) -> Option<u64> {
        let until = self.nodes[node].paused_until.max(self.nodes[node].frozen_until);
        (until > self.now).then(|| until - self.now + self.dice.below(4))
    }

    fn guard_sleeps(&mut self, node: usize) -> Option<u64> {
        let until = self.nodes[node].frozen_until;
        (until > self.now).then(|| until - self.now + self.dice.below(4))
    }

    /// A new life: nothing of the last one is left.
    pub(crate) fn on_begin(&mut self, node: usize) {
        if let Some(wait) = self.guard_sleeps(node) {
            return self.after(wait, Event::Begin(node));
        }
        let old = std::mem::replace(&mut self.nodes[node], Node::new(&mut Dice::new(0)));
        let life = old.life + 1;
        let new = &mut self.nodes[node];
        (new.life, new.rate, new.offset) = (life, old.rate, old.offset);
        (new.cut_until, new.lied_to_until) = (old.cut_until, old.lied_to_until);
        self.after(5, Event::Register { node, life });
    }

    pub(crate) fn on_register(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life || self.nodes[node].lease != 0 {
            return;
        }
        if let Some(wait) = self.worker_sleeps(node) {
            return self.after(wait, Event::Register { node, life });
        }
        self.after(400, Event::Register { node, life });
        let now = self.now;
        let leader = self.leader().filter(|it| self.schedulers[*it].asleep(now).is_none());
        let Some(leader) = leader.filter(|_| self.nodes[node].cut_until <= now) else { return };
        if self.store.leader.is_none_or(|(_, holder, _)| holder != leader) {
            return;
        }
        let sent = self.nodes[node].local(now);
        let lease = match self.store.sessions[node] {
            Some(session) if session.life == life => {
                self.store.renew(now, session.lease);
                session.lease
            }
            other => {
                if let Some(session) = other {
                    self.schedulers[leader].proven.insert((node, session.life));
                    self.store.revoke(session.lease);
                }
                let lease = self.store.grant(now, TTL_MS);
                self.store.open_session(node, life, lease);
                lease
            }
        };
        if !self.fault(30) {
            let delay = self.delay();
            self.after(delay, Event::Opened { node, life, sent, lease });
        }
    }

    pub(crate) fn on_opened(&mut self, node: usize, life: u64, sent: u64, lease: i64) {
        if self.nodes[node].life != life || self.nodes[node].lease != 0 {
            return;
        }
        if let Some(wait) = self.worker_sleeps(node) {
            return self.after(wait, Event::Opened { node, life, sent, lease });
        }
        let found = &mut self.nodes[node];
        let local = found.local(self.now);
        let clock = LeaseClock::granted(MARGINS, BootInstant(sent), TTL_S, BootInstant(local));
        found.deadline.on_answer(sent, local, TTL_MS);
        found.page = clock.deadline().0;
        (found.lease, found.clock) = (lease, Some(clock));
        let wait = found.real(found.page.saturating_sub(local));
        self.after(wait, Event::GuardDue { node, life });
        self.after(1, Event::Beat { node, life });
        self.after(10, Event::Report { node, life });
    }

    pub(crate) fn on_beat(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life || self.nodes[node].dying {
            return;
        }
        if let Some(wait) = self.worker_sleeps(node) {
            return self.after(wait, Event::Beat { node, life });
        }
        let found = &mut self.nodes[node];
        let sent = found.local(self.now);
        let Some(clock) = &mut found.clock else { return };
        if let Some(over) = clock.on_time(BootInstant(sent)) {
            return self.end_life(node, over);
        }
        found.tries += 1;
        let id = found.tries;
        clock.on_sent(id, BootInstant(sent));
        found.waiting = Some((id, sent));
        let (lease, timeout) = (found.lease, found.real(TTL_MS / 3));
        if self.nodes[node].cut_until <= self.now && !self.fault(30) {
            let delay = self.delay();
            self.after(delay, Event::Renew { node, life, id, lease });
        }
        self.after(timeout, Event::Heard { node, life, id, answer: Answer::Unknown });
    }

    /// A heartbeat came to a scheduler.
    pub(crate) fn on_renew(&mut self, node: usize, life: u64, id: u64, lease: i64) {
        let at = self.dice.index(self.schedulers.len());
        if let Some(until) = self.schedulers[at].asleep(self.now) {
            let wait = until - self.now;
            return self.after(wait, Event::Renew { node, life, id, lease });
        }
        let now = self.now;
        let cached = self.schedulers[at].renewals.get(&lease).copied();
        let cached = cached.filter(|at| now - at < TTL_MS / 2);
        let mut renewed = planted::is(Bug::RenewalFromCache) && cached.is_some();
        if self.nodes[node].lied_to_until > now {
            // A store that answers well though the lease is gone, or without doing anything.
            self.judge.counts.faults += 1;
            self.nodes[node].deceived |= self.nodes[node].life == life;
            renewed = true;
        } else if !renewed {
            renewed = self.store.renew(now, lease);
            self.schedulers[at].renewals.insert(lease, now);
        }
        let answer = if renewed { Answer::Renewed { ttl_seconds: TTL_S } } else { Answer::Lost };
        if !self.fault(30) {
            let delay = self.delay();
            self.after(delay, Event::Heard { node, life, id, answer });
        }
    }

    /// An answer came, or none came in time.
    pub(crate) fn on_heard(&mut self, node: usize, life: u64, id: u64, answer: Answer) {
        if self.nodes[node].life != life || self.nodes[node].dying {
            return;
        }
        let Some((_, sent)) = self.nodes[node].waiting.filter(|(waits, _)| *waits == id) else {
            return;
        };
        if let Some(wait) = self.worker_sleeps(node) {
            return self.after(wait, Event::Heard { node, life, id, answer });
        }
        let found = &mut self.nodes[node];
        found.waiting = None;
        let local = found.local(self.now);
        let Some(clock) = &mut found.clock else { return };
        if matches!(answer, Answer::Renewed { .. }) {
            found.deadline.on_answer(sent, local, TTL_MS);
        }
        let over = match clock.on_answer(id, answer, BootInstant(local)) {
            Renewal::Extended(until) if !found.extend(until.0, local) => Some(Over::Expired),
            Renewal::Extended(_) | Renewal::Kept(_) => None,
            Renewal::Ended(over) => Some(over),
        };
        if let Some(over) = over {
            return self.end_life(node, over);
        }
        let wait = match answer {
            Answer::Renewed { .. } => {
                LeaseClock::next_try(BootInstant(sent), Duration::from_millis(TTL_MS)).0
            }
            _ => local + TTL_MS / 20,
        };
        let wait = self.nodes[node].real(wait.saturating_sub(local));
        self.after(wait, Event::Beat { node, life });
    }

    pub(crate) fn on_guard_due(&mut self, node: usize, life: u64) {
        let found = &self.nodes[node];
        if found.life != life || found.dying {
            return;
        }
        if let Some(wait) = self.guard_sleeps(node) {
            return self.after(wait, Event::GuardDue { node, life });
        }
        let found = &mut self.nodes[node];
        let left = found.page.saturating_sub(found.local(self.now));
        if left > 0 {
            let wait = found.real(left);
            return self.after(wait, Event::GuardDue { node, life });
        }
        if planted::is(Bug::ParentDeathOnly) {
            return;
        }
        found.page_over = true;
        self.judge.counts.killed += 1;
        self.kill(node, KILL_BUDGET_MS / 2);
    }

    /// Everything of the node's life is dead so many milliseconds later at the latest.
    fn kill(&mut self, node: usize, within: u64) {
        let found = &mut self.nodes[node];
        if std::mem::replace(&mut found.dying, true) {
            return;
        }
        let life = found.life;
        let delay = self.dice.between(1, within);
        self.after(delay, Event::Killed { node, life });
    }

    fn end_life(&mut self, node: usize, over: Over) {
        self.say(|| format!("node {node}: {over}"));
        self.kill(node, 20);
    }

    /// The guard notices at once.
    pub(crate) fn crash_worker(&mut self, node: usize) {
        self.say(|| format!("worker {node} crashes"));
        self.nodes[node].crashed = true;
        self.kill(node, KILL_BUDGET_MS / 2);
    }

    pub(crate) fn on_killed(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life {
            return;
        }
        if let Some(wait) = self.guard_sleeps(node) {
            return self.after(wait, Event::Killed { node, life });
        }
        self.nodes[node].runs.clear();
        let delay = self.dice.between(20, 200);
        self.after(delay, Event::Begin(node));
    }

    pub(crate) fn on_assign(&mut self, claim: Claim, at: usize, carried: Vec<(usize, i64)>) {
        let Claim { node, life, token, lease, .. } = claim;
        let found = &self.nodes[node];
        if found.life != life || found.dying || ![0, lease].contains(&found.lease) {
            return;
        }
        if found.lease == 0 {
            // The answer to its registration comes first.
            return self.after(50, Event::Assign { claim, at, carried });
        }
        if let Some(wait) = self.worker_sleeps(node) {
            return self.after(wait, Event::Assign { claim, at, carried });
        }
        // The guard lets nothing start once its deadline has passed.
        let found = &mut self.nodes[node];
        if found.local(self.now) >= found.page || !found.known.insert((at, token)) {
            return;
        }
        let run = self.next_number();
        self.say(|| {
            format!("run {run}: loop {at} under {token} on node {node}, seals {carried:?}")
        });
        let left = self.dice.between(1, 3);
        self.nodes[node].runs.push(Run::new(run, at, token, carried, left));
        self.after(3, Event::Step { node, life, run });
    }

    /// Tells what nobody has acknowledged yet, again and again.
    pub(crate) fn on_report(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life || self.nodes[node].crashed {
            return;
        }
        if let Some(wait) = self.worker_sleeps(node) {
            return self.after(wait, Event::Report { node, life });
        }
        self.after(150, Event::Report { node, life });
        if self.nodes[node].cut_until > self.now {
            return;
        }
        for (ended, carried) in self.nodes[node].reports.clone() {
            self.tell_end(ended, carried);
        }
    }

    pub(crate) fn tell_end(&mut self, ended: Ended, carried: Vec<(usize, i64)>) {
        if self.nodes[ended.node].cut_until <= self.now && !self.fault(20) {
            let delay = self.delay();
            self.after(delay, Event::Sealed { carried });
            self.after(delay, Event::RunEnded(ended));
        }
    }
}

impl Node {
    /// The guard's page: forward only, and never again once it was over.
    fn extend(&mut self, until: u64, local: u64) -> bool {
        let over = local >= self.page && !planted::is(Bug::LateAnswerRevives);
        if self.page_over || over {
            return false;
        }
        self.page = self.page.max(until);
        true
    }
}
