//! Turns what the agent left in its worktree into a tree, and nothing else into anything.
//!
//! Which files count: every tracked file, changed or removed, and every untracked file that no
//! `.gitignore` in the worktree excludes. An agent may extend a `.gitignore`, but hides nothing by
//! it that could matter: an ignored file is not in the tree, and only trees are measured, kept
//! and published; the edit of the ignore file is itself a change that must be in bounds. The
//! agent's own `.git` (its `info/exclude`, index and settings) is never read.
//!
//! Paths are listed first and judged before any content is read: special files, nested
//! repositories, huge files and file floods are refused without hashing them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::diff::Change;
use super::error::{GitError, message_of};
use super::files::{blocking, restore_config};
use super::oid::Oid;
use super::repo::{Place, RunRepo};
use super::upkeep::remove_locks;

/// Most changed paths of one snapshot. Step limits are far below (50 files by default); this only
/// keeps a flood of files from costing time and disk.
pub const SNAPSHOT_PATHS_MAX: usize = 20_000;
/// Largest single file that is taken up: what common git servers accept.
pub const SNAPSHOT_FILE_BYTES_MAX: u64 = 100 * 1024 * 1024;
/// Most bytes of all changed files together.
pub const SNAPSHOT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Most bytes of the list of changed paths: 20 000 paths of 200 bytes, with room.
const LIST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most lines listed of what was refused.
pub const VIOLATIONS_MAX: usize = 20;

/// The agent's worktree as a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The tree; without what was refused.
    pub tree: Oid,
    /// Differences to the base tree, by path.
    pub changes: Vec<Change>,
    /// What could not be taken up, one line each; not empty means that the iteration is refused.
    pub refused: Vec<String>,
}

impl RunRepo {
    /// Snapshots the agent's worktree, which was checked out from `base_tree`. The caller has made
    /// sure that no process writes to it any more.
    ///
    /// # Errors
    /// `Local` if git or the file system fails; bad content is in [`Snapshot::refused`] instead.
    pub async fn snapshot(&self, base_tree: &Oid) -> Result<Snapshot, GitError> {
        let (root, git_dir) = (self.path(Place::Work), self.git_dir().to_owned());
        let real = blocking("inspect worktree", move || {
            restore_config(&git_dir)?;
            remove_locks(&git_dir)?;
            Ok(fs::symlink_metadata(&root).is_ok_and(|found| found.is_dir()))
        })
        .await?;
        if !real {
            let refused = vec!["the workspace directory itself was removed or replaced".to_owned()];
            return Ok(Snapshot { tree: base_tree.clone(), changes: Vec::new(), refused });
        }
        let list = match self.list_changed().await {
            Ok(list) => list,
            Err(GitError::TooLarge { .. }) => return Ok(flooded(base_tree)),
            Err(error) => return Err(error),
        };
        let root = self.path(Place::Work);
        let sifted = blocking("inspect changes", move || Ok(sift(&root, &list))).await?;
        let Some(mut sifted) = sifted else { return Ok(flooded(base_tree)) };
        if !sifted.stage.is_empty() {
            self.stage(&mut sifted).await?;
        }
        let tree = self.call_in(Place::Work, ["write-tree"]).oid().await?;
        let changes =
            if tree == *base_tree { Vec::new() } else { self.diff(base_tree, &tree).await? };
        Ok(Snapshot { tree, changes, refused: bounded(sifted.refused) })
    }

    /// Paths, NUL-separated, that differ from the private index or are not in it. Files that
    /// still match the index's times, sizes and inode are not read.
    async fn list_changed(&self) -> Result<Vec<u8>, GitError> {
        let options =
            ["ls-files", "-z", "--modified", "--others", "--exclude-per-directory=.gitignore"];
        let output =
            self.call_in(Place::Work, options).stdout_bytes_max(LIST_BYTES_MAX).ok().await?;
        Ok(output.stdout)
    }

    async fn stage(&self, sifted: &mut Sifted) -> Result<(), GitError> {
        let options = ["update-index", "--add", "--remove", "--replace", "-z", "--stdin"];
        let stage = std::mem::take(&mut sifted.stage);
        let output = self.call_in(Place::Work, options).stdin(stage).output().await?;
        // Names that git never takes (".GIT", "git~1") are skipped with a message, the rest is
        // staged; other refusals stop it. Both are the content's fault, not this machine's.
        if output.code != Some(0) || output.stderr.contains("Ignoring path") {
            let message = message_of(&output.stderr);
            if message.contains("No space left on device") || message.contains(".lock") {
                return Err(GitError::local("update-index", message));
            }
            sifted.refused.push(format!("git refuses to record the change: {message}"));
        }
        Ok(())
    }
}

fn flooded(base_tree: &Oid) -> Snapshot {
    let refused = vec![format!("more than {SNAPSHOT_PATHS_MAX} files changed or were added")];
    Snapshot { tree: base_tree.clone(), changes: Vec::new(), refused }
}

fn bounded(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > VIOLATIONS_MAX {
        let more = lines.len() - VIOLATIONS_MAX;
        lines.truncate(VIOLATIONS_MAX);
        lines.push(format!("and {more} more"));
    }
    lines
}

/// Changed paths divided into those to stage and those refused.
struct Sifted {
    /// NUL-terminated paths.
    stage: Vec<u8>,
    refused: Vec<String>,
}

/// `None` if there are too many.
fn sift(root: &Path, list: &[u8]) -> Option<Sifted> {
    let paths: BTreeSet<&[u8]> = list.split(|byte| *byte == 0).filter(|p| !p.is_empty()).collect();
    if paths.len() > SNAPSHOT_PATHS_MAX {
        return None;
    }
    let mut sifted = Sifted { stage: Vec::new(), refused: Vec::new() };
    let mut bytes_sum = 0_u64;
    for path in paths {
        match inspect(root, path) {
            Ok(bytes) => {
                bytes_sum = bytes_sum.saturating_add(bytes);
                if bytes_sum > SNAPSHOT_BYTES_MAX {
                    sifted.refused.push(format!(
                        "the changed files have more than {SNAPSHOT_BYTES_MAX} bytes together"
                    ));
                    return Some(sifted);
                }
                sifted.stage.extend_from_slice(path);
                sifted.stage.push(0);
            }
            Err(why) => sifted.refused.push(why),
        }
    }
    Some(sifted)
}

/// The size of what is at a path, 0 if nothing is, or why it cannot be taken up.
fn inspect(root: &Path, path: &[u8]) -> Result<u64, String> {
    let shown = String::from_utf8_lossy(path);
    if std::str::from_utf8(path).is_err() {
        return Err(format!("{shown:?}: the name is not UTF-8"));
    }
    if path.ends_with(b"/") {
        return Err(format!("{shown}: a nested git repository; its content cannot be recorded"));
    }
    let Ok(found) = fs::symlink_metadata(root.join(std::ffi::OsStr::from_bytes(path))) else {
        return Ok(0);
    };
    let kind = found.file_type();
    if kind.is_symlink() || kind.is_dir() {
        return Ok(0);
    }
    if !kind.is_file() {
        return Err(format!("{shown}: not a file, directory or symbolic link"));
    }
    if found.len() > SNAPSHOT_FILE_BYTES_MAX {
        return Err(format!(
            "{shown}: {} bytes; at most {SNAPSHOT_FILE_BYTES_MAX} are taken up",
            found.len()
        ));
    }
    Ok(found.len())
}
