//! Bounds that nobody but the step's init looks at: the memory of all processes together, and the disk.
//! They are looked at again and again, so a step can be over them for as long as that takes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::limits::page_bytes;
use super::memory::Table;
use super::{Confinement, Limits};

/// Between two looks at memory: a few looks while a fast program fills what a small machine has.
const MEMORY_PAUSE: Duration = Duration::from_millis(50);
/// The same, where a look takes long: what shares memory in thousands of processes.
const MEMORY_PAUSE_MAX: Duration = Duration::from_millis(250);
/// Between two looks at the disk, and at memory that is only open, at the least.
const DISK_PAUSE: Duration = Duration::from_millis(250);
/// Looks of one kind may take this share of the time: one part in so many.
const SHARE: u32 = 20;
/// Most files that one look counts; what is above is no workspace of this size any more.
const FILES_MAX: u64 = 5_000_000;
/// Deepest directory that is looked into; the bound of a path (PATH_MAX) is not far above.
const DEPTH_MAX: usize = 1_000;

/// Looks after one step.
pub(crate) struct Watch {
    limits: Limits,
    dirs: Vec<PathBuf>,
    page_bytes: u64,
    memory_at: Instant,
    disk_at: Instant,
    files_at: Instant,
    /// Bytes of memory that was only open when that was last looked at.
    files_bytes: u64,
}

impl Watch {
    /// Starts looking. `own_table`: /proc shows this step's processes and no others; otherwise memory is
    /// bounded for each process only.
    pub(crate) fn new(plan: &Confinement, own_table: bool) -> Self {
        let changes = plan.overlays.iter().map(|overlay| overlay.changes.clone());
        let now = Instant::now();
        let mut limits = plan.limits.clone();
        limits.memory_bytes = limits.memory_bytes.filter(|_| own_table);
        Self {
            limits,
            dirs: plan.write.iter().map(|one| one.path.clone()).chain(changes).collect(),
            page_bytes: page_bytes(),
            memory_at: now,
            disk_at: now,
            files_at: now + DISK_PAUSE,
            files_bytes: 0,
        }
    }

    /// Time until the next look; none if there is nothing to look at.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let memory = self.limits.memory_bytes.map(|_| self.memory_at);
        let disk = self.limits.disk_bytes.map(|_| self.disk_at);
        let next = memory.into_iter().chain(disk).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Looks at what is due; what the step has too much of, with figures.
    pub(crate) fn look(&mut self) -> Option<String> {
        let now = Instant::now();
        if let Some(limit) = self.limits.memory_bytes.filter(|_| now >= self.memory_at) {
            let used = self.memory_bytes(limit);
            // Time that others had on the processor is in there too, so it is bounded.
            let pause = (now.elapsed() * SHARE).clamp(MEMORY_PAUSE, MEMORY_PAUSE_MAX);
            self.memory_at = Instant::now() + pause;
            if used > limit {
                return Some(over("memory", used, limit));
            }
        }
        if let Some(limit) = self.limits.disk_bytes.filter(|_| now >= self.disk_at) {
            let used = self.disk_bytes(limit);
            self.disk_at = Instant::now() + DISK_PAUSE.max(now.elapsed() * SHARE);
            if used > limit {
                return Some(over("disk", used, limit));
            }
        }
        None
    }

    fn memory_bytes(&mut self, limit: u64) -> u64 {
        let table = Table { dir: Path::new("/proc"), page_bytes: self.page_bytes };
        let now = Instant::now();
        if now >= self.files_at {
            self.files_bytes = table.files();
            self.files_at = Instant::now() + DISK_PAUSE.max(now.elapsed() * SHARE);
        }
        table.bytes(limit, self.files_bytes)
    }

    fn disk_bytes(&self, limit: u64) -> u64 {
        let mut used = 0_u64;
        let mut files = 0_u64;
        for dir in &self.dirs {
            add_up(dir, limit, &mut used, &mut files);
        }
        used
    }
}

fn over(what: &str, used: u64, limit: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    format!("{what}: {} MiB of {} MiB", used.div_ceil(MIB), limit / MIB)
}

/// Adds up what is below a directory, without following links, until it is more than allowed.
fn add_up(root: &Path, limit: u64, used: &mut u64, files: &mut u64) {
    let mut pending = vec![(root.to_owned(), 0)];
    while let Some((dir, depth)) = pending.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(found) = entry.path().symlink_metadata() else { continue };
            // A block is 512 bytes (stat(2)), whatever the file system's own are.
            *used = used.saturating_add(found.blocks().saturating_mul(512));
            *files += 1;
            if *used > limit || *files > FILES_MAX {
                *used = (*used).max(if *files > FILES_MAX { u64::MAX } else { 0 });
                return;
            }
            if found.is_dir() && depth < DEPTH_MAX {
                pending.push((entry.path(), depth + 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::Writable;

    #[test]
    fn a_step_without_limits_is_not_looked_at() {
        let mut watch = Watch::new(&Confinement::default(), true);
        assert_eq!((watch.pause(), watch.look()), (None, None));
    }

    #[test]
    fn what_is_on_the_disk_is_added_up() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let limits = Limits { disk_bytes: Some(1024 * 1024), ..Limits::default() };
        let write = vec![Writable::all(dir.path())];
        let plan = Confinement { write, limits, ..Confinement::default() };
        let mut watch = Watch::new(&plan, true);
        assert_eq!(watch.look(), None);
        fs::write(dir.path().join("a/big"), vec![1; 2 * 1024 * 1024]).unwrap();
        watch.disk_at = Instant::now();
        assert!(watch.look().unwrap().starts_with("disk: "));
    }
}
