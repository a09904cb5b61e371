//! Directories of the agent's worktree: those a loop owns, and those that git ignores. The worktree is
//! hostile: no link in it is followed.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use super::error::GitError;
use super::repo::{Found, Place, RunRepo};

/// Most directories that are made writable one by one; a tree with more is told so by its tools.
const DIRS_MAX: usize = 256;
/// Longest `.gitignore` that is read.
const IGNORE_BYTES_MAX: u64 = 64 * 1024;
/// Names that stand for a directory of build output also without a slash behind them.
const OUTPUT_DIRS: [&str; 12] = [
    "target",
    "node_modules",
    "build",
    "dist",
    "out",
    ".venv",
    "venv",
    ".cache",
    ".gradle",
    ".next",
    ".tox",
    "__pycache__",
];

/// The directory at `relative` below `root`, made if it is missing; the nearest one above it where
/// something else than a directory is in the way.
pub(crate) fn real_dir(root: &Path, relative: &str) -> PathBuf {
    let mut dir = root.to_owned();
    for part in Path::new(relative).components() {
        let Component::Normal(name) = part else { return dir };
        let next = dir.join(name);
        let there = match fs::symlink_metadata(&next) {
            Ok(found) => found.is_dir(),
            Err(_) => fs::create_dir(&next).is_ok(),
        };
        if !there {
            return dir;
        }
        dir = next;
    }
    dir
}

/// Directories of the agent's worktree whose content git ignores: those that are there, and those that
/// the root's `.gitignore` names, which are made. Where its checkout found nothing there is nothing but the tree,
/// and git need not be asked.
///
/// # Errors
/// `Local` if git fails.
pub(crate) async fn ignored_dirs(repo: &RunRepo, found: Found) -> Result<Vec<PathBuf>, GitError> {
    let root = repo.path(Place::Work);
    let mut dirs = match found {
        Found::Nothing => Vec::new(),
        Found::Older => listed_dirs(repo, &root).await?,
    };
    for name in named_outputs(&root) {
        let path = root.join(&name);
        let missing = fs::symlink_metadata(&path).is_err();
        if missing && real_dir(&root, &name) == path {
            dirs.push(path);
        }
    }
    dirs.sort();
    dirs.dedup();
    dirs.truncate(DIRS_MAX);
    Ok(dirs)
}

/// Directories that are there and ignored.
async fn listed_dirs(repo: &RunRepo, root: &Path) -> Result<Vec<PathBuf>, GitError> {
    let options = [
        "ls-files",
        "-z",
        "--others",
        "--ignored",
        "--exclude-per-directory=.gitignore",
        "--directory",
    ];
    let listed = repo.call_in(Place::Work, options).ok().await?;
    let mut dirs = Vec::new();
    for entry in listed.stdout.split(|byte| *byte == 0) {
        let Ok(text) = std::str::from_utf8(entry) else { continue };
        if let Some(relative) = text.strip_suffix('/') {
            let path = root.join(relative);
            dirs.extend((real_dir(root, relative) == path).then_some(path));
        }
    }
    Ok(dirs)
}

/// Plain directories that the root's `.gitignore` names.
fn named_outputs(root: &Path) -> Vec<String> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let path = root.join(".gitignore");
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let mut text = String::new();
    // One that cannot be read names nothing.
    let read = file.map(|file| file.take(IGNORE_BYTES_MAX).read_to_string(&mut text));
    if !matches!(read, Ok(Ok(_))) {
        return Vec::new();
    }
    text.lines().filter_map(output_dir).collect()
}

fn output_dir(line: &str) -> Option<String> {
    let line = line.trim();
    if line.starts_with(['#', '!']) || line.contains(['*', '?', '[', '\\']) {
        return None;
    }
    let name = line.strip_suffix('/');
    let is_dir = name.is_some();
    let name = name.unwrap_or(line).trim_start_matches('/');
    let plain = !name.is_empty()
        && name.split('/').all(|segment| !matches!(segment, "" | "." | ".." | ".git"));
    (plain && (is_dir || OUTPUT_DIRS.contains(&name))).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_directories_are_known_by_their_lines() {
        for (line, name) in [
            ("/target", Some("target")),
            ("target/", Some("target")),
            ("out/gen/", Some("out/gen")),
            ("some-file", None),
            ("# target", None),
            ("!target/", None),
            ("*.o", None),
            ("../x/", None),
            (".git/", None),
            ("/", None),
        ] {
            assert_eq!(output_dir(line).as_deref(), name, "{line}");
        }
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("work");
        fs::create_dir_all(root.join("src")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("src/link")).unwrap();
        fs::write(root.join("src/file"), "").unwrap();
        assert_eq!(real_dir(&root, "src/new/deep"), root.join("src/new/deep"));
        assert_eq!(real_dir(&root, "src/link/x"), root.join("src"));
        assert_eq!(real_dir(&root, "src/file/x"), root.join("src"));
        assert_eq!(real_dir(&root, ""), root);
        assert_eq!(real_dir(&root, "../.."), root);
    }
}
