//! Random schedules: a few faults of any kind over one fleet, one after the other; in some of them two at a time.

use std::time::Duration;

use flyball_core::status::Reason;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::hands::Victim;
use crate::proxy::{Mode, Way};
use crate::runner::{Attempt, Case, Outcome, Owners};

/// Run by `--soak`, with a seed of its own for each schedule.
pub(crate) const SOAK: Case =
    Case { id: "soak", title: "random schedule", usual: false, owners: Owners::Change, run };

/// Faults per schedule, of which one may be two that overlap.
const FAULTS: u64 = 3;
/// One schedule in so many has such a pair.
const PAIRED: u64 = 3;

/// What takes everything from one node.
#[derive(Debug, Clone, Copy)]
enum Blow {
    /// No word of it arrives, or to it.
    Cut(Mode),
    /// No answer to it arrives.
    Deaf,
    /// Answers to it arrive when they are worth nothing any more.
    Late,
    Kill,
    Stop,
    /// Its guard stops too.
    StopBoth,
    /// Its lease is ended by hand.
    Revoke,
}

/// What happens to all the rest, and need not take anything from anybody.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    KillScheduler,
    KillMember,
    StopMember,
    /// The leading scheduler hears nothing from etcd.
    HoldWatch,
    /// Schedulers and etcd hear each other late.
    Slow,
}

/// A trouble that has begun, with what ends it.
enum Begun {
    Scheduler(String),
    Member(usize),
    Stopped(usize, i32),
    Deaf(String),
    Slow,
}

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { items: 8, ..Shape::default() });
    let pair = (fleet.dice.range(1, PAIRED) == 1).then(|| fleet.dice.range(0, FAULTS - 1));
    for step in 0..FAULTS {
        let running = fleet.record.see(|view| view.claims.keys().next().cloned());
        let Some(key) = running else { break };
        let paired = pair == Some(step);
        // The first takes something from somebody: a schedule in which nothing does proves nothing.
        if paired || step == 0 || fleet.dice.range(0, 2) > 0 {
            let victim = fleet.victim_of(&key);
            strike(&mut fleet, &victim, paired);
        } else {
            let begun = trouble(&mut fleet);
            settle(&mut fleet, begun);
        }
    }
    fleet.finish_but_for(&[Reason::RunsLost]);
    Outcome::Passed
}

/// Takes everything from a node, with trouble elsewhere meanwhile if that is asked for.
fn strike(fleet: &mut Fleet, victim: &Victim, paired: bool) {
    let node = victim.node.as_str();
    let mode = *fleet.dice.pick(&[Mode::Drop, Mode::Close, Mode::Hold]);
    let blow = *fleet.dice.pick(&[
        Blow::Cut(mode),
        Blow::Deaf,
        Blow::Late,
        Blow::Kill,
        Blow::Stop,
        Blow::StopBoth,
        Blow::Revoke,
    ]);
    fleet.fault(&format!("{blow:?}: {node}"));
    let stopped = fall(fleet, victim, blow);
    if paired {
        let begun = trouble(fleet);
        settle(fleet, begun);
    }
    if matches!(blow, Blow::Kill) {
        fleet.comes_back(victim);
    } else {
        fleet.lost_everything(victim);
        // Not everything: what else is wrong stays so.
        fleet.net.set(node, "*", Mode::Pass);
        fleet.go_on(&stopped);
        fleet.reborn(victim);
    }
    fleet.over();
}

/// The blow itself; gives what was stopped.
fn fall(fleet: &mut Fleet, victim: &Victim, blow: Blow) -> Vec<i32> {
    let node = victim.node.as_str();
    let ttl = fleet.shape.ttl();
    let mut stopped = Vec::new();
    match blow {
        Blow::Cut(mode) => fleet.net.set(node, "*", mode),
        Blow::Deaf => fleet.net.set_way(node, "*", Way::Back, Mode::Drop),
        Blow::Late => fleet.net.set_way(node, "*", Way::Back, Mode::Delay(ttl)),
        Blow::Kill => return kill(fleet, node),
        Blow::Stop => stopped.push(fleet.workers[node].pid()),
        Blow::StopBoth => stopped.extend([fleet.workers[node].pid(), fleet.guard(node)]),
        Blow::Revoke => {
            let lease = fleet.lease_of(victim);
            fleet.ends_unfairly(lease);
            fleet.runtime.block_on(async {
                fleet.raw().await.lease_revoke(lease).await.expect("a lease can be revoked");
            });
        }
    }
    fleet.stop(&stopped);
    fleet.dead_by_deadline(node);
    stopped
}

fn kill(fleet: &mut Fleet, node: &str) -> Vec<i32> {
    fleet.kill_worker(node);
    Vec::new()
}

/// Trouble begins.
fn trouble(fleet: &mut Fleet) -> Begun {
    let trouble = *fleet.dice.pick(&[
        Trouble::KillScheduler,
        Trouble::KillMember,
        Trouble::StopMember,
        Trouble::HoldWatch,
        Trouble::Slow,
    ]);
    fleet.fault(&format!("{trouble:?}"));
    match trouble {
        Trouble::KillScheduler => {
            let leader = fleet.leader();
            fleet.kill_scheduler(&leader);
            Begun::Scheduler(leader)
        }
        Trouble::KillMember => {
            let leader = fleet.etcd_leader();
            fleet.members.kill(leader);
            Begun::Member(leader)
        }
        Trouble::StopMember => {
            let leader = fleet.etcd_leader();
            // It may wake up and end leases that were renewed with the new one.
            fleet.leases_end_unfairly();
            let pid = fleet.members.pid(leader);
            fleet.stop(&[pid]);
            Begun::Stopped(leader, pid)
        }
        Trouble::HoldWatch => {
            let leader = fleet.leader();
            fleet.net.set_way(&leader, "*", Way::Back, Mode::Hold);
            Begun::Deaf(leader)
        }
        Trouble::Slow => {
            let late = slow(fleet);
            for name in ["s1", "s2"] {
                fleet.net.set(name, "*", Mode::Delay(late));
            }
            Begun::Slow
        }
    }
}

/// How late every word is on a slow network, that a renewal is in time all the same.
fn slow(fleet: &Fleet) -> Duration {
    fleet.shape.ttl() / 32
}

/// Trouble shows what it did, and ends.
fn settle(fleet: &mut Fleet, begun: Begun) {
    match begun {
        Begun::Scheduler(leader) => {
            another_leads(fleet, &leader);
            fleet.start_scheduler(&leader);
        }
        Begun::Member(leader) => {
            fleet.other_leads(leader);
            fleet.members.start_member(leader);
        }
        Begun::Stopped(leader, pid) => {
            fleet.other_leads(leader);
            let ttl = fleet.shape.ttl();
            fleet.last(ttl);
            fleet.go_on(&[pid]);
        }
        Begun::Deaf(leader) => {
            another_leads(fleet, &leader);
            fleet.net.set(&leader, "*", Mode::Pass);
        }
        Begun::Slow => {
            let ttl = fleet.shape.ttl();
            fleet.last(ttl * 2);
            fleet.bite(&format!("schedulers and etcd heard each other {:?} late", slow(fleet)));
            for name in ["s1", "s2"] {
                fleet.net.set(name, "*", Mode::Pass);
            }
        }
    }
    fleet.over();
}

fn another_leads(fleet: &mut Fleet, than: &str) {
    fleet.until("another scheduler leads", NOTICE_MAX, |view| {
        (!view.leader.is_empty() && view.leader != than).then_some(())
    });
    fleet.bite("another scheduler leads");
}
