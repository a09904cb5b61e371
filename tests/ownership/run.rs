//! Runs: seal what is unsealed, take the journal over, then one effect after the other. Every push
//! appends to a journal that refuses it if anybody appended in between.

use flyball_core::planted::{self, Bug};

use crate::scheduler::Ended;
use crate::world::{Event, World};

/// How often a seal starts over because somebody else appended.
const SEAL_ATTEMPTS_MAX: u32 = 5;

/// Append-only: number and token of every record.
#[derive(Default)]
pub(crate) struct Journal(Vec<(u64, i64)>);

impl Journal {
    fn last(&self) -> i64 {
        self.0.last().map_or(0, |(_, token)| *token)
    }

    /// Where a record is; it can only be among the newest.
    fn find(&self, record: u64) -> Option<usize> {
        self.0.iter().rposition(|(id, _)| *id == record)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Seals the journals of others, from this one of the list on.
    SealOthers(usize),
    TakeOver,
    Work,
}

pub(crate) struct Run {
    id: u64,
    at: usize,
    token: i64,
    carried: Vec<(usize, i64)>,
    phase: Phase,
    /// Effects still to come.
    left: u64,
    /// Length of its journal as it knows it.
    tip: usize,
    attempts: u32,
    /// Its end is told already, by the bug that does so too early.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Seal,
    TakeOver,
    /// Paths that it writes.
    Effect(u16),
}

#[derive(Debug, Clone)]
pub(crate) struct Push {
    node: usize,
    life: u64,
    run: u64,
    journal: usize,
    token: i64,
    record: u64,
    expected: usize,
    kind: Kind,
}

impl Run {
    pub(crate) fn new(
        id: u64,
        at: usize,
        token: i64,
        carried: Vec<(usize, i64)>,
        left: u64,
    ) -> Self {
        let phase = Phase::SealOthers(0);
        Self { id, at, token, carried, phase, left, tip: 0, attempts: 0, told: false }
    }
}

/// What may not be sealed under this token: a journal that is as new.
fn refuses(last: i64, token: i64) -> bool {
    if planted::is(Bug::TokenWithoutOrder) { last == token } else { last >= token }
}

impl World {
    fn run_of(&mut self, node: usize, life: u64, run: u64) -> Option<&mut Run> {
        let found = &mut self.nodes[node];
        let alive = found.life == life;
        found.runs.iter_mut().find(|it| alive && it.id == run)
    }

    pub(crate) fn on_step(&mut self, node: usize, life: u64, run: u64) {
        if self.run_of(node, life, run).is_none() || self.nodes[node].crashed {
            return;
        }
        if let Some(wait) = self.worker_sleeps(node) {
            return self.after(wait, Event::Step { node, life, run });
        }
        self.judge_life(node, run);
        let Some(found) = self.run_of(node, life, run) else { return };
        let (at, token, tip, left) = (found.at, found.token, found.tip, found.left);
        let (phase, carried) = (found.phase, found.carried.clone());
        match phase {
            Phase::SealOthers(next) => match carried.get(next).copied() {
                // Its own is sealed by taking over; one that is as new needs nothing.
                Some((other, _)) if other == at || self.journals[other].last() >= token => {
                    self.go_on(node, life, run);
                }
                Some((other, _)) => {
                    let expected = self.journals[other].0.len();
                    self.push(node, life, run, (other, token, expected, Kind::Seal));
                }
                None => {
                    self.run_of(node, life, run)
                        .into_iter()
                        .for_each(|it| it.phase = Phase::TakeOver);
                    self.after(1, Event::Step { node, life, run });
                }
            },
            Phase::TakeOver if planted::is(Bug::NoSeal) => {
                self.start(node, life, run, self.journals[at].0.len());
            }
            Phase::TakeOver if refuses(self.journals[at].last(), token) => {
                self.end(node, life, run, false);
            }
            Phase::TakeOver => {
                let expected = self.journals[at].0.len();
                self.push(node, life, run, (at, token, expected, Kind::TakeOver));
            }
            Phase::Work if left == 0 => self.end(node, life, run, true),
            Phase::Work => {
                let written = self.dice.next() as u16 & self.owned[at].writes;
                self.push(node, life, run, (at, token, tip, Kind::Effect(written)));
            }
        }
    }

    /// I2: nothing acts after its deadline and kill budget, nor after its lease ran out.
    fn judge_life(&mut self, node: usize, run: u64) {
        let (now, found) = (self.now, &self.nodes[node]);
        let local = found.local(now);
        if !found.deadline.allows(local) && !found.is_just_thawed(now) {
            let late = local - found.deadline.0;
            self.judge.violated(format!(
                "I2 at {now} ms: run {run} on node {node} acts {late} ms after its deadline"
            ));
        } else if found.expired && !found.deceived && !found.thawed {
            self.judge.violated(format!(
                "I2 at {now} ms: run {run} on node {node} acts though its lease has run out"
            ));
        }
    }

    /// I5: two live runs never share what one of them may write, unless the store was wrong about a
    /// lease or a node was frozen; then the journals alone protect.
    fn judge_share(&mut self, node: usize, at: usize, token: i64) {
        let honest = |node: usize| {
            let node = &self.nodes[node];
            !node.deceived && !node.thawed && !node.expired
        };
        if !honest(node) {
            return;
        }
        let others = (0..self.nodes.len()).filter(|other| honest(*other));
        let mut runs =
            others.flat_map(|other| self.nodes[other].runs.iter().map(move |r| (other, r)));
        let clash = runs.find(|(_, run)| {
            let live = run.phase == Phase::Work && (run.at, run.token) != (at, token);
            live && (run.at == at || self.owned[run.at].clashes(&self.owned[at]))
        });
        if let Some((other, run)) = clash {
            let (now, theirs, under) = (self.now, run.at, run.token);
            self.judge.violated(format!(
                "I5 at {now} ms: loop {at} under {token} on node {node} starts while loop {theirs} \
                 under {under} on node {other} is alive on the same paths"
            ));
        }
    }

    fn start(&mut self, node: usize, life: u64, run: u64, tip: usize) {
        let Some(found) = self.run_of(node, life, run) else { return };
        (found.phase, found.tip) = (Phase::Work, tip);
        let (at, token) = (found.at, found.token);
        self.judge.on_start(token, self.owned[at].writes);
        self.judge_share(node, at, token);
        let pause = self.dice.between(5, 60);
        self.after(pause, Event::Step { node, life, run });
    }

    /// The next journal of the list.
    fn go_on(&mut self, node: usize, life: u64, run: u64) {
        if let Some(found) = self.run_of(node, life, run)
            && let Phase::SealOthers(next) = found.phase
        {
            (found.phase, found.attempts) = (Phase::SealOthers(next + 1), 0);
            self.after(1, Event::Step { node, life, run });
        }
    }

    fn push(&mut self, node: usize, life: u64, run: u64, what: (usize, i64, usize, Kind)) {
        let (journal, token, expected, kind) = what;
        let record = self.next_number();
        self.send_push(Push { node, life, run, journal, token, record, expected, kind });
    }

    fn send_push(&mut self, push: Push) {
        let (delay, push) = (self.delay() + self.dice.between(3, 20), Box::new(push));
        if delay > 400 || self.fault(10) {
            // Given up by the client; it may arrive all the same.
            self.after(400, Event::Pushed { push: push.clone(), lost: true });
        }
        if delay <= 400 || self.dice.chance(700) {
            self.after(delay, Event::Push(push));
        }
    }

    /// A push arrives at the repository. One whose client was killed was cut with it.
    pub(crate) fn on_push(&mut self, push: Box<Push>) {
        let Push { node, life, run, journal, token, record, expected, kind } = *push;
        if self.run_of(node, life, run).is_none() || self.nodes[node].crashed {
            return;
        }
        let chain = &mut self.journals[journal];
        let unmoved = planted::is(Bug::JournalNotMoved) && matches!(kind, Kind::Effect(_));
        if unmoved || chain.0.len() == expected {
            let last = chain.last();
            if !unmoved {
                chain.0.push((record, token));
            }
            let now = self.now;
            if last > token {
                self.judge.violated(format!(
                    "I1 at {now} ms: the journal of loop {journal} took token {token} after {last}"
                ));
            }
            if let Kind::Effect(written) = kind {
                self.judge.on_effect(now, journal, token, written);
            }
        } else if chain.find(record).is_none() {
            self.judge.counts.fenced += 1;
        }
        let lost = self.fault(20);
        let delay = if lost { 400 } else { self.dice.between(1, 10) };
        self.after(delay, Event::Pushed { push, lost });
    }

    /// The answer came, or was lost: then the journal is read.
    pub(crate) fn on_pushed(&mut self, push: &Push, lost: bool) {
        let Push { node, life, run, journal, record, expected, kind, .. } = *push;
        if self.run_of(node, life, run).is_none() || self.nodes[node].crashed {
            return;
        }
        if let Some(wait) = self.worker_sleeps(node) {
            return self.after(wait, Event::Pushed { push: Box::new(push.clone()), lost });
        }
        let found = self.journals[journal].find(record);
        let length = self.journals[journal].0.len();
        let unmoved = planted::is(Bug::JournalNotMoved) && matches!(kind, Kind::Effect(_));
        let Some(running) = self.run_of(node, life, run) else { return };
        // An answer to what was answered before.
        let stale = match (running.phase, kind) {
            (Phase::SealOthers(next), Kind::Seal) => {
                running.carried.get(next).is_none_or(|(other, _)| *other != journal)
            }
            (Phase::TakeOver, Kind::TakeOver) => false,
            (Phase::Work, Kind::Effect(_)) => running.tip != expected && !unmoved,
            _ => true,
        };
        if stale {
            return;
        }
        match (found, kind) {
            (Some(_), Kind::Seal) => self.go_on(node, life, run),
            (Some(at), Kind::TakeOver) => self.start(node, life, run, at + 1),
            (_, Kind::Effect(_)) if found.is_some() || unmoved => {
                running.tip = found.map_or(running.tip, |at| at + 1);
                running.left = running.left.saturating_sub(1);
                let pause = self.dice.between(5, 60);
                self.after(pause, Event::Step { node, life, run });
            }
            (None, _) if length == expected && lost => self.send_push(push.clone()),
            (None, Kind::Effect(_)) => self.end(node, life, run, false),
            (None, _) => {
                running.attempts += 1;
                if running.attempts >= SEAL_ATTEMPTS_MAX {
                    return self.end(node, life, run, false);
                }
                self.after(5, Event::Step { node, life, run });
            }
            (Some(_), Kind::Effect(_)) => {}
        }
    }

    /// The run is over: its processes are gone, then that is told.
    fn end(&mut self, node: usize, life: u64, run: u64, properly: bool) {
        let early = planted::is(Bug::ReleaseBeforeGone) && properly;
        let now = self.now;
        let Some(found) = self.run_of(node, life, run) else { return };
        let (at, token, told) = (found.at, found.token, found.told);
        let carried = found.carried.clone();
        if early && !told {
            (found.told, found.left) = (true, 1);
            self.after(300, Event::Step { node, life, run });
        } else {
            self.nodes[node].runs.retain(|it| it.id != run);
        }
        if told {
            return;
        }
        if properly {
            self.finished[at] = now;
        }
        self.say(|| format!("run {run} of loop {at} under {token} is over"));
        let ended = Ended { at, token, node, life };
        // What was not sealed to the end stays listed.
        let carried = if properly { carried } else { Vec::new() };
        self.nodes[node].reports.push((ended, carried.clone()));
        self.tell_end(ended, carried);
    }
}
