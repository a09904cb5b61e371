//! Starts that fail by a fault of the node: no room for a process, a full disk. They say nothing about the
//! work and mostly pass, so loop and node wait, longer each time, instead of counting lost runs.

use jiff::SignedDuration;

use crate::status::{Outcome, Phase, Reason};

/// Starts in a row that may fail until the loop is parked. With the pauses between them that is about
/// two minutes: longer than a burst of processes or a full disk that somebody is emptying, short enough
/// for a person to hear of it. Each is a claim and two commits, so there is no hurry for more.
pub const START_FAULTS_MAX: u32 = 8;

/// Pause of a loop after its first failed start.
const LOOP_PAUSE_MIN: SignedDuration = SignedDuration::from_secs(1);

/// Longest pause of a loop: somebody may be waiting for it.
const LOOP_PAUSE_MAX: SignedDuration = SignedDuration::from_secs(60);

/// How long a node is avoided after its first failed start: longer than the loop waits, so that it goes
/// elsewhere if it can.
const NODE_PAUSE_MIN: SignedDuration = SignedDuration::from_secs(2);

/// Longest time that a node is avoided without another look: it costs one start to find out.
const NODE_PAUSE_MAX: SignedDuration = SignedDuration::from_secs(120);

/// True for the end of a run that its node could not start.
pub fn is_start_fault(outcome: &Outcome) -> bool {
    outcome.phase == Phase::Pending && outcome.reason == Reason::CannotStart
}

/// How long a loop waits after this many failed starts in a row.
pub fn loop_pause(faults: u32) -> SignedDuration {
    doubled(LOOP_PAUSE_MIN, faults).min(LOOP_PAUSE_MAX)
}

/// How long a node is avoided after this many failed starts in a row.
pub fn node_pause(faults: u32) -> SignedDuration {
    doubled(NODE_PAUSE_MIN, faults).min(NODE_PAUSE_MAX)
}

fn doubled(first: SignedDuration, faults: u32) -> SignedDuration {
    // Far above both bounds; more would only overflow.
    let times = faults.saturating_sub(1).min(16);
    first.saturating_mul(1 << times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bounds() {
        let loops: Vec<i64> = (1..=9).map(|faults| loop_pause(faults).as_secs()).collect();
        assert_eq!(loops, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let nodes: Vec<i64> = (1..=9).map(|faults| node_pause(faults).as_secs()).collect();
        assert_eq!(nodes, [2, 4, 8, 16, 32, 64, 120, 120, 120]);
        assert_eq!(loop_pause(u32::MAX), LOOP_PAUSE_MAX);
        assert_eq!(node_pause(0), NODE_PAUSE_MIN);
    }
}
