//! The repository around a directory, as git tells it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;

/// What a manifest needs to know of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    /// Top of the work tree, absolute, symbolic links resolved.
    pub(super) root: PathBuf,
    /// The branch that is checked out, `main` if none is.
    pub(super) branch: String,
    /// URL of the remote `origin`.
    pub(super) origin: Option<String>,
    /// Whether there is a commit to start from.
    pub(super) has_commit: bool,
}

impl Repository {
    /// Finds the repository that a directory lies in.
    pub(super) fn around(directory: &Path) -> Result<Self, Failure> {
        let root = git(directory, &["rev-parse", "--show-toplevel"]).map_err(|cause| {
            let place = directory.display();
            Failure::new(
                "no-repository",
                format!("{place} is not inside a git repository: {cause}"),
            )
            .hint("make it one: git init && git add . && git commit")
        })?;
        let root = PathBuf::from(root);
        let branch = git(&root, &["symbolic-ref", "--short", "HEAD"]);
        Ok(Self {
            branch: branch.unwrap_or_else(|_| "main".to_owned()),
            origin: git(&root, &["config", "--get", "remote.origin.url"]).ok(),
            has_commit: git(&root, &["rev-parse", "--verify", "--quiet", "HEAD"]).is_ok(),
            root,
        })
    }
}

/// Output of a git command that only reads; the first line of its complaint otherwise.
fn git(directory: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git").arg("-C").arg(directory).args(arguments).output();
    let output = output.map_err(|error| format!("git cannot be run: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr).lines().next().unwrap_or_default().to_owned()),
    }
}
