//! The governor driven by short scripts, whose whole course is written down, and by properties.

mod props;

use std::fmt::Write as _;

use serde_json::Value;

use super::*;
use crate::quantity::Span;
use crate::spec::{Accept, Backoff};
use crate::status::{Phase, Reason};

fn spec() -> GovernorSpec {
    GovernorSpec {
        backoff: Backoff { initial: Span::from_secs(1), max: Span::from_secs(60) },
        ..GovernorSpec::default()
    }
}

/// Unscored checks a, b and c, of which the named ones fail.
fn checks(failing: &str) -> Vec<CheckResult> {
    ["a", "b", "c"]
        .into_iter()
        .map(|name| {
            let passed = !failing.split(',').any(|failed| failed == name);
            CheckResult {
                name: name.to_owned(),
                passed,
                distance: if passed { Distance::ZERO } else { Distance::ONE },
                exit: if passed { "exit 0" } else { "exit 1" }.to_owned(),
                ..CheckResult::default()
            }
        })
        .collect()
}

/// Plays a run: keeps and reverts as it is told, as a worker would.
struct Player {
    governor: Governor,
    spec: GovernorSpec,
    tree: String,
    failing: String,
    iterations: u32,
    has_agent: bool,
}

impl Player {
    fn new(spec: &GovernorSpec) -> Self {
        Self {
            governor: Governor::restore(spec, &Value::Null),
            spec: spec.clone(),
            tree: String::new(),
            failing: String::new(),
            iterations: 0,
            has_agent: true,
        }
    }

    fn see(&mut self, tree: &str, failing: &str) -> Next {
        (self.tree, self.failing) = (tree.to_owned(), failing.to_owned());
        let checks = checks(failing);
        self.governor.observe(&Observation {
            tree,
            distance: checks.iter().map(|check| check.distance).sum(),
            checks: &checks,
            has_agent: self.has_agent,
            iterations: self.iterations,
            run_ms: 0,
        })
    }

    fn prove(&mut self, failing: &str) -> Next {
        let checks = checks(failing);
        let proof = Proof {
            tree: &self.tree,
            distance: checks.iter().map(|check| check.distance).sum(),
            checks: &checks,
            iterations: self.iterations,
            run_ms: 0,
        };
        self.governor.prove(&proof, 1.0)
    }

    fn attempt(&mut self, tree: &str, failing: &str, hint: &Hint, agent: &ExitKind) -> Judgement {
        self.iterations += 1;
        let (before, after) = (checks(&self.failing), checks(failing));
        let violations =
            if failing == "out" { vec!["docs/x is not owned".to_owned()] } else { vec![] };
        let judgement = self.governor.judge(
            &Trial {
                tree,
                base_tree: &self.tree,
                distance_before: before.iter().map(|check| check.distance).sum(),
                distance_after: after.iter().map(|check| check.distance).sum(),
                checks: &after,
                diff: DiffStat { files: 1, lines: 2 },
                violations: &violations,
                agent,
                hint,
                iterations: self.iterations,
                run_ms: 0,
            },
            1.0,
        );
        if judgement.decision == Decision::Kept {
            (self.tree, self.failing) = (tree.to_owned(), failing.to_owned());
        }
        judgement
    }

    fn line(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        let next = match words.as_slice() {
            ["see", tree, failing] => self.see(tree, failing),
            ["prove", failing] => self.prove(failing),
            ["takeover"] => {
                self.governor = Governor::restore(&self.spec, &self.governor.memory());
                let (tree, failing) = (self.tree.clone(), self.failing.clone());
                self.see(&tree, &failing)
            }
            ["try", tree, failing, rest @ ..] => {
                let (hint, agent) = match rest {
                    ["done"] => (Hint::Done, ExitKind::Exited(0)),
                    ["unreachable"] => (Hint::Unreachable("no".to_owned()), ExitKind::Exited(0)),
                    ["human"] => (Hint::NeedsHuman("which?".to_owned()), ExitKind::Exited(0)),
                    ["crash"] => (Hint::None, ExitKind::Exited(3)),
                    ["killed"] => (Hint::None, ExitKind::Killed),
                    ["nostart"] => (Hint::None, ExitKind::CouldNotStart("no such file".into())),
                    _ => (Hint::None, ExitKind::Exited(0)),
                };
                let judgement = self.attempt(tree, failing, &hint, &agent);
                return format!("{:?}, {}", judgement.decision, show(&judgement.next));
            }
            _ => panic!("no such command: {command}"),
        };
        show(&next)
    }
}

fn show(next: &Next) -> String {
    match next {
        Next::Verify => "verify".to_owned(),
        Next::Act { pause, .. } => format!("act after {pause:?}"),
        Next::Stop(outcome) => format!("{} {:?}", outcome.phase, outcome.reason),
    }
}

/// Plays the commands of a script (the part before `=>`) and compares the whole course.
fn check_script(spec: &GovernorSpec, script: &str) -> Player {
    let mut player = Player::new(spec);
    let (mut found, mut expected) = (String::new(), String::new());
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, course) = line.split_once("=>").unwrap();
        writeln!(expected, "{} => {}", command.trim(), course.trim()).unwrap();
        writeln!(found, "{} => {}", command.trim(), player.line(command)).unwrap();
    }
    assert_eq!(found, expected, "tried: {:#?}", player.governor.tried());
    player
}

#[test]
fn improvements_are_kept_until_all_is_proven() {
    check_script(
        &spec(),
        "see t0 a,b,c   => act after 0ns
         try t1 b,c     => Kept, act after 0ns
         see t1 b,c     => act after 0ns
         try t2 a,b,c   => Reverted, act after 1s
         try t3 c done  => Kept, act after 0ns
         try t4 -       => Kept, verify
         prove -        => Converged None",
    );
}

#[test]
fn what_is_done_already_needs_no_agent() {
    let mut player = Player::new(&spec());
    player.has_agent = false;
    assert_eq!(show(&player.see("t0", "-")), "verify");
    assert_eq!(show(&player.prove("-")), "Converged None");

    let mut player = Player::new(&spec());
    player.has_agent = false;
    let Next::Stop(outcome) = player.see("t0", "b") else { panic!("goes on without an agent") };
    assert_eq!((outcome.phase, outcome.reason), (Phase::Unreachable, Reason::NoProgress));
    assert_eq!(outcome.evidence, ["check b fails (exit 1)"]);
}

#[test]
fn patience_ends_without_progress_and_says_what_was_tried() {
    let player = check_script(
        &spec(),
        "see t0 a,b     => act after 0ns
         try t1 a,b     => Reverted, act after 1s
         try t0 a,b     => Unchanged, act after 2s
         try t9 out     => Refused, act after 4s
         try t2 a,b,c   => Reverted, Unreachable NoProgress",
    );
    let outcome = player.governor.verdict(&checks("a,b"), 4, 0).unwrap();
    assert_eq!(
        outcome.message,
        "no improvement in 4 iterations in a row (patience 4); best distance 2.00 of first 2.00; \
         failing: a, b"
    );
    let expected = [
        "check a fails (exit 1)",
        "check b fails (exit 1)",
        "tried #1 reverted: distance 2.00 -> 2.00, no improvement",
        "tried #2 unchanged: the agent changed nothing",
        "tried #3 refused: out of bounds: docs/x is not owned",
        "tried #4 reverted: distance 2.00 -> 3.00; broke c",
    ];
    assert_eq!(outcome.evidence, expected);
}

/// An agent that cannot do it and does the same every time does not go in circles: it stands still.
#[test]
fn the_same_futile_change_again_is_no_progress() {
    let player = check_script(
        &spec(),
        "see t0 a     => act after 0ns
         try t1 a     => Reverted, act after 1s
         try t1 a     => Reverted, act after 2s
         try t1 a     => Reverted, act after 4s
         try t1 a     => Reverted, Unreachable NoProgress",
    );
    let line = "#1 reverted: distance 1.00 -> 1.00, no improvement; the same 4 times, last in #4";
    assert_eq!(player.governor.tried(), [line]);
}

#[test]
fn two_futile_changes_in_turn_are_no_progress_within_the_default_patience() {
    check_script(
        &spec(),
        "see t0 a     => act after 0ns
         try t1 a     => Reverted, act after 1s
         try t2 a     => Reverted, act after 2s
         try t1 a     => Reverted, act after 16s
         try t2 a     => Reverted, Unreachable NoProgress",
    );
}

/// Fix a, break b; the checkpoint stays, so the same trade comes again.
#[test]
fn the_same_trade_again_is_flapping_before_patience_ends() {
    let mut player = check_script(
        &spec(),
        "see t0 a     => act after 0ns
         try t1 b     => Reverted, act after 1s
         try t1 b     => Reverted, act after 8s
         try t1 b     => Reverted, Unreachable Flapping",
    );
    let Next::Stop(outcome) = player.see("t0", "a") else { panic!("goes on") };
    assert_eq!(outcome.reason, Reason::Flapping);
    assert_eq!(
        outcome.message,
        "goes in circles: came back to the same failures 2 times without improvement; fixing a \
         breaks b; best distance 1.00 of first 1.00; failing: a"
    );
    assert!(outcome.evidence.contains(&"fixing a breaks b".to_owned()), "{:?}", outcome.evidence);
}

#[test]
fn a_trade_is_recognised_by_what_fails_when_the_trees_differ() {
    check_script(
        &spec(),
        "see t0 a,b   => act after 0ns
         try t1 b     => Kept, act after 0ns
         try t2 a     => Reverted, act after 1s
         try t3 a     => Reverted, act after 8s
         try t4 a     => Reverted, Unreachable Flapping",
    );
}

#[test]
fn flapping_is_the_verdict_of_patience_too_when_it_was_seen() {
    check_script(
        &spec(),
        "see t0 a     => act after 0ns
         try t1 b     => Reverted, act after 1s
         try t0 a     => Unchanged, act after 2s
         try t1 b     => Reverted, act after 16s
         try t0 a     => Unchanged, Unreachable Flapping",
    );
}

#[test]
fn equal_changes_are_kept_by_policy_but_never_back_and_forth() {
    let equal = GovernorSpec { accept: Accept::Equal, ..spec() };
    check_script(
        &equal,
        "see t0 a     => act after 0ns
         try t1 b     => Kept, act after 0ns
         try t0 a     => Reverted, act after 4s
         try t2 a     => Reverted, Unreachable Flapping",
    );
    check_script(
        &equal,
        "see t0 a     => act after 0ns
         try t1 a     => Kept, act after 0ns
         try t2 a     => Kept, act after 0ns
         try t3 a     => Kept, act after 0ns
         try t4 a     => Kept, Unreachable NoProgress",
    );
    check_script(
        &equal,
        "see t0 a     => act after 0ns
         try t1 a     => Kept, act after 0ns
         try t2 -     => Kept, verify
         prove -      => Converged None",
    );
}

#[test]
fn bounds() {
    let short = GovernorSpec { iterations: 2, ..spec() };
    check_script(
        &short,
        "see t0 a,b,c => act after 0ns
         try t1 a,b   => Kept, act after 0ns
         try t2 a     => Kept, Exhausted Iterations
         see t2 a     => Exhausted Iterations",
    );
    check_script(
        &short,
        "see t0 a,b   => act after 0ns
         try t1 a     => Kept, act after 0ns
         try t2 -     => Kept, verify
         see t2 -     => verify
         prove -      => Converged None",
    );
    let mut governor = Governor::restore(&spec(), &Value::Null);
    let checks = checks("a");
    let mut seen = Observation {
        tree: "t0",
        distance: Distance::ONE,
        checks: &checks,
        has_agent: true,
        iterations: 0,
        run_ms: 3_599_999,
    };
    assert_eq!(show(&governor.observe(&seen)), "act after 0ns");
    seen.run_ms = 3_600_000;
    assert_eq!(show(&governor.observe(&seen)), "Exhausted WallTime");
}

#[test]
fn hints_are_only_hints() {
    check_script(
        &spec(),
        "see t0 a,b             => act after 0ns
         try t1 a,b done        => Reverted, act after 1s
         try t2 a,b unreachable => Reverted, act after 2s
         try t3 a unreachable   => Kept, act after 0ns
         try t4 a unreachable   => Reverted, act after 1s
         try t5 a unreachable   => Reverted, Unreachable Declared",
    );
    check_script(
        &spec(),
        "see t0 a          => act after 0ns
         try t1 a          => Reverted, act after 1s
         try t2 a          => Reverted, act after 2s
         try t3 a          => Reverted, act after 4s
         try t3 a human    => Reverted, Parked Hold
         takeover          => act after 0ns
         try t5 - human    => Kept, verify",
    );
}

#[test]
fn ends_of_the_agent() {
    check_script(
        &spec(),
        "see t0 a          => act after 0ns
         try t0 a crash    => Unchanged, act after 1s
         try t0 a killed   => Unchanged, act after 1s
         try t0 a killed   => Unchanged, act after 1s
         try t1 - crash    => Kept, verify",
    );
    check_script(
        &spec(),
        "see t0 a          => act after 0ns
         try t0 a nostart  => Unchanged, Failed AgentCannotStart",
    );
}

#[test]
fn a_check_that_cannot_start_is_a_wrong_declaration() {
    let mut checks = checks("a");
    checks[0].exit = ExitKind::CouldNotStart("no such file".into()).to_string();
    let seen = Observation {
        tree: "t0",
        distance: Distance::ONE,
        checks: &checks,
        has_agent: true,
        iterations: 0,
        run_ms: 0,
    };
    let Next::Stop(outcome) = Governor::restore(&spec(), &Value::Null).observe(&seen) else {
        panic!("goes on")
    };
    assert_eq!((outcome.phase, outcome.reason), (Phase::Failed, Reason::CheckCannotStart));
    assert_eq!(outcome.message, "check a: could not start: no such file");
}

#[test]
fn a_result_that_fails_in_a_fresh_clone_is_not_done() {
    check_script(
        &spec(),
        "see t0 a      => act after 0ns
         try t1 -      => Kept, verify
         prove a       => verify
         prove a       => act after 1s
         see t1 -      => act after 0ns
         try t1 -      => Unchanged, act after 2s
         try t2 -      => Kept, verify
         prove -       => Converged None",
    );
    // Never proven: hollow gains do not renew patience.
    check_script(
        &spec(),
        "see t0 a      => act after 0ns
         try t1 -      => Kept, verify
         prove a       => verify
         prove a       => act after 1s
         try t2 -      => Kept, verify
         prove a       => verify
         prove a       => act after 1s
         try t3 -      => Kept, verify
         prove a       => verify
         prove a       => act after 1s
         try t4 -      => Kept, verify
         prove a       => verify
         prove a       => Unreachable NoProgress",
    );
}

#[test]
fn a_flaky_proof_gets_a_second_chance() {
    check_script(
        &spec(),
        "see t0 a      => act after 0ns
         try t1 -      => Kept, verify
         prove a       => verify
         prove -       => Converged None",
    );
}

#[test]
fn a_takeover_forgets_nothing() {
    check_script(
        &spec(),
        "see t0 a     => act after 0ns
         try t1 b     => Reverted, act after 1s
         takeover     => act after 0ns
         try t1 b     => Reverted, act after 8s
         takeover     => act after 0ns
         try t1 b     => Reverted, Unreachable Flapping
         takeover     => Unreachable Flapping",
    );
}

#[test]
fn a_base_that_moves_sets_the_bar_anew() {
    check_script(
        &spec(),
        "see t0 a,b   => act after 0ns
         try t1 a     => Kept, act after 0ns
         see t8 a,b,c => act after 0ns
         try t2 a,b   => Kept, act after 0ns
         see t9 a     => act after 0ns
         try t3 a,b   => Reverted, act after 1s",
    );
}

#[test]
fn advice_names_the_circle_first() {
    let mut player = Player::new(&spec());
    player.see("t0", "a");
    player.line("try t1 b");
    let judgement = player.attempt("t1", "b", &Hint::Done, &ExitKind::TimedOut);
    assert_eq!(
        judgement.reason,
        "distance 1.00 -> 1.00, no improvement; fixed a; broke b; the agent ended with timeout"
    );
    let Next::Act { advice, .. } = judgement.next else { panic!("stopped") };
    let expected = [
        "You are going in circles: fixing a breaks b. Both must pass at the same time.",
        "This very change was tried 2 times and reverted each time: do something else.",
        "Your last change was reverted: the distance went from 1.00 to 1.00, it broke b.",
        "You were stopped at your time limit: take a smaller step.",
        "You reported that you are done, but these checks fail: b.",
        "2 more iterations without improvement end this loop.",
    ];
    assert_eq!(advice, expected);
    let Next::Act { advice, .. } = player.see("t0", "a") else { panic!("stopped") };
    assert_eq!(advice, expected, "also after a takeover");
}

#[test]
fn step_limits_refuse() {
    let governor = Governor::restore(&spec(), &Value::Null);
    assert!(governor.step_violations(&DiffStat { files: 50, lines: 2000 }).is_empty());
    assert_eq!(
        governor.step_violations(&DiffStat { files: 51, lines: 2001 }),
        ["51 files changed, at most 50 allowed", "2001 lines changed, at most 2000 allowed"]
    );
}

#[test]
fn pauses_double_are_capped_and_spread() {
    let mut governor = Governor::restore(&spec(), &Value::Null);
    let outcome = |governor: &mut Governor, jitter| {
        governor.on_repository_unreachable("connection refused", jitter)
    };
    let pauses: Vec<u64> = (1..REPOSITORY_TRIES_MAX)
        .map(|_| {
            let outcome = outcome(&mut governor, 1.0);
            assert_eq!((outcome.phase, outcome.reason), (Phase::Parked, Reason::Backoff));
            outcome.retry_after_ms / 1000
        })
        .collect();
    assert_eq!(pauses[..11], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600]);
    assert!(pauses[10..].iter().all(|pause| *pause == 600));
    let last = outcome(&mut governor, 1.0);
    assert_eq!((last.phase, last.reason), (Phase::Failed, Reason::RepositoryUnreachable));

    for (jitter, expected) in [(0.0, 500), (0.5, 750), (f64::NAN, 1000), (9.0, 1000), (-1.0, 500)] {
        governor.on_repository_reached();
        assert_eq!(outcome(&mut governor, jitter).retry_after_ms, expected, "{jitter}");
    }
}

#[test]
fn models_that_do_not_answer_are_tried_again_with_the_same_pauses_and_without_end() {
    let mut governor = Governor::restore(&spec(), &Value::Null);
    for times in 1..=2 * REPOSITORY_TRIES_MAX {
        let outcome = governor.on_models_unreachable("529", 1.0);
        assert_eq!((outcome.phase, outcome.reason), (Phase::Parked, Reason::Backoff));
        let pause = 2_u64.pow((times - 1).min(10)).min(600);
        assert_eq!(outcome.retry_after_ms, 1000 * pause, "{times}");
        assert_eq!(outcome.message, format!("no model answered its agent (try {times}): 529"));
        // It is remembered beyond the run.
        governor = Governor::restore(&spec(), &governor.memory());
    }
    governor.on_counted(true);
    assert!(governor.on_models_unreachable("529", 1.0).retry_after_ms > 1000);
    governor.on_counted(false);
    assert_eq!(governor.on_models_unreachable("529", 1.0).retry_after_ms, 1000);
    assert_eq!(governor.stalled(), 0);
}

#[test]
fn iterations_that_cost_something_are_not_taken_back_for_ever() {
    let mut governor = Governor::restore(&spec(), &Value::Null);
    for round in 0..3 {
        for times in 0..TAKEN_BACK_MAX {
            assert!(governor.take_back(false) && governor.take_back(true), "{round} {times}");
        }
        let mut governor_later = Governor::restore(&spec(), &governor.memory());
        assert!(governor_later.take_back(false), "what costs nothing may be done again");
        assert!(!governor_later.take_back(true) && !governor_later.take_back(true));
        governor_later.on_counted(true);
        governor = governor_later;
    }
}

#[test]
fn cases_are_compared_only_as_far_as_both_lists_reach() {
    let check = |cases: &str, failed: u64| CheckResult {
        name: "t".to_owned(),
        passed: failed == 0,
        cases: Some(crate::record::CaseCount { passed: 1, failed, vanished: 0 }),
        failing_cases: cases.split_terminator(',').map(str::to_owned).collect(),
        ..CheckResult::default()
    };
    let table = [
        // Failing before (listed, in all), failing after, fixed, broken.
        ("a,b", 2, "b,c", 2, "t: a", "t: c"),
        // The second list shows c only because a is gone from it.
        ("a,b", 3, "b,c", 2, "t: a", ""),
        ("a,b", 2, "a", 7, "", ""),
        ("a", 1, "a (vanished)", 1, "", ""),
        ("a", 1, "", 0, "t: a", ""),
        // It did not build: nothing is known of cases.
        ("a", 1, "", 1, "", ""),
    ];
    for (before, all_before, after, all_after, fixed, broken) in table {
        let found = changes(&[check(before, all_before)], &[check(after, all_after)]);
        let joined = (found.fixed.join(","), found.broken.join(","));
        assert_eq!(joined, (fixed.to_owned(), broken.to_owned()), "{before} -> {after}");
    }
}

#[test]
fn a_memory_that_cannot_be_read_counts_as_none() {
    for memory in [Value::Null, serde_json::json!({ "version": 9, "stalled": 4 }), "x".into()] {
        let mut governor = Governor::restore(&spec(), &memory);
        assert_eq!(governor.stalled(), 0);
        assert!(governor.best_distance().is_none());
        governor.on_repository_reached();
    }
}

#[test]
fn stalled_iterations_are_told_as_remembered() {
    let mut memory = Governor::restore(&spec(), &Value::Null).memory();
    memory["stalled"] = 4.into();
    assert_eq!(Governor::restore(&spec(), &memory).stalled(), 4);
}
