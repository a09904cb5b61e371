//! Random schedules: a few faults of any kind, one after the other, over one fleet.

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::proxy::Mode;
use crate::runner::{Attempt, Case, Outcome};

/// Run by `--soak`, with a seed of its own for each schedule.
pub(crate) const SOAK: Case = Case { id: "soak", title: "random schedule", usual: false, run };

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { items: 8, ..Shape::default() });
    for _ in 0..3 {
        let Some((key, token)) =
            fleet.owned_by("n1").into_iter().chain(fleet.owned_by("n2")).next()
        else {
            break;
        };
        let node = fleet.record.see(|view| view.claims[&key].node.clone());
        fleet.fault(&format!("cut off {node}"));
        fleet.net.set(&node, "*", Mode::Drop);
        fleet.dead_by_deadline(&node);
        fleet.taken_over(&key, token);
        fleet.bite("its loop was taken over");
        fleet.net.heal();
        fleet.until("the node is back", NOTICE_MAX, |view| view.sessions.get(&node).map(drop));
        fleet.over();
    }
    fleet.finish();
    Outcome::Passed
}
