//! Random walks: the same stage driven by a seed through everything that can go wrong (lost and late
//! answers, expired leases, streams that break, leaders that change, watches that stop), with what
//! must hold checked after every step, and the end of every loop once the trouble is over.

use std::collections::BTreeMap;

use flyball_core::ids::LoopKey;
use flyball_core::resource::ResourceSet;
use flyball_core::status::Phase;
use flyball_store::Mutation;

use crate::stage::Stage;

/// A small generator of its own, so that a seed means the same walk for ever.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let sides = u64::try_from(from.len()).unwrap();
        if sides == 0 { None } else { from.get(usize::try_from(self.roll(sides)).unwrap()) }
    }
}

struct Walk {
    stage: Stage,
    dice: Dice,
    /// Requests that were sent and not answered, and may still arrive.
    late: Vec<Mutation>,
    unknown: Vec<u64>,
    leading: bool,
    names: u64,
    incarnations: u64,
}

const SETS: [&str; 9] = [
    "gpu:x/1",
    "gpu:x/2",
    "gpu:x/*",
    "gpu:y/1",
    "gpu:y/**",
    "gpu:x/1,gpu:y/1",
    "path:a/b",
    "path:**",
    "",
];

impl Walk {
    fn new(seed: u64) -> Self {
        let mut walk = Self {
            stage: Stage::new(),
            dice: Dice(seed),
            late: Vec::new(),
            unknown: Vec::new(),
            leading: true,
            names: 0,
            incarnations: 0,
        };
        walk.stage.run("lead");
        walk.stage.run("list");
        walk
    }

    fn step(&mut self) {
        match self.dice.roll(40) {
            0..=5 => self.submit(),
            6..=14 => self.commit(),
            15..=17 => self.resolve(),
            18..=22 => drop(self.stage.run("watch")),
            23..=25 => self.update(),
            26..=28 => self.end_one(),
            29..=30 => self.attach(),
            31 => self.break_stream(),
            32 => self.expire(),
            33 => self.change(),
            34 => self.arrive_late(),
            35 => self.lose_watch(),
            36 => self.change_leader(),
            37 => drop(self.stage.run("tell")),
            _ => drop(self.stage.run("tick 150")),
        }
        self.check();
    }

    fn submit(&mut self) {
        if self.stage.model.loops.len() > 12 {
            return;
        }
        self.names += 1;
        let set = SETS[usize::try_from(self.dice.roll(9)).unwrap()];
        let owns = if set.is_empty() { String::new() } else { format!("owns={set}") };
        let told = *self.dice.pick(&["told", "delayed", ""]).unwrap();
        let cpu = self.dice.roll(3);
        self.stage.run(&format!("submit l{} {owns} cpu={cpu} {told}", self.names));
    }

    fn commit(&mut self) {
        let open: Vec<u64> = self.stage.commits.keys().copied().collect();
        let open: Vec<u64> = open.into_iter().filter(|n| !self.unknown.contains(n)).collect();
        let Some(number) = self.dice.pick(&open).copied() else { return };
        match self.dice.roll(8) {
            0 => {
                self.stage.run(&format!("commit {number} lost"));
                self.unknown.push(number);
            }
            1 => {
                self.late.push(self.stage.commits[&number].clone());
                self.stage.run(&format!("commit {number} dropped"));
                self.unknown.push(number);
            }
            2 => drop(self.stage.run(&format!("commit {number} unavailable"))),
            _ => drop(self.stage.run(&format!("commit {number}"))),
        }
    }

    fn resolve(&mut self) {
        let Some(number) = self.dice.pick(&self.unknown.clone()).copied() else { return };
        self.unknown.retain(|other| *other != number);
        self.stage.run(&format!("resolve {number}"));
    }

    /// A request that was thought lost reaches the store after all.
    fn arrive_late(&mut self) {
        if let Some(mutation) = self.late.pop() {
            let _ = self.stage.model.commit(&mutation);
        }
    }

    fn claimed(&self) -> Vec<LoopKey> {
        let attached = |key: &LoopKey| {
            let claim = &self.stage.model.claims[key].value;
            let session = self.stage.sessions.get(&claim.node);
            session.is_some_and(|(_, incarnation)| *incarnation == claim.incarnation)
        };
        self.stage.model.claims.keys().filter(|key| attached(key)).cloned().collect()
    }

    fn update(&mut self) {
        let claimed = self.claimed();
        if let Some(key) = self.dice.pick(&claimed) {
            let accepted = self.dice.0 % 3;
            self.stage.run(&format!("update {key} accepted={accepted}"));
        }
    }

    fn end_one(&mut self) {
        let claimed = self.claimed();
        let Some(key) = self.dice.pick(&claimed).cloned() else { return };
        let how = match self.dice.roll(5) {
            0 => "phase=Pending reason=Drained",
            1 => "phase=Parked reason=Backoff retry=300",
            2 => "phase=Pending reason=Drained unproven",
            3 => "phase=Running",
            _ => "phase=Converged",
        };
        self.stage.run(&format!("ended {key} {how}"));
    }

    fn attach(&mut self) {
        let node = format!("n{}", self.dice.roll(3));
        let live = self.stage.model.sessions.get(&node.as_str().into());
        let incarnation = match live {
            Some(session) => session.value.incarnation.0.clone(),
            None => {
                self.incarnations += 1;
                format!("i{}", self.incarnations)
            }
        };
        let claims = self.stage.model.claims.iter();
        let runs: Vec<String> = claims
            .filter(|(_, claim)| claim.value.incarnation.0 == incarnation)
            .filter(|(_, claim)| claim.create_revision % 2 == 0)
            .map(|(key, claim)| format!("{}:{}", key.name, claim.create_revision))
            .collect();
        let runs = if runs.is_empty() { String::new() } else { format!("runs={}", runs.join(",")) };
        self.stage.run(&format!("attach {node} {incarnation} slots=3 cpu=4 {runs}"));
        if !self.leading {
            self.stage.sessions.remove(&node.as_str().into());
        }
    }

    fn break_stream(&mut self) {
        let nodes: Vec<_> = self.stage.sessions.keys().cloned().collect();
        if let Some(node) = self.dice.pick(&nodes) {
            self.stage.run(&format!("detach {node}"));
        }
    }

    fn expire(&mut self) {
        let nodes: Vec<_> = self.stage.model.sessions.keys().cloned().collect();
        if let Some(node) = self.dice.pick(&nodes).cloned() {
            self.stage.run(&format!("expire {node}"));
            self.stage.sessions.remove(&node);
        }
    }

    fn change(&mut self) {
        let keys: Vec<LoopKey> = self.stage.model.loops.keys().cloned().collect();
        let Some(key) = self.dice.pick(&keys).cloned() else { return };
        let how = match self.dice.roll(3) {
            0 => "cancel",
            1 => "delete",
            _ => self.dice.pick(&["spec", "spec owns=gpu:x/2", "spec owns=gpu:**"]).unwrap(),
        };
        let told = *self.dice.pick(&["told", "delayed", ""]).unwrap();
        self.stage.run(&format!("change {key} {how} {told}"));
    }

    fn lose_watch(&mut self) {
        if self.leading {
            self.stage.run("watch lost");
        }
        self.stage.run("list");
    }

    fn change_leader(&mut self) {
        if self.leading {
            self.stage.run("follow");
            self.stage.sessions.clear();
            self.stage.commits.clear();
            self.unknown.clear();
            // Fenced by the leader key from here on.
            self.late.clear();
        } else {
            self.stage.run("lead");
            self.stage.run("list");
        }
        self.leading = !self.leading;
    }

    /// What must hold at any time, whatever has gone wrong.
    fn check(&self) {
        let claims: Vec<_> = self.stage.model.claims.iter().collect();
        let set = |entries: &[String]| ResourceSet::from_canonical(entries).unwrap();
        for (index, (one_key, one)) in claims.iter().enumerate() {
            for (other_key, other) in &claims[index + 1..] {
                let (one, other) = (set(&one.value.resources), set(&other.value.resources));
                assert!(!one.conflicts(&other), "{one_key} and {other_key} overlap");
            }
        }
        let mut runs: BTreeMap<_, u32> = BTreeMap::new();
        for (_, claim) in &claims {
            *runs.entry(claim.value.node.clone()).or_default() += 1;
        }
        assert!(runs.values().all(|count| *count <= 3), "more runs than slots: {runs:?}");
    }

    /// The trouble is over: every loop comes to its end within a bounded number of steps.
    fn finish(&mut self) {
        if !self.leading {
            self.change_leader();
        }
        for mutation in std::mem::take(&mut self.late) {
            let _ = self.stage.model.commit(&mutation);
        }
        for number in std::mem::take(&mut self.unknown) {
            self.stage.run(&format!("resolve {number}"));
        }
        for node in ["n0", "n1"] {
            let live = self.stage.model.sessions.get(&node.into());
            let incarnation =
                live.map_or_else(|| format!("last-{node}"), |s| s.value.incarnation.0.clone());
            self.stage.run(&format!("attach {node} {incarnation} slots=3 cpu=4"));
        }
        self.stage.run("expire n2");
        self.stage.sessions.remove(&"n2".into());
        for _ in 0..60 {
            self.stage.run("settle");
            self.check();
            for key in self.claimed() {
                self.stage.run(&format!("ended {key} phase=Converged"));
            }
            self.stage.run("settle");
            self.stage.run("tick 500");
        }
        self.stage.run("settle");
        self.stage.run("tell");
        self.stage.run("settle");
        self.check_end();
    }

    fn check_end(&mut self) {
        for (key, status) in &self.stage.model.statuses {
            let status = &status.value;
            let parked = status.phase == Phase::Parked && status.parked_until.is_none();
            let told = self.stage.reactor.explain(key, self.stage.now);
            assert!(status.phase.is_terminal() || parked, "{key} hangs: {status:?}\n{told:?}");
            let view = self.stage.reactor.loop_view(key).unwrap();
            assert_eq!(view.status.phase, status.phase, "{key}: the view is not the store");
        }
        let known = self.stage.reactor.loop_views("").count();
        assert_eq!(known, self.stage.model.loops.len(), "the view has what the store has not");
        // Those with a journal to be sealed stay.
        let sealed = |key: &LoopKey| self.stage.model.statuses[key].value.unsealed.is_empty();
        let deleted = |key: &LoopKey| self.stage.model.loops[key].value.delete && sealed(key);
        assert!(!self.stage.model.loops.keys().any(deleted), "a deleted loop is still there");
        assert!(self.stage.model.claims.is_empty() && self.stage.model.owners.is_empty());
        assert!(self.stage.reactor.claim_views("").is_empty());
    }
}

fn walk(seed: u64, steps: u32) {
    let mut walk = Walk::new(seed);
    for _ in 0..steps {
        walk.step();
    }
    walk.finish();
}

#[test]
fn random_walks_keep_what_must_hold_and_come_to_an_end() {
    let seeds = std::env::var("FLYBALL_WALKS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(300) {
        let walked = std::panic::catch_unwind(|| walk(seed, 250));
        assert!(walked.is_ok(), "seed {seed}");
    }
}

#[test]
fn a_seed_means_the_same_walk() {
    let told = |seed| {
        let mut walk = Walk::new(seed);
        (0..200).for_each(|_| walk.step());
        (walk.stage.model.revision, format!("{:?}", walk.stage.model.statuses))
    };
    assert_eq!(told(7), told(7));
}
