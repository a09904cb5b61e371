//! The control group of a step's command, as its init sees it: where to fork into, and whether the kernel has
//! killed for memory there.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use flyball_core::score::ExitKind;

use crate::wire::{Report, SpawnOrder};

/// Most bytes of `memory.events` that are read; it has a few short lines.
const EVENTS_BYTES_MAX: usize = 1024;

/// What the guard has sent along.
pub(super) struct Place {
    /// The group's directory.
    pub(super) dir: Option<OwnedFd>,
    /// If the group holds the memory.
    pub(super) memory: Option<MemoryEvents>,
}

impl Place {
    /// Takes the descriptors that the order announces.
    pub(super) fn of(
        order: &SpawnOrder,
        fds: &mut impl Iterator<Item = OwnedFd>,
    ) -> Result<Self, Report> {
        let Some(held) = order.group else { return Ok(Self { dir: None, memory: None }) };
        let lost = || Report::bare(ExitKind::GuardLost, "no control group");
        let dir = fds.next().ok_or_else(lost)?;
        let events = match held.memory {
            true => Some(File::from(fds.next().ok_or_else(lost)?)),
            false => None,
        };
        let limits = order.confinement.as_ref().map(|plan| &plan.limits);
        let limit = limits.and_then(|limits| limits.memory_bytes);
        let memory = events.zip(limit).map(|(events, limit)| MemoryEvents { events, limit });
        Ok(Self { dir: Some(dir), memory })
    }
}

/// The file in which the kernel counts what became of the group's memory, and its bound.
pub(super) struct MemoryEvents {
    events: File,
    limit: u64,
}

impl MemoryEvents {
    /// What the step had too much of, if the kernel has killed for it.
    pub(super) fn over(&self) -> Option<String> {
        const MIB: u64 = 1024 * 1024;
        // What cannot be read has told of no kill; the exit still decides.
        let killed = self.killed().unwrap_or(0);
        (killed > 0).then(|| format!("memory: all of {} MiB", self.limit / MIB))
    }

    fn killed(&self) -> io::Result<u64> {
        let mut buffer = [0; EVENTS_BYTES_MAX];
        let length = self.events.read_at(&mut buffer, 0)?;
        Ok(killed(&String::from_utf8_lossy(&buffer[..length])))
    }
}

/// Processes that were killed for want of memory, by `memory.events`.
fn killed(events: &str) -> u64 {
    let value = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_a_kill_counts() {
        let quiet = "low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\noom_group_kill 0\n";
        assert_eq!(killed(quiet), 0);
        assert_eq!(killed("max 12\noom 1\noom_kill 3\noom_group_kill 1\n"), 3);
        assert_eq!(killed(""), 0);
    }

    #[test]
    fn the_file_is_read_anew_each_time() {
        let mut file = tempfile::tempfile().unwrap();
        let events = MemoryEvents { events: file.try_clone().unwrap(), limit: 64 << 20 };
        file.write_all(b"oom 0\noom_kill 0\n").unwrap();
        assert_eq!(events.over(), None);
        file.write_all_at(b"oom 1\noom_kill 1\n", 0).unwrap();
        assert_eq!(events.over().as_deref(), Some("memory: all of 64 MiB"));
    }
}
