//! How much memory the processes of a step hold together. What files and their pages take is left out, as the
//! kernel can drop it; what processes share counts once.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How the kernel names memory that is a file of nobody's (memfd_create(2)).
const MEMORY_FILE: &str = "/memfd:";

/// A process table, of which the first process is left out: it is the step's init.
pub(super) struct Table<'a> {
    pub(super) dir: &'a Path,
    pub(super) page_bytes: u64,
}

impl Table<'_> {
    /// Bytes held, exact only if they are more than `limit`: the cheap looks come first, and what they cannot
    /// decide is looked at more closely. `files`: bytes of memory that is only open, see [`Table::files`].
    pub(super) fn bytes(&self, limit: u64, files: u64) -> u64 {
        let (own, mapped) = self.own_and_mapped();
        let most = |shared: u64| own.saturating_add(shared.max(files));
        if own > limit || most(mapped) <= limit {
            return most(0);
        }
        if most(self.sum("status", "RssShmem:")) <= limit {
            return most(0);
        }
        // Costs the kernel a walk over all pages: asked last, and seldom.
        most(self.sum("smaps_rollup", "Pss_Shmem:"))
    }

    /// Bytes that are a process' own, and bytes that are mapped from files or shared memory, each process' for
    /// itself.
    fn own_and_mapped(&self) -> (u64, u64) {
        let (mut own, mut mapped) = (0_u64, 0_u64);
        for process in self.processes() {
            let Ok(text) = fs::read_to_string(process.join("statm")) else { continue };
            let mut fields = text.split(' ').skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
            let (resident, shared) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
            own = own.saturating_add(resident.saturating_sub(shared));
            mapped = mapped.saturating_add(shared);
        }
        (own.saturating_mul(self.page_bytes), mapped.saturating_mul(self.page_bytes))
    }

    /// The sum of a line of one of each process' files, which the kernel writes in kibibytes.
    fn sum(&self, file: &str, line: &str) -> u64 {
        let mut kibibytes = 0_u64;
        for process in self.processes() {
            let Ok(text) = fs::read_to_string(process.join(file)) else { continue };
            let found = text.lines().find_map(|one| one.strip_prefix(line));
            let value = found.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kibibytes = kibibytes.saturating_add(value.unwrap_or(0));
        }
        kibibytes.saturating_mul(1024)
    }

    /// Bytes of memory files that a process has open, mapped or not; each file once.
    pub(super) fn files(&self) -> u64 {
        let mut found: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for process in self.processes() {
            for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
                let path = entry.path();
                let memory = fs::read_link(&path)
                    .is_ok_and(|target| target.to_string_lossy().starts_with(MEMORY_FILE));
                if let (true, Ok(file)) = (memory, fs::metadata(&path)) {
                    // A block is 512 bytes (stat(2)).
                    found.insert((file.dev(), file.ino()), file.blocks().saturating_mul(512));
                }
            }
        }
        found.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    fn processes(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(self.dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
            (pid != 1).then(|| entry.path())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_added_up_over_processes_and_what_they_share_once() {
        let table = tempfile::tempdir().unwrap();
        let processes = [
            ("1", "9 9 0 0", 0, 0),
            ("7", "100 50 10 0", 400, 200),
            ("8", "1 5 0 0", 0, 0),
            ("9", "100 10 10 0", 400, 200),
            ("x", "", 9, 9),
        ];
        for (pid, statm, rss, pss) in processes {
            let dir = table.path().join(pid);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("statm"), statm).unwrap();
            let status = format!("Name:\tx\nRssShmem:\t     {rss} kB\nThreads:\t1\n");
            fs::write(dir.join("status"), status).unwrap();
            let rollup = format!("Rss:  1 kB\nPss_Shmem:       {pss} kB\nSwap: 0 kB\n");
            fs::write(dir.join("smaps_rollup"), rollup).unwrap();
        }
        let table = Table { dir: table.path(), page_bytes: 4096 };
        let own = 45 * 4096;
        assert_eq!(table.own_and_mapped(), (own, 20 * 4096));
        // Far below the limit nothing else is asked; near it what is shared counts once.
        assert_eq!(table.bytes(1 << 30, 0), own);
        assert_eq!(table.bytes(own - 1, 0), own);
        assert_eq!(table.bytes(own + 20 * 4096 - 1, 0), own + 400 * 1024);
        assert_eq!(table.bytes(1 << 20, 2 << 20), own + (2 << 20));
        // What is open may be what is mapped: the larger of the two is certain.
        assert_eq!(table.bytes(own, 300 * 1024), own + 400 * 1024);
        assert_eq!(table.files(), 0);
    }
}
