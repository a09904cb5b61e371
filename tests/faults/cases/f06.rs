//! F6: a worker is cut off from all schedulers.

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::proxy::Mode;
use crate::runner::{Attempt, Case, Outcome};

pub(crate) const CASE: Case =
    Case { id: "F6", title: "worker cut off from all schedulers", usual: true, run };

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let accepted = u32::try_from(fleet.dice.range(1, 3)).unwrap();
    let node = fleet.half_way("default/l1", accepted);
    let owned = fleet.owned_by(&node);
    let mode = *fleet.dice.pick(&[Mode::Drop, Mode::Close, Mode::Hold]);
    fleet.fault(&format!("cut the worker off: {mode:?}"));
    fleet.net.set(&node, "*", mode);
    fleet.dead_by_deadline(&node);
    for (key, token) in &owned {
        fleet.taken_over(key, *token);
    }
    fleet.bite("its loops were taken over");
    fleet.net.heal();
    fleet.until("the node is back", NOTICE_MAX, |view| view.sessions.get(&node).map(drop));
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
