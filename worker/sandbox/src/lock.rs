//! The lock of a worker's state directory. The guard and its step inits hold it too, so it becomes
//! free only when everything that a dead worker had started is dead.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// Name of the lock file in the state directory.
const LOCK_FILE: &str = "guard.lock";
/// There while a guard lives whose death, with that of its step inits, would leave processes behind: it is removed when
/// nothing is left.
const UNPROVEN_FILE: &str = "unproven";
/// Random for each start of the kernel, so that two machines with the same disk differ.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Pause between two tries; the wait is for a kill that takes milliseconds.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Most bytes of the holder's note that an error shows.
const NOTE_BYTES_MAX: u64 = 100;

/// The lock of a state directory. It is bound to an open file that the guard gets a share of;
/// dropping this gives back the worker's share only, and is never an unlock for the others.
#[derive(Debug)]
pub struct StateLock {
    file: File,
    dir: PathBuf,
}

impl StateLock {
    /// The directory it locks.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What this lock is a lock on: the running kernel and the lock file itself. Whoever held a lock of
    /// the same identity before is proven to be gone. A copy of the directory has another identity,
    /// and so has the same directory after a restart of the machine, or on another one.
    ///
    /// # Errors
    /// When the system does not say; then nothing is proven.
    pub fn identity(&self) -> io::Result<String> {
        use std::os::unix::fs::MetadataExt;
        let boot = std::fs::read_to_string(BOOT_ID)?;
        let file = self.file.metadata()?;
        Ok(format!("{} {}:{}", boot.trim(), file.dev(), file.ino()))
    }

    /// Whether everything that was started under an earlier holder is proven to be gone. Not where its guard was killed,
    /// and had no PID namespace whose end takes all processes with it.
    pub fn is_proven(&self) -> bool {
        // One that cannot be looked for proves nothing.
        matches!(self.dir.join(UNPROVEN_FILE).try_exists(), Ok(false))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// The note of a guard that its sudden death would prove nothing.
#[derive(Debug)]
pub(crate) struct Unproven(PathBuf);

impl Unproven {
    /// Writes it, if the guard `contains` its steps with nothing better than itself. What an earlier guard left is
    /// removed otherwise: whoever cares has seen it before this guard was started.
    pub(crate) fn note(dir: &Path, contains: bool) -> io::Result<Option<Self>> {
        let path = dir.join(UNPROVEN_FILE);
        if contains {
            return std::fs::write(&path, "").map(|()| Some(Self(path)));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(None),
        }
    }

    /// Nothing is left.
    pub(crate) fn remove(&self) {
        // If it stays, the lease of this life is waited for.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Why a state directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum StateLockError {
    /// Another worker lives in it, or the guard of a dead one is still killing. Retryable.
    #[error(
        "state directory {dir} is in use by {holder} (a live worker, or the guard of a dead one \
         that is not through yet)"
    )]
    Held {
        /// The directory.
        dir: PathBuf,
        /// What the holder wrote of itself.
        holder: String,
    },
    /// The directory or its lock file cannot be used. Not retryable as it is.
    #[error("cannot lock state directory {dir}: {source}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Locks the state directory `dir` (made if missing), waiting at most `timeout` for its last owner's
/// processes to be gone. Call it before the worker registers: with the lock in hand, and if
/// [`StateLock::is_proven`], nothing of an earlier incarnation runs on this machine.
///
/// # Errors
/// [`StateLockError::Held`] if somebody still holds it after the timeout.
pub async fn acquire_state_dir(dir: &Path, timeout: Duration) -> Result<StateLock, StateLockError> {
    let failed = |source| StateLockError::Io { dir: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join(LOCK_FILE))
        .map_err(failed)?;
    let give_up = Instant::now() + timeout;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StateLockError::Held { dir: dir.to_owned(), holder: note(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    // Only for the reader of an error message, so a failure is no reason to stop.
    let _ = file.set_len(0);
    let _ = file.rewind();
    let _ = write!(file, "process {}", std::process::id());
    Ok(StateLock { file, dir: dir.to_owned() })
}

fn note(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(NOTE_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "an unknown process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_one_holder_and_a_share_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = acquire_state_dir(dir.path(), Duration::ZERO).await.unwrap();
        let held = acquire_state_dir(dir.path(), Duration::ZERO).await;
        let Err(StateLockError::Held { holder, .. }) = held else { panic!("{held:?}") };
        assert_eq!(holder, format!("process {}", std::process::id()));

        let share = first.file().try_clone().unwrap();
        drop(first);
        assert!(acquire_state_dir(dir.path(), Duration::ZERO).await.is_err());
        drop(share);
        acquire_state_dir(dir.path(), Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn a_copy_of_the_directory_is_another_lock() {
        let dir = tempfile::tempdir().unwrap();
        let (first, copy) = (dir.path().join("first"), dir.path().join("copy"));
        let lock = acquire_state_dir(&first, Duration::ZERO).await.unwrap();
        std::fs::create_dir(&copy).unwrap();
        std::fs::copy(first.join(LOCK_FILE), copy.join(LOCK_FILE)).unwrap();
        let of_copy = acquire_state_dir(&copy, Duration::ZERO).await.unwrap();
        assert_ne!(of_copy.identity().unwrap(), lock.identity().unwrap());
        let before = lock.identity().unwrap();
        drop(lock);
        let again = acquire_state_dir(&first, Duration::ZERO).await.unwrap();
        assert_eq!(again.identity().unwrap(), before);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_made_is_named() {
        let error = acquire_state_dir(Path::new("/proc/none/x"), Duration::ZERO).await.unwrap_err();
        assert!(error.to_string().contains("/proc/none/x"), "{error}");
    }
}
