//! Upkeep of private git directories: what killed processes left behind, and packs that pile up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Packs in a cache after which they are joined. Every fetch that brings something adds one, and
/// every object look-up may ask each of them; git's own limit is 50 too (`gc.autoPackLimit`).
pub(super) const PACKS_MAX: usize = 50;
/// Age from which a half-received pack is certainly abandoned: longer than any call may run.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 3600);
/// Most directory entries looked at below `refs/`; one loop needs a handful of refs.
const ENTRIES_MAX: usize = 100_000;

/// Removes the lock files of a git directory. For directories in which no other git can be at
/// work: that of a run, or a cache under its lock. A killed git leaves them, and every later
/// call would fail on them.
pub(super) fn remove_locks(git_dir: &Path) -> io::Result<()> {
    let is_lock = |path: &Path| path.extension().is_some_and(|found| found == "lock");
    for entry in fs::read_dir(git_dir)?.flatten() {
        let path = entry.path();
        if is_lock(&path) && !path.ends_with(super::cache::LOCK_FILE) {
            super::files::remove_any(&path)?;
        }
    }
    let mut pending: Vec<PathBuf> = vec![git_dir.join("refs")];
    let mut seen = 0;
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir)?.flatten() {
            seen += 1;
            if seen > ENTRIES_MAX {
                return Ok(());
            }
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                pending.push(path);
            } else if is_lock(&path) {
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

/// Removes packs that a killed fetch was receiving and that nobody touched for a day.
pub(super) fn remove_half_packs(objects: &Path) -> io::Result<()> {
    for entry in fs::read_dir(objects.join("pack"))?.flatten() {
        let half = entry.file_name().to_string_lossy().starts_with("tmp_");
        let modified = entry.metadata().and_then(|found| found.modified());
        let age = modified.ok().and_then(|at| at.elapsed().ok());
        if half && age.is_some_and(|age| age > LEFTOVER_AGE) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Number of packs of an object store.
pub(super) fn count_packs(objects: &Path) -> io::Result<usize> {
    let packs = fs::read_dir(objects.join("pack"))?.flatten();
    Ok(packs.filter(|entry| entry.path().extension().is_some_and(|found| found == "pack")).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_go_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let refs = dir.path().join("refs/heads/deep");
        fs::create_dir_all(&refs).unwrap();
        for name in ["packed-refs.lock", "config", super::super::cache::LOCK_FILE] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::write(refs.join("main"), "").unwrap();
        fs::write(refs.join("main.lock"), "").unwrap();
        remove_locks(dir.path()).unwrap();
        assert!(refs.join("main").exists() && !refs.join("main.lock").exists());
        assert!(!dir.path().join("packed-refs.lock").exists());
        assert!(dir.path().join(super::super::cache::LOCK_FILE).exists());
    }
}
