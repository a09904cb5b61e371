//! Getting controllers for the groups of steps: which the group of this worker has, and passing them on to the
//! groups below it.
//!
//! The kernel passes controllers on only from a group that has no processes itself (cgroups(7), "no internal
//! processes"). So the worker's own processes move into a group beside those of the guards, [`MAIN`], if nobody
//! else's are there: a service with `Delegate=yes`, a scope of one's own, or a container.

use std::io;
use std::path::{Path, PathBuf};

use flyball_core::bounds::Controllers;

/// The group that the worker's own processes move into; the unit file's `DelegateSubgroup` starts it there.
pub(super) const MAIN: &str = "flyball-main";
/// Rounds of moving processes, some of which may fork meanwhile.
const MOVES_MAX: usize = 10;
/// The controllers that are wanted, with what each of them holds.
pub(super) const WANTED: [&str; 3] = ["memory", "pids", "cpu"];

/// The tree of control groups as files. The kernel's, or a model of it in tests.
pub(super) trait Tree {
    /// Reads a file.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// Writes a file that exists.
    fn write(&self, path: &Path, text: &str) -> io::Result<()>;
    /// Makes a group.
    fn make(&self, dir: &Path) -> io::Result<()>;
}

/// The kernel's.
pub(super) struct Kernel;

impl Tree for Kernel {
    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        use std::io::Write as _;
        // Never made: a directory that is no group has no such file.
        std::fs::File::options().write(true).open(path)?.write_all(text.as_bytes())
    }

    fn make(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir(dir)
    }
}

/// What was found, and why the rest was not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// Controllers that groups below have now.
    pub(super) on: Vec<String>,
    /// Reasons for those that they have not.
    pub(super) lacks: Vec<String>,
}

impl Passed {
    /// The same as bounds.
    pub(super) fn controllers(&self) -> Controllers {
        let has = |name: &str| self.on.iter().any(|one| one == name);
        Controllers { memory: has("memory"), processes: has("pids"), processors: has("cpu") }
    }
}

/// The group below which guards make theirs: the own one, or the one above if this process is in [`MAIN`].
pub(super) fn parent_of(own: &Path) -> PathBuf {
    match (own.file_name(), own.parent()) {
        (Some(name), Some(parent)) if name == MAIN => parent.to_owned(),
        _ => own.to_owned(),
    }
}

/// Has `group` pass on those of `wanted` that it has, after moving the processes that are in it if all are `ours`.
pub(super) fn pass_on(
    tree: &impl Tree,
    group: &Path,
    wanted: &[&str],
    ours: impl Fn(u32) -> bool,
) -> Passed {
    let mut passed = Passed::default();
    let all = |why: String| Passed { on: Vec::new(), lacks: vec![why] };
    let (has, mut on) = match (names(tree, group, "cgroup.controllers"), enabled(tree, group)) {
        (Ok(has), Ok(on)) => (has, on),
        (Err(error), _) | (_, Err(error)) => return all(format!("controllers: {error}")),
    };
    let missing: Vec<&str> = wanted.iter().filter(|name| !contains(&has, name)).copied().collect();
    if !missing.is_empty() {
        passed.lacks.push(format!("{}: not given to {}", missing.join(", "), group.display()));
    }
    let todo: Vec<&str> = wanted
        .iter()
        .filter(|name| contains(&has, name) && !contains(&on, name))
        .copied()
        .collect();
    if !todo.is_empty() {
        if let Err(why) = make_room(tree, group, ours) {
            passed.lacks.push(format!("{}: {why}", todo.join(", ")));
        } else {
            for name in todo {
                // One by one: the kernel takes all of a line or nothing.
                if let Err(error) = switch_on(tree, group, name) {
                    passed.lacks.push(format!("{name}: {}: {error}", group.display()));
                }
            }
            on = enabled(tree, group).unwrap_or_default();
        }
    }
    passed.on = on.into_iter().filter(|name| wanted.contains(&name.as_str())).collect();
    passed
}

fn switch_on(tree: &impl Tree, group: &Path, name: &str) -> io::Result<()> {
    tree.write(&group.join("cgroup.subtree_control"), &format!("+{name}"))
}

fn enabled(tree: &impl Tree, group: &Path) -> io::Result<Vec<String>> {
    names(tree, group, "cgroup.subtree_control")
}

fn names(tree: &impl Tree, group: &Path, file: &str) -> io::Result<Vec<String>> {
    let path = group.join(file);
    let text = tree
        .read(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn contains(names: &[String], name: &str) -> bool {
    names.iter().any(|one| one == name)
}

/// Empties a group of the worker's own processes. The root of the whole tree may keep its own.
fn make_room(tree: &impl Tree, group: &Path, ours: impl Fn(u32) -> bool) -> Result<(), String> {
    // Only the root of the machine has no such file; that of a container does.
    if tree.read(&group.join("cgroup.type")).is_err() {
        return Ok(());
    }
    let main = group.join(MAIN);
    for _ in 0..MOVES_MAX {
        let found = tree.read(&group.join("cgroup.procs")).map_err(|error| error.to_string())?;
        let found: Vec<u32> = found.lines().filter_map(|line| line.trim().parse().ok()).collect();
        if found.is_empty() {
            return Ok(());
        }
        if let Some(other) = found.iter().find(|pid| !ours(**pid)) {
            return Err(format!(
                "{} has processes of others (process {other}); start the worker in a group of its own \
                 (Delegate=yes)",
                group.display()
            ));
        }
        match tree.make(&main) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(format!("{}: {error}", main.display()));
            }
            _ => {}
        }
        for pid in found {
            // One that has ended meanwhile is not there in the next round.
            let moved = tree.write(&main.join("cgroup.procs"), &pid.to_string());
            if let Err(error) = moved.or_else(gone_is_fine) {
                return Err(format!("{}: process {pid}: {error}", main.display()));
            }
        }
    }
    Err(format!("{}: processes come faster than they can be moved", group.display()))
}

/// ESRCH: the process is gone.
fn gone_is_fine(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(nix::libc::ESRCH) => Ok(()),
        _ => Err(error),
    }
}

/// Whether a process is of the same program as this one, or has one above it that is: the worker, its guards, `up`,
/// and the git processes of any of them.
pub(super) fn is_ours(pid: u32) -> bool {
    let program = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let Some(own) = program(std::process::id()) else { return false };
    let mut pid = pid;
    // Deeper trees are nobody's that a worker starts.
    for _ in 0..16 {
        match program(pid) {
            Some(found) if found == own => return true,
            _ => {}
        }
        match parent_process(pid) {
            Some(parent) if parent > 1 => pid = parent,
            _ => return false,
        }
    }
    false
}

fn parent_process(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests;
