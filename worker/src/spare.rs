//! Directories for runs without a workspace. One that a run left exactly as it was is lent to the
//! next: making and removing four directories per run costs more than the run of a small check, as
//! file systems are slow to give out what was deleted just now (ext4 skips every inode that was
//! deleted in the last seconds, one by one).
//!
//! Whether it is untouched is told by the change times of its directories, which no process can
//! set: every new entry, mode, owner or attribute moves them.

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where they are, below the data directory.
pub(crate) const SPARE_DIR: &str = "spare";
/// What a run finds in its directory.
pub(crate) const HOME: &str = "home";
pub(crate) const TEMP: &str = "tmp";
pub(crate) const SCRATCH: &str = "scratch";

/// Most directories kept: one for every run of a busy node.
const SPARES_MAX: usize = 64;
/// A directory is lent once its change times are older than this: older kernels count them in steps
/// of up to 10 ms, and a change within the step of its making would not show.
const AGE_MIN: Duration = Duration::from_millis(30);

/// The directories that wait for a run.
pub(crate) struct Spares {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    made: u64,
    waiting: VecDeque<Spare>,
}

/// A directory with its three empty directories.
pub(crate) struct Spare {
    path: PathBuf,
    made: Instant,
    marks: Vec<Mark>,
}

/// Inode and change time.
type Mark = (u64, i64, i64);

impl Spare {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Spares {
    /// None yet; they will be made in `root`.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one call, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that has waited longest.
    pub(crate) fn lend(&self) -> Option<Spare> {
        self.lock().waiting.pop_front_if(|spare| spare.made.elapsed() >= AGE_MIN)
    }

    /// Keeps a directory if it is as it was lent. Every process of its run must be gone.
    pub(crate) fn take_back(&self, spare: Spare) -> bool {
        let untouched = marks(&spare.path).is_ok_and(|marks| marks == spare.marks);
        if untouched {
            self.lock().waiting.push_back(spare);
        }
        untouched
    }

    /// Makes one more for later runs, unless enough wait.
    pub(crate) fn refill(&self) {
        let path = {
            let mut state = self.lock();
            if state.waiting.len() >= SPARES_MAX {
                return;
            }
            state.made += 1;
            self.root.join(state.made.to_string())
        };
        // Without it the next run makes its own, and says what is wrong if that fails too.
        let make = |path: &Path| {
            std::fs::create_dir_all(&self.root)?;
            // It must be new: nothing of an earlier life may be in it.
            std::fs::create_dir(path)?;
            [HOME, TEMP, SCRATCH].iter().try_for_each(|name| std::fs::create_dir(path.join(name)))
        };
        let made = make(&path);
        if let Ok(marks) = made.and_then(|()| marks(&path)) {
            self.lock().waiting.push_back(Spare { path, made: Instant::now(), marks });
        }
    }
}

fn marks(path: &Path) -> std::io::Result<Vec<Mark>> {
    let dirs = [path.to_owned(), path.join(HOME), path.join(TEMP), path.join(SCRATCH)];
    let mark = |dir: &PathBuf| {
        let found = std::fs::symlink_metadata(dir)?;
        Ok((found.ino(), found.ctime(), found.ctime_nsec()))
    };
    dirs.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A spare directory that is old enough to be lent.
    fn lent(spares: &Spares) -> Spare {
        spares.refill();
        let begun = Instant::now();
        loop {
            if let Some(spare) = spares.lend() {
                return spare;
            }
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
    }

    #[test]
    fn only_what_is_untouched_is_lent_again() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::new(dir.path().join("spare"));
        let spare = lent(&spares);
        let path = spare.path().to_owned();
        assert!(spares.take_back(spare));
        let again = spares.lend().unwrap();
        assert_eq!(again.path(), path);
        // What was made and removed again leaves a trace as well.
        std::fs::write(path.join(HOME).join("file"), "").unwrap();
        std::fs::remove_file(path.join(HOME).join("file")).unwrap();
        assert!(!spares.take_back(again));
        assert!(spares.lend().is_none());
    }

    #[test]
    fn modes_and_entries_beside_are_changes() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::new(dir.path().join("spare"));
        let spare = lent(&spares);
        let mode = std::fs::metadata(spare.path()).unwrap().permissions().mode();
        std::fs::set_permissions(spare.path(), PermissionsExt::from_mode(mode)).unwrap();
        assert!(!spares.take_back(spare));
        let spare = lent(&spares);
        std::fs::write(spare.path().join("beside"), "").unwrap();
        assert!(!spares.take_back(spare));
        let spare = lent(&spares);
        std::fs::remove_dir(spare.path().join(TEMP)).unwrap();
        assert!(!spares.take_back(spare));
    }
}
