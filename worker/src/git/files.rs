//! Small file-system helpers: private git directories, removal of hostile trees, locks.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::GitError;

/// The configuration of a private git directory. Bare: worktrees are given per call.
const BARE_CONFIG: &str =
    "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";

/// The configuration of the git directory inside a worktree that is lent to an agent.
const LENT_CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\
    \tlogallrefupdates = false\n[gc]\n\tauto = 0\n[user]\n\tname = Agent\n\temail = agent@localhost\n";

/// Which kind of git directory to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bare,
    Lent,
}

impl Kind {
    fn config(self) -> &'static str {
        match self {
            Self::Bare => BARE_CONFIG,
            Self::Lent => LENT_CONFIG,
        }
    }
}

/// Writes an empty git directory by hand: what `git init` does, without its process and without
/// templates. Objects of `alternates` are readable in it.
pub(super) fn init_git_dir(dir: &Path, kind: Kind, alternates: &[&Path]) -> io::Result<()> {
    for sub in ["objects/info", "objects/pack", "refs/heads", "info"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    fs::write(dir.join("HEAD"), "ref: refs/heads/flyball\n")?;
    fs::write(dir.join("config"), kind.config())?;
    let mut list = Vec::new();
    for path in alternates {
        list.write_all(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))?;
        list.push(b'\n');
    }
    if !list.is_empty() {
        fs::write(dir.join("objects/info/alternates"), list)?;
    }
    Ok(())
}

/// Writes the configuration again if it is not what [`init_git_dir`] wrote. A process of the same
/// user might have edited it, and configuration can name programs.
pub(super) fn restore_config(dir: &Path) -> io::Result<()> {
    let path = dir.join("config");
    if fs::read(&path).is_ok_and(|found| found == BARE_CONFIG.as_bytes()) {
        return Ok(());
    }
    remove_any(&path)?;
    fs::write(path, BARE_CONFIG)
}

/// Removes whatever is at the path: nothing, a file, a symlink (not what it points to), or a
/// directory with everything below it, also below directories without write permission.
pub(crate) fn remove_any(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_dir() {
        return fs::remove_file(path);
    }
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    open_up(path)?;
    fs::remove_dir_all(path)
}

/// Gives the owner all rights on every directory of a tree, without following symlinks.
fn open_up(dir: &Path) -> io::Result<()> {
    // Iterative, since the depth is the agent's choice.
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Runs blocking file work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, GitError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| GitError::local(operation, error)),
        Err(error) => Err(GitError::local(operation, error)),
    }
}

/// An exclusive advisory lock on a file, held until dropped. Against other processes on the same
/// data directory, such as the previous life of this worker.
pub(super) async fn lock_file(path: &Path) -> Result<nix::fcntl::Flock<File>, GitError> {
    let path = path.to_owned();
    blocking("lock", move || {
        let file = File::options().create(true).append(true).open(path)?;
        nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive)
            .map_err(|(_, errno)| io::Error::from(errno))
    })
    .await
}

/// FNV-1a, 64 bits, as 16 hex digits: short stable names for directories and refs. Not a defence
/// against chosen collisions, so users of it compare the full name too.
pub(super) fn short_hash(text: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_trees_without_permissions_and_not_what_links_point_to() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs::create_dir_all(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let bad = dir.path().join("bad/deep");
        fs::create_dir_all(&bad).unwrap();
        fs::write(bad.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(&kept, dir.path().join("bad/link")).unwrap();
        fs::set_permissions(&bad, Permissions::from_mode(0o000)).unwrap();
        remove_any(&dir.path().join("bad")).unwrap();
        remove_any(&dir.path().join("bad")).unwrap();
        assert!(kept.join("file").exists());
    }
}
