//! Random schedules: a few faults of any kind, one after the other, over one fleet.

use flyball_core::status::Reason;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::hands::Victim;
use crate::proxy::{Mode, Way};
use crate::runner::{Attempt, Case, Outcome, Owners};

/// Run by `--soak`, with a seed of its own for each schedule.
pub(crate) const SOAK: Case =
    Case { id: "soak", title: "random schedule", usual: false, owners: Owners::Change, run };

/// Faults per schedule.
const FAULTS: u32 = 3;

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { items: 8, ..Shape::default() });
    for _ in 0..FAULTS {
        let running = fleet.record.see(|view| view.claims.keys().next().cloned());
        let Some(key) = running else { break };
        let victim = fleet.victim_of(&key);
        strike(&mut fleet, &victim);
    }
    fleet.finish_but_for(&[Reason::RunsLost]);
    Outcome::Passed
}

fn strike(fleet: &mut Fleet, victim: &Victim) {
    let node = victim.node.as_str();
    match fleet.dice.range(0, 3) {
        0 => {
            let mode = *fleet.dice.pick(&[Mode::Drop, Mode::Close, Mode::Hold]);
            fleet.fault(&format!("cut off {node}: {mode:?}"));
            fleet.net.set(node, "*", mode);
            fleet.dead_by_deadline(node);
            fleet.lost_everything(victim);
            fleet.net.heal();
            fleet.reborn(victim);
        }
        1 => {
            fleet.fault(&format!("lose answers to {node}"));
            fleet.net.set_way(node, "*", Way::Back, Mode::Drop);
            fleet.dead_by_deadline(node);
            fleet.lost_everything(victim);
            fleet.net.heal();
            fleet.reborn(victim);
        }
        2 => {
            fleet.fault(&format!("kill {node}"));
            fleet.kill_worker(node);
            fleet.comes_back(victim);
        }
        _ => {
            let leader = fleet.leader();
            fleet.fault(&format!("kill the leading scheduler {leader}, and {node}"));
            fleet.kill_scheduler(&leader);
            fleet.kill_worker(node);
            fleet.until("another scheduler leads", NOTICE_MAX, |view| {
                (!view.leader.is_empty() && view.leader != leader).then_some(())
            });
            fleet.comes_back(victim);
            fleet.start_scheduler(&leader);
        }
    }
    fleet.over();
}
