//! Killing everything below a process, without relying on its cooperation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use crate::abilities::Containment;

/// First and longest pause between two passes of killing: most trees are gone after one; what sits
/// in an uninterruptible call may take long and must not cost a processor.
const PASS_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// Rounds of stopping what is new before a pass kills. A stopped process cannot fork, so a tree
/// that forks faster than one reading of the process table is frozen piece by piece.
const STOP_ROUNDS_MAX: usize = 6;

/// Whether /proc shows this process under the number it knows itself by; without that the
/// descendants of a process cannot be found.
pub(crate) fn process_table_matches() -> bool {
    let seen = fs::read_link("/proc/self").ok();
    seen.is_some_and(|link| link.as_os_str() == getpid().to_string().as_str())
}

/// Kills every process below this one and reaps until the kernel says that there is no child left.
/// As PID 1 or child subreaper that proves that there is no descendant either. Returns how many
/// others than `main` had to be killed. `rest` waits that long or until a child changes.
pub(crate) fn end_all(
    containment: Containment,
    main: Option<Pid>,
    mut rest: impl FnMut(Duration),
) -> u32 {
    let mut killed = 0_u32;
    let mut pause = PASS_PAUSE.0;
    loop {
        match reap_ready(|pid, status| {
            let by_us = matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _));
            killed = killed.saturating_add(u32::from(by_us && Some(pid) != main));
        }) {
            Reaped::NoneLeft => return killed,
            Reaped::SomeLeft => {}
        }
        if has_table_of_its_own(containment, getpid()) {
            // From PID 1 this means all others of the namespace. ESRCH: only zombies are left.
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        } else {
            kill_below(getpid(), &BTreeSet::new());
        }
        rest(pause);
        pause = (pause * 2).min(PASS_PAUSE.1);
    }
}

/// Whether this process may signal "all": only as PID 1 of a namespace are those its descendants. Anywhere
/// else they are every process of the host, so what was planned is not enough to go by: with that layer
/// switched off for a test, the plan still says namespace.
fn has_table_of_its_own(containment: Containment, own: Pid) -> bool {
    containment.is_pid_namespace() && own.as_raw() == 1
}

/// What [`reap_ready`] left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reaped {
    /// No child of any state.
    NoneLeft,
    /// Children that have not ended.
    SomeLeft,
}

/// Reaps all children that have ended.
pub(crate) fn reap_ready(mut each: impl FnMut(Pid, WaitStatus)) -> Reaped {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return Reaped::SomeLeft,
            Ok(status) => {
                if let Some(pid) = status.pid() {
                    each(pid, status);
                }
            }
            Err(Errno::ECHILD) => return Reaped::NoneLeft,
            // EINTR, or a signal number unknown to the library: that child is reaped all the same.
            Err(_) => {}
        }
    }
}

/// Kills all descendants of `root` but for `spare` and what is below those. Returns how many were
/// found alive. One pass: what forks meanwhile is found by the next, as orphans come to `root`.
pub(crate) fn kill_below(root: Pid, spare: &BTreeSet<Pid>) -> usize {
    let mut found = BTreeSet::new();
    for _ in 0..STOP_ROUNDS_MAX {
        let fresh: Vec<Pid> =
            living_below(root, spare).into_iter().filter(|pid| !found.contains(pid)).collect();
        if fresh.is_empty() {
            break;
        }
        for pid in fresh {
            // Between reading the table and this call the number cannot have gone round to another
            // process: children of `root` stay zombies until `root`, which is here, reaps them, and
            // for others the whole number space would have to pass in microseconds.
            let _ = kill(pid, Signal::SIGSTOP);
            found.insert(pid);
        }
    }
    for &pid in &found {
        // ESRCH: gone by itself. EPERM: another user's, which without privileges to gain cannot be.
        let _ = kill(pid, Signal::SIGKILL);
    }
    found.len()
}

fn living_below(root: Pid, spare: &BTreeSet<Pid>) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<(i32, bool)>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // Gone since the directory was read.
        let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else { continue };
        if let Some((alive, parent)) = parse_stat(&stat) {
            children.entry(parent).or_default().push((pid, alive));
        }
    }
    let mut below = Vec::new();
    let mut open = vec![root.as_raw()];
    while let Some(parent) = open.pop() {
        for &(pid, alive) in children.get(&parent).into_iter().flatten() {
            if spare.contains(&Pid::from_raw(pid)) {
                continue;
            }
            open.push(pid);
            if alive {
                below.push(Pid::from_raw(pid));
            }
        }
    }
    below
}

/// Whether a process lives and who its parent is, from its `stat` line. The name in parentheses may
/// contain anything, also parentheses and line ends, so it is skipped from behind.
fn parse_stat(stat: &[u8]) -> Option<(bool, i32)> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut words = rest.split_ascii_whitespace();
    let state = words.next()?;
    let parent = words.next()?.parse().ok()?;
    Some((!matches!(state, "Z" | "X" | "x"), parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_pid_1_signals_all() {
        let of = |containment, pid| has_table_of_its_own(containment, Pid::from_raw(pid));
        assert!(of(Containment::PidNamespace, 1) && of(Containment::UserPidNamespace, 1));
        assert!(!of(Containment::PidNamespace, 77) && !of(Containment::UserPidNamespace, 2));
        assert!(!of(Containment::Subreaper, 1));
    }

    #[test]
    fn stat_lines_with_hostile_names() {
        assert_eq!(parse_stat(b"12 (sh) S 1 12 12 0"), Some((true, 1)));
        assert_eq!(parse_stat(b"12 (a) Z 9 (b\n) Z 34 1 1"), Some((false, 34)));
        assert_eq!(parse_stat(b"12 (\xff\xfe)) R 7 1"), Some((true, 7)));
        assert_eq!(parse_stat(b"12 (sh"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn the_table_shows_this_process() {
        assert!(process_table_matches());
        let parent = nix::unistd::getppid();
        assert!(living_below(parent, &BTreeSet::new()).contains(&getpid()));
        assert!(!living_below(parent, &BTreeSet::from([getpid()])).contains(&getpid()));
    }
}
