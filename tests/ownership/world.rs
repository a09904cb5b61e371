//! The world of one seed: true time in milliseconds, a queue of what is going to happen, and the faults.

use std::collections::BTreeMap;

use flyball_core::lease::Answer;

use crate::dice::Dice;
use crate::judge::Judge;
use crate::node::Node;
use crate::run::{Journal, Push};
use crate::scheduler::{Commit, Ended, Resolved, Scheduler};
use crate::sets::Owned;
use crate::store::{Claim, Store};

const LOOPS: usize = 6;
const NODES: usize = 4;
const SCHEDULERS: usize = 2;
/// So long faults happen, then so long they do not, after which every loop must have gone on.
const ROUGH_MS: u64 = 120_000;
const CALM_MS: u64 = 40_000;
/// Lease time to live of workers, seconds.
pub(crate) const TTL_S: i64 = 3;
pub(crate) const TTL_MS: u64 = 3000;

/// Something that is going to happen. What belongs to one life of a node or one start of a scheduler
/// carries its number, and comes to nothing when that is over.
pub(crate) enum Event {
    Tick(usize),
    List {
        scheduler: usize,
        boot: u64,
    },
    Apply(Box<Commit>),
    Applied {
        commit: Box<Commit>,
        resolved: Resolved,
    },
    /// An assignment on the stream of the session of this claim.
    Assign {
        claim: Claim,
        at: usize,
        carried: Vec<(usize, i64)>,
    },
    RunEnded(Ended),
    Sealed {
        carried: Vec<(usize, i64)>,
    },
    Begin(usize),
    Register {
        node: usize,
        life: u64,
    },
    Opened {
        node: usize,
        life: u64,
        sent: u64,
        lease: i64,
    },
    Beat {
        node: usize,
        life: u64,
    },
    Renew {
        node: usize,
        life: u64,
        id: u64,
        lease: i64,
    },
    Heard {
        node: usize,
        life: u64,
        id: u64,
        answer: Answer,
    },
    GuardDue {
        node: usize,
        life: u64,
    },
    Killed {
        node: usize,
        life: u64,
    },
    Report {
        node: usize,
        life: u64,
    },
    Step {
        node: usize,
        life: u64,
        run: u64,
    },
    Push(Box<Push>),
    Pushed {
        push: Box<Push>,
        lost: bool,
    },
    Scan,
    Fault,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) dice: Dice,
    queue: BTreeMap<(u64, u64), Event>,
    number: u64,
    pub(crate) store: Store,
    pub(crate) owned: Vec<Owned>,
    pub(crate) schedulers: Vec<Scheduler>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) journals: Vec<Journal>,
    pub(crate) judge: Judge,
    /// When each loop last came to a proper end.
    pub(crate) finished: Vec<u64>,
    /// Says everything that happens; for replays.
    pub(crate) talks: bool,
}

impl World {
    pub(crate) fn new(seed: u64, talks: bool) -> Self {
        let mut dice = Dice::new(seed);
        let owned: Vec<Owned> = (0..LOOPS).map(|_| Owned::roll(&mut dice)).collect();
        let nodes = (0..NODES).map(|_| Node::new(&mut dice)).collect();
        let mut world = Self {
            now: 1000,
            dice,
            queue: BTreeMap::new(),
            number: 0,
            store: Store::new(LOOPS, NODES),
            owned,
            schedulers: (0..SCHEDULERS).map(|_| Scheduler::new(LOOPS, NODES)).collect(),
            nodes,
            journals: (0..LOOPS).map(|_| Journal::default()).collect(),
            judge: Judge::default(),
            finished: vec![0; LOOPS],
            talks,
        };
        (0..SCHEDULERS).for_each(|it| world.after(it as u64 * 30, Event::Tick(it)));
        (0..NODES).for_each(|it| world.after(it as u64 * 20, Event::Begin(it)));
        world.after(500, Event::Scan);
        world.after(300, Event::Fault);
        world
    }

    /// Lives through it; ends at the first violation.
    pub(crate) fn run(&mut self) {
        while self.judge.violation.is_none()
            && let Some(((at, _), event)) = self.queue.pop_first()
            && at < ROUGH_MS + CALM_MS
        {
            self.now = at;
            self.judge.counts.events += 1;
            self.happen(event);
        }
        self.judge.counts.simulated_ms = self.now;
        let late = (0..LOOPS).find(|at| self.finished[*at] < ROUGH_MS);
        if let Some(at) = late {
            let row = &self.store.rows[at];
            self.judge.violated(format!("I4: loop {at} did not go on after the faults: {row:?}"));
        }
        self.judge.counts.handovers = self.store.claims.saturating_sub(LOOPS as u64);
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.number += 1;
        self.queue.insert((self.now + ms, self.number), event);
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        #[expect(clippy::print_stdout, reason = "a replay is for reading")]
        if self.talks {
            println!("{:>7} {}", self.now, what());
        }
    }

    pub(crate) fn is_rough(&self) -> bool {
        self.now < ROUGH_MS
    }

    /// A fault of this likelihood happens now.
    pub(crate) fn fault(&mut self, per_mille: u64) -> bool {
        let hit = self.is_rough() && self.dice.chance(per_mille);
        self.judge.counts.faults += u64::from(hit);
        hit
    }

    /// How long a message is under way: short, now and then very long.
    pub(crate) fn delay(&mut self) -> u64 {
        if self.fault(20) { self.dice.between(300, 4000) } else { self.dice.between(1, 12) }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(scheduler) => self.on_tick(scheduler),
            Event::List { scheduler, boot } => self.on_list(scheduler, boot),
            Event::Apply(commit) => self.on_apply(commit),
            Event::Applied { commit, resolved } => self.on_applied(&commit, resolved),
            Event::Assign { claim, at, carried } => self.on_assign(claim, at, carried),
            Event::RunEnded(ended) => self.on_run_ended(ended),
            Event::Sealed { carried } => self.on_sealed(carried),
            Event::Begin(node) => self.on_begin(node),
            Event::Register { node, life } => self.on_register(node, life),
            Event::Opened { node, life, sent, lease } => self.on_opened(node, life, sent, lease),
            Event::Beat { node, life } => self.on_beat(node, life),
            Event::Renew { node, life, id, lease } => self.on_renew(node, life, id, lease),
            Event::Heard { node, life, id, answer } => self.on_heard(node, life, id, answer),
            Event::GuardDue { node, life } => self.on_guard_due(node, life),
            Event::Killed { node, life } => self.on_killed(node, life),
            Event::Report { node, life } => self.on_report(node, life),
            Event::Step { node, life, run } => self.on_step(node, life, run),
            Event::Push(push) => self.on_push(push),
            Event::Pushed { push, lost } => self.on_pushed(&push, lost),
            Event::Scan => self.on_scan(),
            Event::Fault => self.on_fault(),
        }
    }

    /// The store looks for leases that are over, as etcd does twice a second.
    fn on_scan(&mut self) {
        for lease in self.store.expire(self.now) {
            for node in self.nodes.iter_mut().filter(|node| node.lease == lease) {
                node.expired = true;
            }
        }
        self.after(500, Event::Scan);
    }

    fn on_fault(&mut self) {
        if !self.is_rough() {
            return;
        }
        self.judge.counts.faults += 1;
        let node = self.dice.index(NODES);
        let scheduler = self.dice.index(SCHEDULERS);
        let span = self.dice.between(50, 2 * TTL_MS);
        let until = self.now + span;
        match self.dice.below(12) {
            0 => self.crash_worker(node),
            1 | 2 => {
                self.say(|| format!("node {node} is frozen for {span} ms"));
                self.nodes[node].frozen_until = self.nodes[node].frozen_until.max(until);
                self.nodes[node].thawed = true;
            }
            3 => {
                self.say(|| format!("worker {node} is stopped for {span} ms"));
                self.nodes[node].paused_until = self.nodes[node].paused_until.max(until);
            }
            4 => self.nodes[node].cut_until = until,
            5 | 6 => self.revoke_early(node),
            7 => self.nodes[node].lied_to_until = until,
            8 => self.schedulers[scheduler].pause(until),
            9 => self.crash_scheduler(scheduler, span),
            10 => self.schedulers[scheduler].deaf_until = until,
            _ => self.rearm(),
        }
        let pause = self.dice.between(50, 1500);
        self.after(pause, Event::Fault);
    }

    /// A deposed leader of the store revokes a lease that is alive.
    fn revoke_early(&mut self, node: usize) {
        let lease = self.nodes[node].lease;
        if self.store.leases.contains_key(&lease) {
            self.say(|| format!("the lease of node {node} is revoked early"));
            self.nodes[node].deceived = true;
            self.judge.counts.early_ends += 1;
            self.store.revoke(lease);
        }
    }

    /// A new leader of the store starts every lease anew.
    fn rearm(&mut self) {
        let now = self.now;
        for lease in self.store.leases.values_mut() {
            lease.ends_at = lease.ends_at.max(now + lease.ttl_ms + 1000);
        }
    }
}
