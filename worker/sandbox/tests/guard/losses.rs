//! Deaths of the worker, of the guard and of step inits.

use std::io::{BufRead, BufReader, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use flyball_core::lease::BootInstant;
use flyball_core::score::ExitKind;
use flyball_sandbox::{
    FAR_AWAY, Guard, GuardConfig, Isolation, SpawnError, StateLockError, Step, acquire_state_dir,
    boottime,
};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use nix::unistd::Pid;

use crate::harness::{Bench, PATIENCE, Test, children_of, soon, this_as, until};
use crate::leftovers::DAEMON;

pub(crate) const TESTS: &[Test] = &[
    ("a_killed_worker", a_killed_worker),
    ("a_stopped_worker", a_stopped_worker),
    ("a_killed_guard", a_killed_guard),
    ("a_killed_step_init", a_killed_step_init),
    ("a_stopped_step_init", a_stopped_step_init),
    ("a_signal_to_all", a_signal_to_all),
    ("one_guard_per_state_dir", one_guard_per_state_dir),
    ("a_malformed_frame", a_malformed_frame),
];

/// The role of a worker that can be killed: `<dir> <deadline> <full|plain>`. Starts a guard and a
/// step with a daemon, says so, and does nothing more.
pub(crate) fn worker(arguments: &[String]) -> ExitCode {
    let [dir, deadline, isolation] = arguments else { return ExitCode::FAILURE };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = GuardConfig::new(this_as("guard"), format!("{dir}/state"));
    if isolation == "plain" {
        config.isolation = Isolation::PLAIN;
    }
    let guard = runtime.block_on(Guard::start(config)).unwrap();
    assert!(guard.extender().extend(BootInstant(deadline.parse().unwrap())));
    let step = Step {
        argv: vec!["/bin/sh".into(), "-c".into(), format!("{DAEMON} sleep 1000")],
        cwd: dir.into(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        output: format!("{dir}/out").into(),
        stdin: None,
        output_bytes_max: 1000,
        timeout: PATIENCE * 10,
        label: "worker".into(),
        confinement: None,
    };
    let _handle = guard.spawn(step).unwrap();
    println!("guard {}", guard.pid());
    std::thread::park();
    ExitCode::FAILURE
}

pub(crate) fn start_worker(bench: &Bench, deadline: BootInstant) -> (Child, u32) {
    let command = this_as("worker");
    let kind = if bench.isolation == Isolation::PLAIN { "plain" } else { "full" };
    let mut worker = Command::new(&command[0])
        .arg(&command[1])
        .arg(bench.path())
        .args([&deadline.0.to_string(), kind])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(worker.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let guard = line.trim().strip_prefix("guard ").unwrap().parse().unwrap();
    (worker, guard)
}

fn is_alive(pid: u32) -> bool {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), None).is_ok()
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

fn a_killed_worker(bench: &Bench) {
    let mut lives = bench.lives();
    let (mut worker, guard) = start_worker(bench, FAR_AWAY);
    lives.wait_for("up");
    worker.kill().unwrap();
    worker.wait().unwrap();
    // What the next incarnation does: with the lock in hand, nothing of the old one is left.
    let lock = bench.wait(acquire_state_dir(&bench.file("state"), PATIENCE)).unwrap();
    assert!(!lives.any());
    assert!(lock.is_proven(), "the guard has seen to it");
    // It may take a moment until somebody has reaped it.
    until("the end of the guard", || {
        let stat = std::fs::read_to_string(format!("/proc/{guard}/stat")).unwrap_or_default();
        !is_alive(guard) || stat.contains(") Z ")
    });
}

fn a_stopped_worker(bench: &Bench) {
    let mut lives = bench.lives();
    let deadline = soon();
    let (mut worker, _) = start_worker(bench, deadline);
    lives.wait_for("up");
    signal(worker.id(), Signal::SIGSTOP);
    lives.wait_for_none();
    assert!(boottime() >= deadline);
    // Its share of the lock is its own business; it is not dead.
    let held = bench.wait(acquire_state_dir(&bench.file("state"), Duration::ZERO));
    assert!(matches!(held, Err(StateLockError::Held { .. })));
    worker.kill().unwrap();
    worker.wait().unwrap();
    bench.wait(acquire_state_dir(&bench.file("state"), PATIENCE)).unwrap();
}

fn a_killed_guard(bench: &Bench) {
    let mut lives = bench.lives();
    let guard = bench.guard();
    let mut handle = guard.spawn(bench.shell(&format!("{DAEMON} sleep 1000"))).unwrap();
    lives.wait_for("up");
    signal(guard.pid(), Signal::SIGKILL);
    let end = bench.wait(handle.wait());
    assert_eq!(end.exit, ExitKind::GuardLost);
    let loss = bench.wait(guard.lost());
    assert!(!loss.proven);
    assert!(!guard.extender().extend(FAR_AWAY));
    let refused = guard.spawn(bench.step(&["true"])).err();
    assert!(matches!(refused, Some(SpawnError::Lost(_) | SpawnError::DeadlinePassed)));
    // Here too the lock becomes free when the step init has killed its step.
    drop((guard, handle));
    let lock = bench.wait(acquire_state_dir(&bench.file("state"), PATIENCE)).unwrap();
    lives.wait_for_none();
    // Had the init been killed too, only a PID namespace would have taken the rest along.
    assert_eq!(lock.is_proven(), bench.isolation != Isolation::PLAIN);
    drop(lock);
    let guard = bench.guard();
    assert!(bench.wait(guard.shut_down()).proven);
    let lock = bench.wait(acquire_state_dir(&bench.file("state"), PATIENCE)).unwrap();
    assert!(lock.is_proven(), "a later guard has come to its end");
}

/// The step init that has children: the one that is not a spare.
fn busy_init(guard: u32) -> i32 {
    let found = children_of(guard)
        .into_iter()
        .find(|init| !children_of(u32::try_from(*init).unwrap()).is_empty());
    found.unwrap()
}

fn a_killed_step_init(bench: &Bench) {
    let mut lives = bench.lives();
    let guard = bench.guard();
    let mut handle = guard.spawn(bench.shell(&format!("{DAEMON} sleep 1000"))).unwrap();
    lives.wait_for("up");
    kill(Pid::from_raw(busy_init(guard.pid())), Signal::SIGKILL).unwrap();
    let end = bench.wait(handle.wait());
    assert_eq!(end.exit, ExitKind::GuardLost, "{end:?}");
    assert!(end.detail.contains("step init died"), "{end:?}");
    assert!(!lives.any());
    assert_eq!(bench.run(&guard, bench.step(&["true"])).exit, ExitKind::Exited(0));
}

fn a_stopped_step_init(bench: &Bench) {
    let mut lives = bench.lives();
    let guard = bench.guard();
    let mut handle = guard.spawn(bench.shell(&format!("{DAEMON} sleep 1000"))).unwrap();
    lives.wait_for("up");
    kill(Pid::from_raw(busy_init(guard.pid())), Signal::SIGSTOP).unwrap();
    handle.kill();
    // It cannot do it, so the guard does.
    assert_eq!(bench.wait(handle.wait()).exit, ExitKind::Killed);
    assert!(!lives.any());
}

fn a_signal_to_all(bench: &Bench) {
    let mut lives = bench.lives();
    let guard = bench.guard();
    let script = "exec 9>lives; echo up >&9; while [ ! -e go ]; do sleep 0.01; done; exit 6";
    let mut handle = guard.spawn(bench.shell(script)).unwrap();
    lives.wait_for("up");
    // As a service manager does it, but for the command itself.
    let inits = children_of(guard.pid());
    for name in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        signal(guard.pid(), name);
        for init in &inits {
            kill(Pid::from_raw(*init), name).unwrap();
        }
    }
    std::fs::write(bench.file("go"), "").unwrap();
    assert_eq!(bench.wait(handle.wait()).exit, ExitKind::Exited(6));
    let after = children_of(guard.pid());
    assert!(inits.iter().all(|init| after.contains(init)), "{inits:?} {after:?}");
}

fn one_guard_per_state_dir(bench: &Bench) {
    let guard = bench.guard();
    let mut config = bench.config();
    config.lock_timeout = Duration::from_millis(50);
    let error = bench.wait(Guard::start(config)).err().unwrap();
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(guard);
    bench.guard();
}

fn a_malformed_frame(bench: &Bench) {
    let command = this_as("guard");
    for first in [r#"{"Hello":"#, r#""KillAll""#, r#"{"Hello":{"protocol":0}}"#] {
        let (ours, theirs): (OwnedFd, OwnedFd) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .unwrap();
        let mut guard = Command::new(&command[0]).arg("guard").stdin(theirs).spawn().unwrap();
        let bytes = [IoSlice::new(first.as_bytes())];
        sendmsg::<()>(ours.as_raw_fd(), &bytes, &[], MsgFlags::empty(), None).unwrap();
        until("the end of a guard that was told nonsense", || guard.try_wait().unwrap().is_some());
    }
    let _ = bench;
}
