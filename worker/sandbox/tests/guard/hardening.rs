//! What the guard takes so that nobody can starve it, looked at from outside in the running guard, and
//! that it kills where nothing can be forked any more.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use flyball_core::score::ExitKind;
use flyball_sandbox::{FAR_AWAY, Guard};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, getpgrp, getsid};

use crate::harness::{Bench, Test, children_of, soon, until};
use crate::leftovers::DAEMON;
use crate::losses::start_worker;

pub(crate) const TESTS: &[Test] = &[
    ("what_it_has_is_in_effect", what_it_has_is_in_effect),
    ("a_stop_of_the_workers_group", a_stop_of_the_workers_group),
    ("its_memory_is_bounded", its_memory_is_bounded),
    ("groups_come_and_go", groups_come_and_go),
    ("a_fork_bomb_at_its_limit", a_fork_bomb_at_its_limit),
];

/// Memory of a guard that has had hundreds of steps: a few MiB of program and stack, and a little
/// per step that runs.
const GUARD_KIB_MAX: u64 = 48 * 1024;
/// Processes that a bomb may make before every fork fails.
const BOMB_MAX: u32 = 60;

fn pid_of(guard: &Guard) -> Pid {
    Pid::from_raw(i32::try_from(guard.pid()).unwrap())
}

/// A number of a process's status, e.g. in KiB.
fn status(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// The nice value, field 19 of the process table's line.
fn nice(pid: u32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap()
}

fn what_it_has_is_in_effect(bench: &Bench) {
    let guard = bench.guard();
    let abilities = guard.abilities();
    let (pid, own) = (pid_of(&guard), Pid::this());
    assert_eq!((getsid(Some(pid)).unwrap(), getpgid(Some(pid)).unwrap()), (pid, pid));
    assert_ne!(getsid(Some(pid)).unwrap(), getsid(Some(own)).unwrap());
    assert_eq!(status(guard.pid(), "Threads"), 1);
    assert_eq!(status(guard.pid(), "VmLck") > 0, abilities.memory_locked);
    assert_eq!(nice(guard.pid()) < nice(std::process::id()), abilities.priority_raised);
    let score =
        |pid: String| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    let (its, ours) = (score(guard.pid().to_string()), score("self".into()));
    assert_eq!(its.trim() == "-900", abilities.oom_protected);
    // Steps have none of it.
    let step = bench.shell("cat /proc/self/oom_score_adj; nice");
    bench.run(&guard, step);
    let theirs = ours.trim().parse::<i32>().unwrap().max(0);
    assert_eq!(bench.output(), format!("{theirs}\n{}\n", nice(std::process::id())));
}

fn a_stop_of_the_workers_group(bench: &Bench) {
    let mut lives = bench.lives();
    let deadline = soon();
    let (mut worker, guard) = start_worker(bench, deadline);
    lives.wait_for("up");
    let its = Pid::from_raw(i32::try_from(worker.id()).unwrap());
    // It shares this test's group, which must not stop itself; what counts is who is in it.
    assert_eq!(getpgid(Some(its)).unwrap(), getpgrp());
    let guard = Pid::from_raw(i32::try_from(guard).unwrap());
    assert_ne!(getpgid(Some(guard)).unwrap(), getpgrp());
    kill(its, Signal::SIGSTOP).unwrap();
    lives.wait_for_none();
    worker.kill().unwrap();
    worker.wait().unwrap();
}

fn its_memory_is_bounded(bench: &Bench) {
    let guard = bench.guard();
    for _ in 0..300 {
        bench.run(&guard, bench.shell("head -c 100000 /dev/zero"));
    }
    let kib = status(guard.pid(), "VmRSS") - status(guard.pid(), "RssFile");
    assert!(kib < GUARD_KIB_MAX, "{kib} KiB");
    assert!(children_of(guard.pid()).len() <= 3);
}

/// The guard's group, if there is a cgroup v2 tree that tests can see.
pub(crate) fn group_of(guard: &Guard) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let point = PathBuf::from(line.split(' ').nth(4)?);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    // A guard may have moved this test into a group beside its own.
    let own = point.join(own.strip_suffix("flyball-main").unwrap_or(&own));
    Some(own.join(format!("flyball-guard-{}", guard.pid())))
}

fn groups_come_and_go(bench: &Bench) {
    let guard = bench.guard();
    if !guard.abilities().cgroup {
        return;
    }
    let Some(dir) = group_of(&guard) else { return };
    assert!(dir.is_dir(), "{}", dir.display());
    let mut lives = bench.lives();
    let mut handle = guard.spawn(bench.shell(&format!("{DAEMON} sleep 1000"))).unwrap();
    lives.wait_for("up");
    let populated = |dir: &Path| {
        let events = std::fs::read_to_string(dir.join("cgroup.events")).unwrap_or_default();
        events.contains("populated 1")
    };
    let of_steps = || std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path());
    assert!(of_steps().filter(|path| path.is_dir()).any(|path| populated(&path)));
    // Killed, the guard cannot clear up; its successor does.
    kill(pid_of(&guard), Signal::SIGKILL).unwrap();
    bench.wait(handle.wait());
    drop((guard, handle));
    let next = bench.guard();
    until("the groups of the dead guard are gone", || !dir.exists());
    let dir = group_of(&next).unwrap();
    bench.wait(next.shut_down());
    until("the guard removes its own", || !dir.exists());
}

/// A group that limits the number of processes, where this test may make one.
struct Limited {
    dir: PathBuf,
    /// Made for this test, and to be entered; else it is the guard's, which all steps are in anyway.
    own: bool,
}

impl Limited {
    fn make(guard: &Guard, max: u32) -> Option<Self> {
        let v1 = PathBuf::from("/sys/fs/cgroup/pids");
        let of_guard = group_of(guard);
        let (dir, own) = match of_guard {
            _ if v1.is_dir() => (v1.join(format!("flyball-bomb-{}", std::process::id())), true),
            Some(dir) if dir.exists() => (dir, false),
            // Beside the groups of guards that were here before, which have had controllers passed on.
            Some(dir) => (dir.with_file_name(format!("flyball-bomb-{}", std::process::id())), true),
            None => return None,
        };
        if own {
            std::fs::create_dir(&dir).ok()?;
        }
        let limited = Self { dir, own };
        let file = File::options().write(true).open(limited.dir.join("pids.max"));
        file.ok()?.write_all(max.to_string().as_bytes()).ok()?;
        Some(limited)
    }

    /// Takes in what the guard has forked, and the guard.
    fn add_all(&self, guard: &Guard) {
        let pids = children_of(guard.pid()).into_iter().chain([pid_of(guard).as_raw()]);
        for pid in pids.filter(|_| self.own) {
            std::fs::write(self.dir.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }

    fn is_full(&self) -> bool {
        let events = std::fs::read_to_string(self.dir.join("pids.events")).unwrap();
        events.lines().any(|line| line.starts_with("max ") && line != "max 0")
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        if self.own {
            let _ = std::fs::remove_dir(&self.dir);
        }
    }
}

fn a_fork_bomb_at_its_limit(bench: &Bench) {
    let mut lives = bench.lives();
    let guard = bench.guard();
    let Some(limited) = Limited::make(&guard, BOMB_MAX) else {
        return println!("SKIPPED: no pids controller that this test may use");
    };
    // Step inits and bomb share the limit, so whatever they would have to fork now fails; where it is a group of this
    // test's, the guard is in it too.
    limited.add_all(&guard);
    assert!(guard.extender().extend(FAR_AWAY));
    // The command itself has forked what it waits for before the bomb takes all the room.
    let bomb = "exec 9>lives; trap '' TERM; sleep 1000 & last=$!; echo up >&9
        bomb() { while :; do bomb & done 2>/dev/null; }; bomb & wait $last";
    let mut handle = guard.spawn(bench.shell(bomb)).unwrap();
    lives.wait_for("up");
    until("the bomb is at its limit", || limited.is_full());
    bench.wait(guard.kill_all_and_prove()).unwrap();
    assert!(!lives.any());
    assert_eq!(bench.wait(handle.wait()).exit, ExitKind::Killed);
    // And it works as before.
    assert_eq!(bench.run(&guard, bench.step(&["true"])).exit, ExitKind::Exited(0));
    bench.wait(guard.shut_down());
    drop(guard);
    until("nobody is in the group", || {
        let procs = std::fs::read_to_string(limited.dir.join("cgroup.procs"));
        procs.is_err() || procs.is_ok_and(|procs| procs.trim().is_empty())
    });
}
