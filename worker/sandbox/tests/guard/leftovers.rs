//! What a command leaves behind, and killing.

use flyball_core::score::ExitKind;

use crate::harness::{Bench, Test};

pub(crate) const TESTS: &[Test] = &[
    ("a_background_child_with_the_pipe", a_background_child_with_the_pipe),
    ("a_daemon_that_ignores_signals", a_daemon_that_ignores_signals),
    ("a_chain_of_forks", a_chain_of_forks),
    ("a_tree_that_grows", a_tree_that_grows),
    ("kill_ends_the_tree", kill_ends_the_tree),
    ("a_dropped_handle_kills", a_dropped_handle_kills),
    ("kill_all_is_proven", kill_all_is_proven),
];

/// Double fork, a session of its own, deaf to signals. Waits until it is up.
pub(crate) const DAEMON: &str = r#"exec 9>lives
(setsid sh -c 'trap "" TERM HUP INT QUIT; (trap "" TERM HUP; echo up >&9; touch up; sleep 1000; sleep 1000) &' &)
while [ ! -e up ]; do sleep 0.01; done
"#;

fn a_background_child_with_the_pipe(bench: &Bench) {
    let mut lives = bench.lives();
    let script = "exec 9>lives; sleep 1000 & echo done; exit 3";
    let end = bench.run(&bench.guard(), bench.shell(script));
    assert_eq!((end.exit, end.leftovers_killed), (ExitKind::Exited(3), 1));
    assert_eq!(bench.output(), "done\n");
    assert!(!lives.any());
}

fn a_daemon_that_ignores_signals(bench: &Bench) {
    let mut lives = bench.lives();
    let end = bench.run(&bench.guard(), bench.shell(&format!("{DAEMON} exit 4")));
    assert_eq!(end.exit, ExitKind::Exited(4));
    assert!(end.leftovers_killed >= 1, "{end:?}");
    lives.wait_for("up");
    assert!(!lives.any());
}

fn a_chain_of_forks(bench: &Bench) {
    let mut lives = bench.lives();
    // Each of them starts its successor and ends, so its number is old before it is read.
    std::fs::write(bench.file("chain"), "touch up; sh ./chain & exit").unwrap();
    let script = "exec 9>lives; for n in 1 2 3 4 5 6 7 8; do sh ./chain & done
        while [ ! -e up ]; do sleep 0.01; done; exit 0";
    let end = bench.run(&bench.guard(), bench.shell(script));
    assert_eq!(end.exit, ExitKind::Exited(0));
    assert!(!lives.any());
}

fn a_tree_that_grows(bench: &Bench) {
    let mut lives = bench.lives();
    // Twice as many every time, 127 in the end; killed when the first one is as deep as they go.
    let script = r#"exec 9>lives
        grow() { if [ $1 = 0 ]; then touch up; sleep 1000; else grow $(($1-1)) & grow $(($1-1)) & wait; fi; }
        grow 6 & while [ ! -e up ]; do sleep 0.01; done; exit 9"#;
    let end = bench.run(&bench.guard(), bench.shell(script));
    assert_eq!(end.exit, ExitKind::Exited(9));
    assert!(end.leftovers_killed >= 7, "{end:?}");
    assert!(!lives.any());
}

fn kill_ends_the_tree(bench: &Bench) {
    let mut lives = bench.lives();
    let guard = bench.guard();
    let mut handle = guard.spawn(bench.shell(&format!("{DAEMON} sleep 1000"))).unwrap();
    lives.wait_for("up");
    handle.killer().kill();
    let end = bench.wait(handle.wait());
    assert_eq!(end.exit, ExitKind::Killed);
    assert!(!lives.any());
    // Both again, without harm.
    handle.kill();
    assert_eq!(bench.wait(handle.wait()), end);
}

fn a_dropped_handle_kills(bench: &Bench) {
    let mut lives = bench.lives();
    let guard = bench.guard();
    let handle = guard.spawn(bench.shell(&format!("{DAEMON} sleep 1000"))).unwrap();
    lives.wait_for("up");
    drop(handle);
    lives.wait_for_none();
    assert_eq!(bench.run(&guard, bench.step(&["true"])).exit, ExitKind::Exited(0));
}

fn kill_all_is_proven(bench: &Bench) {
    let mut lives = bench.lives();
    let guard = bench.guard();
    bench.wait(guard.kill_all_and_prove()).unwrap();
    let mut handles: Vec<_> = (0..3)
        .map(|number| {
            let mut step = bench.shell(&format!("{DAEMON} sleep 1000"));
            step.output = bench.file(&format!("out{number}"));
            guard.spawn(step).unwrap()
        })
        .collect();
    lives.wait_for("up");
    bench.wait(guard.kill_all_and_prove()).unwrap();
    assert!(!lives.any());
    for handle in &mut handles {
        assert_eq!(bench.wait(handle.wait()).exit, ExitKind::Killed);
    }
    assert_eq!(bench.run(&guard, bench.step(&["true"])).exit, ExitKind::Exited(0));
}
