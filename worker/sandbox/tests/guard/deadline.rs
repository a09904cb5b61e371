//! The deadline: nothing before the first, everything dead after the last.

use std::time::Duration;

use flyball_core::score::ExitKind;
use flyball_sandbox::{FAR_AWAY, SpawnError, boottime};

use crate::harness::{Bench, Test, until};
use crate::leftovers::DAEMON;

pub(crate) const TESTS: &[Test] = &[
    ("no_deadline_no_work", no_deadline_no_work),
    ("the_deadline_ends_everything", the_deadline_ends_everything),
    ("an_extension_reaches_running_steps", an_extension_reaches_running_steps),
    ("a_lost_lease_ends_everything", a_lost_lease_ends_everything),
];

fn no_deadline_no_work(bench: &Bench) {
    let guard = bench.bare_guard();
    assert!(matches!(guard.spawn(bench.step(&["true"])), Err(SpawnError::NoDeadline)));
    assert!(guard.extender().extend(FAR_AWAY));
    assert_eq!(bench.run(&guard, bench.step(&["true"])).exit, ExitKind::Exited(0));
}

fn the_deadline_ends_everything(bench: &Bench) {
    let mut lives = bench.lives();
    let guard = bench.bare_guard();
    let deadline = boottime() + Duration::from_secs(2);
    assert!(guard.extender().extend(deadline));
    let mut handle = guard.spawn(bench.shell(&format!("{DAEMON} sleep 1000"))).unwrap();
    lives.wait_for("up");
    lives.wait_for_none();
    assert!(boottime() >= deadline);
    let end = bench.wait(handle.wait());
    assert_eq!(end.exit, ExitKind::Killed, "{end:?}");
    let loss = bench.wait(guard.lost());
    assert!(loss.proven && loss.reason.contains("deadline"), "{loss:?}");
    // Too late for everything.
    assert!(!guard.extender().extend(FAR_AWAY));
    assert!(matches!(guard.spawn(bench.step(&["true"])), Err(SpawnError::DeadlinePassed)));
    // But not for a new life.
    drop((guard, handle));
    let guard = bench.guard();
    assert_eq!(bench.run(&guard, bench.step(&["true"])).exit, ExitKind::Exited(0));
}

fn an_extension_reaches_running_steps(bench: &Bench) {
    let guard = bench.bare_guard();
    let extender = guard.extender();
    let first = boottime() + Duration::from_secs(2);
    assert!(extender.extend(first));
    let script = "while [ ! -e go ]; do sleep 0.01; done; exit 8";
    let mut handle = guard.spawn(bench.shell(script)).unwrap();
    // From another thread, as the heartbeat is.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            until("the first deadline", || {
                assert!(extender.extend(boottime() + Duration::from_secs(2)));
                boottime() > first + Duration::from_millis(500)
            });
        });
    });
    std::fs::write(bench.file("go"), "").unwrap();
    assert!(extender.extend(FAR_AWAY));
    assert_eq!(bench.wait(handle.wait()).exit, ExitKind::Exited(8));
}

fn a_lost_lease_ends_everything(bench: &Bench) {
    let mut lives = bench.lives();
    let guard = bench.guard();
    let mut handle = guard.spawn(bench.shell(&format!("{DAEMON} sleep 1000"))).unwrap();
    lives.wait_for("up");
    let loss = bench.wait(guard.shut_down());
    assert!(loss.proven, "{loss:?}");
    assert!(!lives.any());
    assert_eq!(bench.wait(handle.wait()).exit, ExitKind::Killed);
    assert!(bench.wait(guard.kill_all_and_prove()).is_err());
}
