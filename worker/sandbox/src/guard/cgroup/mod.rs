//! The second lever of a kill, where the host has cgroup v2 and lets us make a group: one group per
//! step init, which one write ends with all that is in it, however fast that forks, and of which the
//! kernel says when nothing is left. The command of a confined step has another one, which holds its bounds too
//! where there are controllers for that; its init is not in it, so what the kernel kills there is the step.

mod bounds;
mod delegate;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flyball_core::bounds::Controllers;

use crate::confine::Limits;
use delegate::{Kernel, Tree};

/// First part of the names of guards' groups.
const NAME: &str = "flyball-guard-";
/// Most groups of dead guards that one start removes; what remains is found by the next.
const STALE_MAX: usize = 64;
/// Tries to make a group, each of which another guard's clearing up may foil.
const TRIES_MAX: usize = 10;
/// Deepest level of groups made by a step (as root) that is removed after it.
const DEPTH_MAX: usize = 4;

/// The group of a guard. It has no process itself, only the groups in it do.
pub(super) struct Cgroups {
    dir: PathBuf,
    /// Locked while this guard lives, so that others know whose groups are stale.
    _held: File,
    next: u64,
    /// What holds bounds in the groups below.
    controllers: Controllers,
    /// Why the other controllers do not.
    lacks: Vec<String>,
}

impl Cgroups {
    /// Makes a group below the one this process is in.
    pub(super) fn make() -> Result<Self, String> {
        let parent = delegate::parent_of(&own_group()?);
        remove_stale(&parent);
        let dir = parent.join(format!("{NAME}{}", std::process::id()));
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", dir.display());
        for _ in 0..TRIES_MAX {
            match fs::create_dir(&dir) {
                // Left behind by a guard that had this number before.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(|error| failed(&error))?,
            }
            // Until it is locked, another guard that starts may take it for stale.
            let Ok(held) = File::open(&dir) else { continue };
            if held.try_lock().is_err() || !dir.join("cgroup.procs").exists() {
                continue;
            }
            // Kernel 5.14.
            return match dir.join("cgroup.kill").exists() {
                true => Ok(Self::with_controllers(&parent, dir, held)),
                false => Err("this kernel has no cgroup.kill".into()),
            };
        }
        Err(failed(&"other guards take it for stale"))
    }

    /// Has the controllers passed on to the groups that will be below `dir`.
    fn with_controllers(parent: &Path, dir: PathBuf, held: File) -> Self {
        let above = delegate::pass_on(&Kernel, parent, &delegate::WANTED, delegate::is_ours);
        let here: Vec<&str> = above.on.iter().map(String::as_str).collect();
        // No process is ever in this one.
        let below = delegate::pass_on(&Kernel, &dir, &here, |_| false);
        let lacks = above.lacks.into_iter().chain(below.lacks.clone()).collect();
        let controllers = below.controllers();
        Self { dir, _held: held, next: 0, controllers, lacks }
    }

    /// What holds bounds of steps.
    pub(super) fn controllers(&self) -> Controllers {
        self.controllers
    }

    /// Why not everything does.
    pub(super) fn lacks(&self) -> &[String] {
        &self.lacks
    }

    /// A group for the command of one step, with its bounds.
    pub(super) fn bounded(&mut self, limits: &Limits) -> io::Result<Bounded> {
        self.next += 1;
        let path = self.dir.join(format!("{}-step", self.next));
        let named = |error: io::Error, file: &str| {
            io::Error::new(error.kind(), format!("{}: {error}", path.join(file).display()))
        };
        fs::create_dir(&path).map_err(|error| named(error, ""))?;
        let kill = File::options().write(true).open(path.join("cgroup.kill"));
        let group =
            Group { path: path.clone(), kill: kill.inspect_err(|_| drop(fs::remove_dir(&path)))? };
        let made = (|| {
            for one in bounds::settings(limits, self.controllers) {
                match Kernel.write(&path.join(one.file), &one.value) {
                    Err(error) if one.optional && error.kind() == io::ErrorKind::NotFound => {}
                    written => written.map_err(|error| named(error, one.file))?,
                }
            }
            let dir = File::open(&path).map_err(|error| named(error, ""))?;
            let events = self.controllers.memory.then(|| File::open(path.join("memory.events")));
            let events = events.transpose().map_err(|error| named(error, "memory.events"))?;
            Ok((dir, events))
        })();
        match made {
            Ok((dir, events)) => Ok(Bounded { group, dir, events }),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    /// A group for a step init, and the directory to fork it into: moved there later, it would hold up every fork
    /// of the machine for some milliseconds.
    pub(super) fn for_init(&mut self) -> io::Result<(Group, File)> {
        self.next += 1;
        let path = self.dir.join(self.next.to_string());
        fs::create_dir(&path)?;
        // Open ahead of time: the kill itself is to need nothing that a full machine may refuse.
        let opened = (|| {
            let kill = File::options().write(true).open(path.join("cgroup.kill"))?;
            Ok((kill, File::open(&path)?))
        })();
        match opened {
            Ok((kill, dir)) => Ok((Group { path, kill }, dir)),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(error)
            }
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // Left behind it is empty, and the next guard removes it.
        remove_tree(&self.dir, DEPTH_MAX);
    }
}

/// The group of one step's command.
pub(super) struct Bounded {
    pub(super) group: Group,
    /// Its directory, for the fork into it.
    pub(super) dir: File,
    /// What the kernel says about its memory, where that is held.
    pub(super) events: Option<File>,
}

/// The group of one step init and of everything below it.
pub(super) struct Group {
    path: PathBuf,
    kill: File,
}

impl Group {
    /// Kills everything in it, and what is being forked in it.
    pub(super) fn kill(&self) {
        // A group that is gone has nothing in it; there is no other reason known.
        let _ = (&self.kill).write_all(b"1");
    }

    /// Whether nothing that lives is left in it or below it.
    pub(super) fn is_empty(&self) -> bool {
        match fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(events) => events.lines().any(|line| line == "populated 0"),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Removes it, once it is empty.
    pub(super) fn remove(&self) {
        remove_tree(&self.path, DEPTH_MAX);
    }
}

/// Removes a group with those that were made in it. What cannot be removed stays, and is empty.
fn remove_tree(dir: &Path, depth: usize) {
    if fs::remove_dir(dir).is_ok() || depth == 0 {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path(), depth - 1);
        }
    }
    let _ = fs::remove_dir(dir);
}

/// Removes the groups of guards that were killed. Their step inits kill what they have.
fn remove_stale(parent: &Path) {
    let groups = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = groups.filter(|entry| entry.file_name().to_string_lossy().starts_with(NAME));
    for entry in ours.take(STALE_MAX) {
        let Ok(dir) = File::open(entry.path()) else { continue };
        if !matches!(dir.try_lock(), Err(TryLockError::WouldBlock)) {
            remove_tree(&entry.path(), DEPTH_MAX);
        }
    }
}

/// Where the group of this process is shown.
fn own_group() -> Result<PathBuf, String> {
    let read = |file| fs::read_to_string(file).map_err(|error| format!("{file}: {error}"));
    let mounts = read("/proc/self/mountinfo")?;
    let groups = read("/proc/self/cgroup")?;
    place(&mounts, &groups).ok_or_else(|| "no cgroup v2 is mounted for this process".to_owned())
}

/// The directory of the v2 group in `groups` (as in /proc/self/cgroup) below its mount.
fn place(mounts: &str, groups: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        if !kind.starts_with("cgroup2 ") {
            return None;
        }
        let mut words = place.split(' ').skip(3);
        let (root, point) = (words.next()?, words.next()?);
        // A container shows only a part of the tree.
        let below = Path::new(group).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "20 31 0:37 / /sys rw - sysfs sysfs rw\n\
        41 31 0:38 /box /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_group_is_found_below_its_mount() {
        let place = |group| place(MOUNTS, group);
        assert_eq!(place("0::/box/a/b\n"), Some("/sys/fs/cgroup/unified/a/b".into()));
        assert_eq!(place("4:cpu:/x\n0::/box\n"), Some("/sys/fs/cgroup/unified/".into()));
        assert_eq!(place("0::/other\n"), None);
        assert_eq!(place("4:cpu:/x\n"), None);
    }
}
