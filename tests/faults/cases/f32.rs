//! F32: the server of the repository is killed in the middle of pushes, and forgets everything it held in memory.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F32",
    title: "repository's server killed in mid-push",
    usual: true,
    owners: Owners::Change,
    run,
};

/// How often.
const ROUNDS: u32 = 8;
/// How far into its work a connection is cut at most: a push moves its refs some way in.
const DEPTH_MS: u64 = 16;

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { served: true, ..Shape::default() });
    let victim = fleet.victim();
    fleet.fault("kill the repository's server, and a worker while there is none");
    let (mut cut, begun) = (0, Instant::now());
    for round in 0..ROUNDS {
        let pause = Duration::from_millis(fleet.dice.range(20, 400));
        fleet.last(pause);
        // At some connection under way, if one comes soon; every other time at its very beginning,
        // where none is missed.
        let depth = fleet.dice.range(0, DEPTH_MS) * u64::from(round % 2);
        let served = fleet.site.served.as_mut().expect("it is served");
        cut += served.kill_at_work(Duration::from_secs(2), Duration::from_millis(depth));
        if round == 0 {
            // Its next owner has to seal and to clone at a server that has forgotten everything.
            fleet.kill_worker(&victim.node);
        }
        fleet.last(Duration::from_millis(100));
        fleet.site.served.as_mut().expect("it is served").restart();
    }
    assert!(cut > 0, "no connection was cut");
    fleet.bite(&format!("{cut} connections were cut in {:?}", begun.elapsed()));
    fleet.comes_back(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
