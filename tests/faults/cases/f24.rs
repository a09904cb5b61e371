//! F24: the leader is killed again and again, each time when one of its writes was sent and not answered.

use std::time::{Duration, Instant};

use flyball_tests::poll::until;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::proxy::Proxy;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F24",
    title: "leaders killed at their writes",
    usual: true,
    owners: Owners::Change,
    run,
};

/// Loops that are there from the start.
const FIRST: usize = 2;
/// How much later than its predecessor's lease a leader may come on a busy machine.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(5);

/// Writes that are transactions of their own. A claim is put with its owner keys and the loop's status in one.
#[derive(Debug, Clone, Copy)]
enum Write {
    Assignment,
    Progress,
    End,
    /// The run of a worker that died.
    LostRun,
    Session,
    NodeRecord,
}

const WRITES: [Write; 6] = [
    Write::Assignment,
    Write::Progress,
    Write::End,
    Write::LostRun,
    Write::Session,
    Write::NodeRecord,
];

impl Write {
    /// What only this transaction says, or says first. `number`: the round's loop.
    fn text(self, number: usize) -> String {
        match self {
            Self::Assignment => format!("/claims/default/l{number}"),
            Self::Progress => r#""accepted":1,"#.to_owned(),
            Self::End => r#""phase":"Converged""#.to_owned(),
            Self::LostRun => r#""runsLost":1"#.to_owned(),
            Self::Session => compared("/flyball/v1/sessions/n3"),
            Self::NodeRecord => compared("/flyball/v1/nodes/n4"),
        }
    }

    /// Has the leader write it.
    fn ask_for(self, fleet: &mut Fleet, number: usize) {
        match self {
            Self::Session => fleet.start_worker("n3"),
            Self::NodeRecord => fleet.start_worker("n4"),
            Self::Assignment | Self::Progress | Self::End => {
                fleet.submit(number);
            }
            Self::LostRun => {
                let key = fleet.submit(number);
                let node = fleet.half_way(&key, 0);
                fleet.kill_worker(&node);
                fleet.start_worker(&node);
            }
        }
    }
}

/// A key as part of a comparison, and not of a question for it: the field before it, and its length.
fn compared(key: &str) -> String {
    let length = char::from(u8::try_from(key.len()).expect("a short key"));
    format!("\u{1a}{length}{key}")
}

fn run(attempt: &Attempt) -> Outcome {
    // Every second number, so that no loop waits for another.
    let shape = Shape { loops: FIRST, spare: 2 * WRITES.len(), ..Shape::default() };
    let mut fleet = Fleet::start(attempt, shape);
    fleet.victim();
    fleet.fault("kill leaders at their writes");
    let mut since = 0;
    for (round, write) in fleet.dice.shuffled(WRITES).into_iter().enumerate() {
        let number = FIRST + 1 + 2 * round;
        let (leader, leads_since) = fleet.leader_after(since);
        since = leads_since;
        let fired = |fleet: &Fleet| fleet.net.edges(&leader, "*").map(Proxy::fired).sum::<u64>();
        let before = fired(&fleet);
        fleet.net.edges(&leader, "*").for_each(|edge| edge.cut_behind(&write.text(number)));
        write.ask_for(&mut fleet, number);
        until(&format!("{leader} writes: {write:?}"), NOTICE_MAX, || {
            (fired(&fleet) > before).then_some(())
        });
        fleet.kill_scheduler(&leader);
        let killed = Instant::now();
        fleet.net.heal();
        fleet.bite(&format!("{leader}, which led since {since}, was killed at a write: {write:?}"));
        let bound = fleet.shape.ttl() + FOLLOWS_WITHIN;
        fleet.until("somebody else comes to lead", bound, |view| {
            (view.led_since > since).then_some(())
        });
        fleet.bite(&format!("somebody else led {:?} later", killed.elapsed()));
        fleet.start_scheduler(&leader);
    }
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
