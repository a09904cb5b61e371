//! F28: clocks run at different rates; simulated, since no clock of this machine can be made to.

use std::time::Duration;

use flyball_core::lease::{BootInstant, deadline};

use crate::dice::Dice;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F28",
    title: "clock rates apart (simulated)",
    usual: true,
    owners: Owners::Stay("simulated: there is no store and no owner"),
    run,
};

/// Renewals that are tried.
const TRIALS: u32 = 200_000;
/// By how much the server's clock may be faster than ours, millionths: what workers reckon with.
const DRIFT_PPM: u64 = 20_000;

/// True time in microseconds when a clock that runs `ppm` millionths too fast or slow has advanced.
fn true_us(own_us: u64, ppm: i64) -> u64 {
    let rate = 1_000_000_i128 + i128::from(ppm);
    u64::try_from(i128::from(own_us) * 1_000_000 / rate).unwrap_or(u64::MAX)
}

fn run(attempt: &Attempt) -> Outcome {
    let mut dice = Dice::new(attempt.seed);
    let (mut overlaps, mut beyond) = (0, 0);
    for _ in 0..TRIALS {
        let ttl = Duration::from_secs(dice.range(2, 300));
        let kill = Duration::from_millis(dice.range(10, 500));
        let sent = BootInstant(dice.range(0, 1 << 40));
        // Ours is slow by part of what is reckoned with, the server's is fast by the rest.
        let slow = dice.range(0, DRIFT_PPM);
        let fast = dice.range(0, (DRIFT_PPM - slow) * 9 / 10);
        let own = deadline(sent, ttl, u32::try_from(DRIFT_PPM).unwrap(), kill);
        let own_us = sent.until(own).as_micros() + kill.as_micros();
        let dead_us = true_us(u64::try_from(own_us).unwrap(), -i64::try_from(slow).unwrap());
        let ttl_us = u64::try_from(ttl.as_micros()).unwrap();
        let ends_us = true_us(ttl_us, i64::try_from(fast).unwrap());
        overlaps += u32::from(dead_us > ends_us);
        // Control: without the allowance the same clocks do overlap.
        let own = deadline(sent, ttl, 0, kill);
        let own_us = sent.until(own).as_micros() + kill.as_micros();
        let dead_us = true_us(u64::try_from(own_us).unwrap(), -i64::try_from(slow).unwrap());
        beyond += u32::from(dead_us > ends_us);
    }
    assert_eq!(overlaps, 0, "of {TRIALS} owners some were alive when their lease had ended");
    assert!(beyond > TRIALS / 2, "the clocks were not apart: {beyond} of {TRIALS}");
    Outcome::Passed
}
