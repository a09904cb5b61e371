//! F20: what etcd says to the leader is held back: first its watch alone, while all its calls are
//! answered; then everything. Its connections look alive.

use flyball_tests::history::Answer;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::proxy::{Mode, Way};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F20",
    title: "leader's watch stalls silently",
    usual: true,
    owners: Owners::Change,
    run,
};

/// What a scheduler says of a watch that was silent for too long.
const STALE: &[&str] = &["the watch is lost", "Stale"];

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape { spare: 2, ..Shape::default() });
    let victim = fleet.busy_victim();
    only_the_watch(&mut fleet);
    let leader = fleet.leader();
    fleet.fault("hold back what etcd says to the leader");
    let from = fleet.log(&leader).len();
    fleet.net.set_way(&leader, "*", Way::Back, Mode::Hold);
    // What happens now the leader does not see.
    fleet.kill_worker(&victim.node);
    fleet.until("somebody else leads", NOTICE_MAX, |view| {
        (!view.leader.is_empty() && view.leader != leader).then_some(())
    });
    fleet.bite("the deaf leader lost its leadership");
    fleet.lost_everything(&victim);
    let said = fleet.logs(&leader, from, STALE);
    fleet.bite(&format!("the deaf scheduler says: {said}"));
    // All that was held back arrives at once, long out of date.
    fleet.net.heal();
    fleet.start_worker(&victim.node);
    let ttl = fleet.shape.ttl();
    fleet.last(ttl);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}

/// The leader keeps its leadership, as it can renew it, and sees nothing of what others write.
fn only_the_watch(fleet: &mut Fleet) {
    let (leader, since) = fleet.leader_after(0);
    let from = fleet.log(&leader).len();
    fleet.fault("hold back what the leader's watch would show");
    fleet.net.edges(&leader, "*").for_each(|edge| edge.silence_watches(true));
    // Written by another scheduler: whoever leads hears of it by its watch alone.
    let other = if leader == "s1" { "s2" } else { "s1" };
    let (key, manifest) = ("default/l5", fleet.manifest(5));
    let (client, address) = (fleet.client("submitter"), fleet.addresses[other].clone());
    let answer = fleet.runtime.block_on(client.apply(&address, key, &manifest));
    assert!(matches!(answer, Answer::Object { .. }), "{answer:?}");
    fleet.loops.push(key.to_owned());
    let said = fleet.logs(&leader, from, STALE);
    fleet.bite(&format!("the leader says: {said}"));
    // The watch that it begins then is heard, and so is its new listing.
    fleet.token(key);
    fleet.net.edges(&leader, "*").for_each(|edge| edge.silence_watches(false));
    let now = fleet.record.see(|view| (view.leader.clone(), view.led_since));
    assert_eq!(now, (leader, since), "another came to lead");
    fleet.bite("what the watch did not show was found by listing anew, under the same leader");
    fleet.over();
}
