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
    /// URL of the remote `origin`, without the credentials it may hold.
    pub(super) origin: Option<String>,
    /// Whether there is a commit to start from.
    pub(super) has_commit: bool,
    /// Whether there are changes that no commit has, and so no loop sees.
    pub(super) is_dirty: bool,
    /// The directory it was looked for from, relative to the root; empty for the root itself.
    pub(super) below: PathBuf,
}

impl Repository {
    /// Finds the repository that a directory lies in.
    pub(super) fn around(directory: &Path) -> Result<Self, Failure> {
        if !directory.is_dir() {
            let message = format!("there is no directory {}", directory.display());
            return Err(Failure::new("no-repository", message));
        }
        let root = git(directory, &["rev-parse", "--show-toplevel"]).map_err(|cause| {
            let place = directory.display();
            Failure::new(
                "no-repository",
                format!("{place} is not inside a git repository: {cause}"),
            )
            .hint("make it one: git init && git add . && git commit")
        })?;
        let root = PathBuf::from(root);
        let below = git(directory, &["rev-parse", "--show-prefix"]).unwrap_or_default();
        // Without the lock that would get in the way of the user's own git.
        let changes = git(&root, &["--no-optional-locks", "status", "--porcelain"]);
        let branch = git(&root, &["symbolic-ref", "--short", "HEAD"]);
        Ok(Self {
            branch: branch.unwrap_or_else(|_| "main".to_owned()),
            origin: git(&root, &["config", "--get", "remote.origin.url"]).ok().map(without_secret),
            has_commit: git(&root, &["rev-parse", "--verify", "--quiet", "HEAD"]).is_ok(),
            is_dirty: changes.is_ok_and(|changes| !changes.is_empty()),
            below: PathBuf::from(below.trim_end_matches('/')),
            root,
        })
    }
}

/// An address without what may be a password or a token: a manifest is stored and shown in clear.
fn without_secret(url: String) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
    let Some((user, host)) = authority.rsplit_once('@') else { return url };
    // The user of ssh is part of the address; that of https may be a token.
    let user = match scheme {
        "ssh" => format!("{}@", user.split(':').next().unwrap_or_default()),
        _ => String::new(),
    };
    let path = path.map(|path| format!("/{path}")).unwrap_or_default();
    format!("{scheme}://{user}{host}{path}")
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

#[cfg(test)]
mod tests {
    use super::without_secret;

    #[test]
    fn no_credential_gets_into_a_manifest() {
        let clean = |url: &str| without_secret(url.to_owned());
        assert_eq!(clean("https://user:secret@github.com/a/b.git"), "https://github.com/a/b.git");
        assert_eq!(clean("https://token@github.com/a/b.git"), "https://github.com/a/b.git");
        assert_eq!(clean("ssh://git:secret@host/a"), "ssh://git@host/a");
        assert_eq!(clean("https://host/@scope/a"), "https://host/@scope/a");
        assert_eq!(clean("git@host:a/b"), "git@host:a/b");
        assert_eq!(clean("/srv/a"), "/srv/a");
    }
}
