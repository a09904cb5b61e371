//! The control group of a step's command: who is in it, what is held there, and that nothing of it stays.

use std::path::PathBuf;

use flyball_core::score::ExitKind;
use flyball_sandbox::{Confinement, Guard, Limits, Step, Writable};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::hardening::group_of;
use crate::harness::{Bench, Test, children_of, until};

pub(crate) const TESTS: &[Test] = &[
    ("a_step_is_in_a_group_of_its_own", a_step_is_in_a_group_of_its_own),
    ("groups_of_steps_are_cleared_up", groups_of_steps_are_cleared_up),
    ("memory_is_held_by_the_group", memory_is_held_by_the_group),
    ("processes_are_held_by_the_group", processes_are_held_by_the_group),
    ("processors_are_held_by_the_group", processors_are_held_by_the_group),
];

const MIB: u64 = 1024 * 1024;

fn confined(bench: &Bench, script: &str, limits: Limits) -> Step {
    let write = vec![Writable::all(bench.path())];
    let plan = Confinement { write, limits, ..Confinement::default() };
    Step { confinement: Some(plan), ..bench.shell(script) }
}

/// The directory of the guard's groups; says loudly if there is none.
fn dir_of(bench: &Bench, guard: &Guard) -> Option<PathBuf> {
    if !bench.isolation.cgroup {
        return None;
    }
    let dir = group_of(guard).filter(|_| guard.abilities().cgroup);
    if dir.is_none() {
        println!("SKIPPED: no cgroup v2: {:?}", guard.abilities().weaker_because);
    }
    dir
}

/// Whether the guard has a controller; says loudly if not.
fn has(bench: &Bench, guard: &Guard, name: &str, has: bool) -> bool {
    if bench.isolation.cgroup && !has {
        println!("SKIPPED: no {name} controller: {:?}", guard.abilities().weaker_because);
    }
    has
}

fn groups_of_steps(dir: &PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of_steps = entries.filter(|one| one.file_name().to_string_lossy().ends_with("-step"));
    of_steps.map(|one| one.path()).collect()
}

fn a_step_is_in_a_group_of_its_own(bench: &Bench) {
    let guard = bench.guard();
    let Some(dir) = dir_of(bench, &guard) else { return };
    let mut lives = bench.lives();
    let script = "exec 9>lives; sleep 1000 & echo up >&9; wait";
    let mut handle = guard.spawn(confined(bench, script, Limits::default())).unwrap();
    lives.wait_for("up");
    let [group] = &groups_of_steps(&dir)[..] else { panic!("{:?}", groups_of_steps(&dir)) };
    let procs = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
    let procs: Vec<i32> = procs.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(procs.len(), 2, "the command and its child: {procs:?}");
    // What is killed there for want of memory must not be who tells of it.
    assert!(children_of(guard.pid()).iter().all(|init| !procs.contains(init)), "{procs:?}");
    std::fs::write(group.join("cgroup.kill"), "1").unwrap();
    assert_eq!(bench.wait(handle.wait()).exit, ExitKind::Signaled(9));
    assert!(!lives.any());
    until("the group of a step that has ended is gone", || groups_of_steps(&dir).is_empty());
    let end = bench.run(&guard, confined(bench, "true", Limits::default()));
    assert_eq!(end.exit, ExitKind::Exited(0), "{end:?}");
    bench.wait(guard.kill_all_and_prove()).unwrap();
    assert_eq!(groups_of_steps(&dir), [""; 0].map(PathBuf::from));
}

fn groups_of_steps_are_cleared_up(bench: &Bench) {
    let guard = bench.guard();
    let Some(dir) = dir_of(bench, &guard) else { return };
    let mut lives = bench.lives();
    let script = "exec 9>lives; trap '' TERM; setsid sleep 1000 & echo up >&9; wait";
    let mut handle = guard.spawn(confined(bench, script, Limits::default())).unwrap();
    lives.wait_for("up");
    assert_eq!(groups_of_steps(&dir).len(), 1);
    kill(Pid::from_raw(i32::try_from(guard.pid()).unwrap()), Signal::SIGKILL).unwrap();
    bench.wait(handle.wait());
    drop((guard, handle));
    lives.wait_for_none();
    // The crash has left them; the next guard removes them.
    let next = bench.guard();
    until("the groups of the dead guard are gone", || !dir.exists());
    bench.wait(next.shut_down());
}

/// A hog that the watch of 50 ms could not catch in time is held by the kernel, and the end says what it was.
fn memory_is_held_by_the_group(bench: &Bench) {
    let guard = bench.guard();
    if !has(bench, &guard, "memory", guard.abilities().controllers.memory) {
        return;
    }
    let limits = Limits { memory_bytes: Some(64 * MIB), ..Limits::default() };
    // A child is the hog: the command must not go on without it.
    let script = "(a=x; while :; do a=$a$a$a$a; done) 2>/dev/null; echo went on";
    let end = bench.run(&guard, confined(bench, script, limits.clone()));
    assert_eq!(end.exit, ExitKind::OverLimit("memory: all of 64 MiB".into()), "{end:?}");
    assert!(!bench.output().contains("went on"));
    // What is only reserved is nobody's memory: no bound of each process stands in front of the group's.
    let end = bench.run(&guard, confined(bench, "test $(ulimit -d) = unlimited", limits));
    assert_eq!(end.exit, ExitKind::Exited(0), "{end:?}");
}

/// Three processes of nobody's join the group: the limit of the step's user does not count them, `pids.max` does. So
/// what is refused here is refused by the group, and the group says so.
fn processes_are_held_by_the_group(bench: &Bench) {
    let guard = bench.guard();
    let Some(dir) = dir_of(bench, &guard) else { return };
    if !has(bench, &guard, "pids", guard.abilities().controllers.processes) {
        return;
    }
    let mut lives = bench.lives();
    let go = bench.file("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // A shell ends at its first fork that fails, so it is another one that forks.
    let forks = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done";
    let script = format!(
        "exec 9>lives; echo up >&9; read go <go; (sh -c '{forks}') 2>/dev/null; echo made >&9; read end <go"
    );
    let limits = Limits { processes: Some(8), ..Limits::default() };
    let mut handle = guard.spawn(confined(bench, &script, limits)).unwrap();
    lives.wait_for("up");
    let [group] = &groups_of_steps(&dir)[..] else { panic!("{:?}", groups_of_steps(&dir)) };
    let of = |file: &str| std::fs::read_to_string(group.join(file)).unwrap();
    let count = |file: &str| of(file).trim().parse::<usize>().unwrap();
    assert_eq!((count("pids.max"), count("pids.current")), (8, 1));
    assert_eq!(of("pids.events").lines().next(), Some("max 0"));
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        std::fs::write(group.join("cgroup.procs"), stranger.id().to_string()).unwrap();
        strangers.push(stranger);
    }
    std::fs::write(go, "go\n").unwrap();
    lives.wait_for("made");
    // The subshell that forked them has ended, and with it one of the eight.
    assert_eq!(count("pids.current"), 7);
    let refused = of("pids.events");
    assert_ne!(refused.lines().next(), Some("max 0"), "{refused}");
    handle.kill();
    bench.wait(handle.wait());
    for mut stranger in strangers {
        assert!(!stranger.wait().unwrap().success(), "it was in the group that was killed");
    }
}

fn processors_are_held_by_the_group(bench: &Bench) {
    let guard = bench.guard();
    let Some(dir) = dir_of(bench, &guard) else { return };
    if !has(bench, &guard, "cpu", guard.abilities().controllers.processors) {
        return;
    }
    let mut lives = bench.lives();
    let limits = Limits { cpu_millis: Some(250), ..Limits::default() };
    let script = "exec 9>lives; echo up >&9; sleep 1000";
    let mut handle = guard.spawn(confined(bench, script, limits)).unwrap();
    lives.wait_for("up");
    let [group] = &groups_of_steps(&dir)[..] else { panic!("{:?}", groups_of_steps(&dir)) };
    assert_eq!(std::fs::read_to_string(group.join("cpu.max")).unwrap(), "25000 100000\n");
    handle.kill();
    bench.wait(handle.wait());
}
