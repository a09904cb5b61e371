//! What holds for any agent and any text.

use proptest::prelude::*;
use serde_json::Value;

use super::{Player, spec};
use crate::governor::*;
use crate::spec::Accept;

/// A step of an arbitrary agent: which tree it makes, what fails there, what it says.
fn any_steps() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    prop::collection::vec((0..12_u8, 0..8_u8, 0..12_u8), 1..60)
}

fn failing_of(bits: u8) -> String {
    let names = ["a", "b", "c"].into_iter().zip(0..).filter(|(_, bit)| bits & (1 << bit) != 0);
    names.map(|(name, _)| name).collect::<Vec<_>>().join(",")
}

proptest! {
    #[test]
    fn any_agent_is_ratcheted_and_stopped(
        steps in any_steps(), equal in any::<bool>(), patience in 1..8_u32, allowed in 1..30_u32,
    ) {
        let accept = if equal { Accept::Equal } else { Accept::Improvements };
        let spec = GovernorSpec { accept, patience, iterations: allowed, ..spec() };
        let mut player = Player::new(&spec);
        player.see("t99", "a,b,c");
        let mut ended = false;
        for (tree, bits, say) in steps {
            let best = player.governor.best_distance();
            let hint = match say {
                0 => Hint::Done,
                1 => Hint::Unreachable("w".repeat(500)),
                _ => Hint::None,
            };
            let agent = if say == 2 { ExitKind::Signaled(11) } else { ExitKind::Exited(0) };
            // A tree always fails the same way.
            let failing = failing_of(bits ^ (tree % 8));
            let judgement = player.attempt(&format!("{tree}-{failing}"), &failing, &hint, &agent);
            prop_assert!(player.governor.best_distance() <= best, "the ratchet slipped");
            prop_assert_eq!(judgement.improved, player.governor.best_distance() < best);
            prop_assert!(player.governor.memory().to_string().len() <= MEMORY_BYTES_MAX);
            match judgement.next {
                Next::Verify => { prop_assert_eq!(failing, ""); ended = true; }
                Next::Stop(outcome) => {
                    prop_assert!(outcome.phase.is_terminal());
                    prop_assert!(outcome.evidence.len() <= 40);
                    ended = true;
                }
                Next::Act { pause, advice } => {
                    prop_assert!(player.iterations < allowed && player.governor.stalled() < patience);
                    prop_assert!(pause <= spec.backoff.max.0);
                    prop_assert!(advice.len() <= ADVICE_LINES_MAX);
                    prop_assert!(advice.iter().all(|line| line.len() <= LINE_BYTES_MAX));
                }
            }
            if ended { break; }
            // What a takeover in between would change: nothing.
            let restored = Governor::restore(&spec, &player.governor.memory());
            prop_assert_eq!(&restored.memory, &player.governor.memory);
        }
        prop_assert!(ended || player.iterations < allowed);
    }

    #[test]
    fn any_text_stays_in_bounds(text in any::<String>(), times in 1..40_usize) {
        let mut governor = Governor::restore(&spec(), &Value::Null);
        let violations = vec![text.repeat(times); times];
        for iterations in 1..=14 {
            let hint = Hint::Unreachable(format!("{iterations}{}", text.repeat(times)));
            let tree = format!("{text}{iterations}");
            let judgement = governor.judge(&Trial {
                tree: &tree,
                base_tree: &text,
                distance_before: Distance::ONE,
                distance_after: Distance::ONE,
                checks: &[],
                diff: DiffStat::default(),
                violations: &violations,
                agent: &ExitKind::Exited(0),
                hint: &hint,
                iterations,
                run_ms: 0,
            }, 0.5);
            prop_assert!(judgement.reason.len() <= LINE_BYTES_MAX);
            prop_assert!(!judgement.reason.contains(char::is_control));
        }
        prop_assert!(governor.memory().to_string().len() <= MEMORY_BYTES_MAX);
        prop_assert!(governor.tried().len() <= TRIED_LINES_MAX);
    }

    /// The whole loop as a run drives it, with proofs that may fail and bases that may move.
    #[test]
    fn a_whole_run_ends_within_its_bounds(
        steps in prop::collection::vec((0..6_u8, 0..8_u8, 0..8_u8, 0..10_u8), 1..30),
        patience in 1..6_u32,
        allowed in 1..25_u32,
    ) {
        let spec = GovernorSpec { patience, iterations: allowed, ..spec() };
        let mut player = Player::new(&spec);
        let mut next = player.see("t99", "a,b");
        let mut proofs = 0;
        for (tree, bits, proof, base) in steps.iter().cycle() {
            if base == &0 && player.iterations < allowed {
                next = player.see(&format!("base-{}", player.iterations), &failing_of(*bits));
            }
            match next {
                Next::Stop(outcome) => {
                    prop_assert!(outcome.phase.is_terminal());
                    prop_assert!(crate::lifecycle::reason_fits(outcome.phase, outcome.reason));
                    break;
                }
                Next::Verify => {
                    proofs += 1;
                    next = player.prove(&failing_of(*proof));
                }
                Next::Act { .. } => {
                    prop_assert!(player.iterations < allowed, "acts beyond its bound");
                    let (name, failing) = (format!("t{tree}-{bits}"), failing_of(*bits));
                    next = player.attempt(&name, &failing, &Hint::None, &ExitKind::Exited(0)).next;
                }
            }
            // One more for each tree and each moved base.
            prop_assert!(proofs <= (PROOFS_MAX + 1) * (2 * allowed + 2), "proves for ever");
        }
    }
}
