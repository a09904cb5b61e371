//! What cases do to a fleet: stop, kill and continue processes, name the fault in the history, and
//! wait for the end.

use std::path::PathBuf;
use std::time::Duration;

use flyball_core::status::{LoopStatus, Phase, Reason};
use flyball_proto::v1::NodeMark;
use flyball_tests::history::{self, Entry, Event};
use flyball_tests::poll::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fleet::{Fleet, NOTICE_MAX, SETTLE_MAX};
use super::judge;
use super::work::{held_file, now_us};

/// What a killed worker's processes may still live: the guard sees the end at once; this is for a
/// machine that is busy.
pub(crate) const KILLED_WITHIN: Duration = Duration::from_millis(500);

/// A node that something happens to.
pub(crate) struct Victim {
    pub(crate) node: String,
    /// Loops that it owned, with their tokens.
    pub(crate) owned: Vec<(String, i64)>,
    /// Its incarnation.
    pub(crate) life: String,
}

impl Fleet {
    /// A fault begins.
    pub(crate) fn fault(&mut self, what: &str) {
        self.faults.push(what.to_owned());
        self.record.event(Event::FaultBegins { fault: what.to_owned() });
    }

    /// The fault that began last is over.
    pub(crate) fn over(&mut self) {
        let fault = self.faults.pop().expect("a fault has begun");
        self.record.event(Event::FaultEnds { fault });
    }

    /// Something shows that the fault bit.
    pub(crate) fn bite(&mut self, what: &str) {
        self.bites += 1;
        self.record.event(Event::Bite { what: what.to_owned() });
    }

    /// From `after` now on, nothing may be alive of what the node runs under tokens up to now.
    pub(crate) fn dead_by(&mut self, node: &str, after: Duration) {
        let token_max = self.record.see(|view| view.revision);
        let at_us = now_us() + u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.dead_at_us = self.dead_at_us.max(at_us);
        self.record.history.write(at_us, Event::DeadBy { node: node.to_owned(), token_max });
    }

    /// Nothing extends the node's deadline any more: what it runs must be dead a TTL from now.
    pub(crate) fn dead_by_deadline(&mut self, node: &str) {
        self.dead_by(node, self.shape.ttl());
    }

    /// SIGKILL to a worker; all it runs must be dead at once.
    pub(crate) fn kill_worker(&mut self, node: &str) {
        self.dead_by(node, KILLED_WITHIN);
        self.workers.remove(node).expect("a worker").kill();
    }

    /// A worker that was killed is taken over and comes back.
    #[track_caller]
    pub(crate) fn comes_back(&mut self, victim: &Victim) {
        self.lost_everything(victim);
        self.start_worker(&victim.node);
        self.reborn(victim);
    }

    /// Whether a node gets new work.
    pub(crate) fn mark(&self, node: &str, mark: NodeMark) {
        let address = &self.addresses[&self.leader()];
        self.runtime.block_on(self.client("operator").mark(address, node, mark));
    }

    /// SIGKILL to a scheduler.
    pub(crate) fn kill_scheduler(&mut self, name: &str) {
        self.schedulers.remove(name).expect("a scheduler").kill();
    }

    /// SIGSTOP to processes; they are continued at the latest when the fleet ends.
    pub(crate) fn stop(&mut self, pids: &[i32]) {
        for &pid in pids {
            kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("the process is there");
            self.stopped.push(pid);
        }
    }

    /// SIGCONT to everything that was stopped.
    pub(crate) fn continue_all(&mut self) {
        for pid in self.stopped.drain(..) {
            // What was killed meanwhile needs no waking.
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
    }

    /// SIGCONT to some of them.
    pub(crate) fn go_on(&mut self, pids: &[i32]) {
        for &pid in pids {
            kill(Pid::from_raw(pid), Signal::SIGCONT).expect("the process is there");
        }
        self.stopped.retain(|pid| !pids.contains(pid));
    }

    /// A worker's guard.
    #[track_caller]
    pub(crate) fn guard(&self, node: &str) -> i32 {
        let worker = self.workers[node].pid();
        let is_guard = |pid: &i32| {
            let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            parent(*pid) == Some(worker) && String::from_utf8_lossy(&cmdline).contains("guard")
        };
        let found = processes().into_iter().find(is_guard);
        found.unwrap_or_else(|| panic!("{node} has no guard"))
    }

    /// Waits until the first loop is half-way, and gives the node that runs it.
    #[track_caller]
    pub(crate) fn victim(&mut self) -> Victim {
        self.victim_of("default/l1")
    }

    /// The same, with an agent that goes on working until everything is lost: what must be dead by
    /// the deadline is alive when the fault begins.
    #[track_caller]
    pub(crate) fn busy_victim(&mut self) -> Victim {
        self.busy_victim_of("default/l1")
    }

    /// The same for any loop.
    #[track_caller]
    pub(crate) fn busy_victim_of(&mut self, key: &str) -> Victim {
        let victim = self.victim_of(key);
        let beats = self.dir().join("beats.jsonl");
        let size = || std::fs::metadata(&beats).map_or(0, |meta| meta.len());
        std::fs::write(held_file(&beats), "").expect("a file");
        let token = self.token(key);
        let mark = format!("\"token\":{token},");
        let before = usize::try_from(size()).expect("a small file");
        until("an agent of the loop is at work", NOTICE_MAX, || {
            let text = std::fs::read_to_string(&beats).ok()?;
            text.get(before..)?.contains(&mark).then_some(())
        });
        victim
    }

    /// Two nodes with agents that go on working until everything is lost: the owner of the first loop,
    /// which is to keep it, and another, which owns something as well and is to lose it.
    #[track_caller]
    pub(crate) fn keeper_and_victim(&mut self) -> (Victim, Victim) {
        let keeper = self.busy_victim();
        let dies = self.until("another node owns a loop that has begun", NOTICE_MAX, |view| {
            let mut claims = view.claims.iter();
            let other = claims.find(|(_, claim)| claim.node != keeper.node);
            other.map(|(_, claim)| claim.node.clone())
        });
        let life = self.record.see(|view| view.sessions[&dies].clone());
        let dies = Victim { owned: self.owned_by(&dies), node: dies, life };
        (keeper, dies)
    }

    /// Until something that is alive though it must be dead has had the time to show it.
    fn wait_for_signs(&self) {
        let fenced_at_us = self.record.see(|view| view.fenced_at_us);
        let until_us = self.dead_at_us.max(fenced_at_us) + 300_000;
        while now_us() < until_us {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets held agents end, once what had to be dead has had the time to show that it is not.
    pub(crate) fn release(&mut self) {
        self.wait_for_signs();
        // There is none where nothing was held.
        let _ = std::fs::remove_file(held_file(&self.dir().join("beats.jsonl")));
    }

    /// Waits until a loop is half-way, and gives the node that runs it.
    #[track_caller]
    pub(crate) fn victim_of(&mut self, key: &str) -> Victim {
        let accepted = u32::try_from(self.dice.range(1, 2)).expect("a small number");
        let node = self.half_way(key, accepted);
        let life = self.record.see(|view| view.sessions[&node].clone());
        Victim { owned: self.owned_by(&node), node, life }
    }

    /// Waits until everything that the node owned has another owner, or is over.
    #[track_caller]
    pub(crate) fn lost_everything(&mut self, victim: &Victim) {
        let mut taken = 0;
        for (key, token) in &victim.owned {
            taken +=
                self.until(&format!("{key} is taken from {}", victim.node), SETTLE_MAX, |view| {
                    let later = view.tokens.get(key).is_some_and(|newest| newest > token);
                    // It may have had its end before the fault bit.
                    let ended = view.statuses.get(key)?.phase.is_terminal();
                    (later || ended).then_some(i32::from(later))
                });
        }
        assert!(taken > 0, "nothing was taken from {}", victim.node);
        self.release();
        self.bite("its loops were taken over");
    }

    /// Waits until the node has a session of another life.
    #[track_caller]
    pub(crate) fn reborn(&self, victim: &Victim) {
        self.until("the node has a session of a new life", NOTICE_MAX, |view| {
            view.sessions.get(&victim.node).filter(|life| **life != victim.life).map(drop)
        });
    }

    /// Lets a fault last, and fails when a process ends meanwhile that must not.
    #[track_caller]
    pub(crate) fn last(&mut self, how_long: Duration) {
        let begun = std::time::Instant::now();
        while begun.elapsed() < how_long {
            for (name, process) in self.workers.iter_mut().chain(&mut self.schedulers) {
                let ended = process.ended();
                assert!(ended.is_none(), "{name} has ended by itself: {ended:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The member that leads the etcd cluster.
    #[track_caller]
    pub(crate) fn etcd_leader(&self) -> usize {
        until("etcd has a leader", NOTICE_MAX, || self.runtime.block_on(self.members.leader()))
    }

    /// Waits until another member than this one leads the etcd cluster.
    #[track_caller]
    pub(crate) fn other_leads(&mut self, than: usize) {
        until("another member leads", NOTICE_MAX, || {
            // One that was just stopped may have had an answer under way.
            let now = self.runtime.block_on(self.members.leader());
            now.filter(|now| *now != than)
        });
        self.bite("another member leads");
    }

    /// The token of a loop's claim.
    #[track_caller]
    pub(crate) fn token(&self, key: &str) -> i64 {
        self.until(&format!("{key} has an owner"), NOTICE_MAX, |view| {
            view.claims.get(key).map(|claim| claim.token)
        })
    }

    /// Loops that a node owns, with their tokens.
    pub(crate) fn owned_by(&self, node: &str) -> Vec<(String, i64)> {
        self.record.see(|view| {
            let owned = view.claims.iter().filter(|(_, claim)| claim.node == node);
            owned.map(|(key, claim)| (key.clone(), claim.token)).collect()
        })
    }

    /// Waits until every loop has converged, closes the history and judges it.
    #[track_caller]
    pub(crate) fn finish(self) {
        self.finish_but_for(&[]);
    }

    /// The same where so much is broken that loops may be put aside for one of these reasons.
    #[track_caller]
    pub(crate) fn finish_but_for(mut self, reasons: &[Reason]) {
        assert!(self.faults.is_empty(), "not over: {:?}", self.faults);
        assert!(self.bites > 0, "nothing shows that the fault bit");
        let loops = self.loops.clone();
        self.until("all loops have ended", SETTLE_MAX, |view| {
            let over = |key: &String| Some(is_over(view.statuses.get(key)?));
            loops.iter().all(|key| over(key) == Some(true)).then_some(())
        });
        let unfinished: Vec<String> = self.record.see(|view| {
            let open = loops.iter().filter(|key| !view.statuses[*key].phase.is_terminal());
            let open: Vec<String> = open.cloned().collect();
            for status in open.iter().map(|key| &view.statuses[key]) {
                assert!(reasons.contains(&status.reason), "put aside: {}", status.message);
            }
            for (key, status) in view.statuses.iter().filter(|(key, _)| !open.contains(key)) {
                assert_eq!(status.phase, Phase::Converged, "{key}: {}", status.message);
            }
            open
        });
        self.stop_asking();
        self.read_results();
        let path = self.close(unfinished);
        judge::judge(&path);
    }

    /// Reads every loop through every scheduler once more.
    fn read_results(&self) {
        for (name, address) in &self.addresses {
            if !self.schedulers.contains_key(name) {
                continue;
            }
            let client = self.client(&format!("last-{name}"));
            for key in &self.loops {
                self.runtime.block_on(client.get(address, key));
            }
        }
    }

    /// Completes the history: all of the store's log, all beats, all pushes.
    fn close(&self, unfinished: Vec<String>) -> PathBuf {
        self.wait_for_signs();
        self.nothing_is_owned();
        let members = &self.members;
        let newest = self.runtime.block_on(async {
            let mut newest = 0;
            for number in members.numbers() {
                let Ok(mut client) = members.client(number).await else { continue };
                let answer = client.get("/flyball/v1/installation", None).await;
                let header = answer.ok().and_then(|answer| answer.header().map(|h| h.revision()));
                newest = newest.max(header.unwrap_or(0));
            }
            newest
        });
        self.until("the whole log of the store has been read", NOTICE_MAX, |view| {
            (view.revision >= newest).then_some(())
        });
        let path = self.dir().join("history.jsonl");
        let beats = std::fs::read_to_string(self.dir().join("beats.jsonl")).unwrap_or_default();
        for line in beats.lines() {
            // A process that was killed while it wrote leaves half a line.
            if let Ok(beat) = serde_json::from_str::<Entry>(line) {
                self.record.history.write(beat.at_us, beat.event);
            }
        }
        for push in self.site.pushes() {
            self.record.history.write(push.at_us, push.event);
        }
        self.seek_secrets();
        self.record.event(Event::End { unfinished });
        history::read(&path).expect("a history that can be read");
        path
    }
}

/// Whether nothing more happens to a loop by itself: it has ended, or waits for somebody to look at it.
fn is_over(status: &LoopStatus) -> bool {
    let for_a_person = matches!(status.reason, Reason::RunsLost | Reason::Hold);
    let given_up = status.phase == Phase::Parked && for_a_person;
    status.phase.is_terminal() || given_up
}

/// All process ids.
pub(crate) fn processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Parent of a process.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
