//! Bare git repositories for loops to work on.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A bare repository in a temporary directory.
pub struct Repo {
    dir: tempfile::TempDir,
}

impl Repo {
    /// A repository whose branch `main` has one commit with these files.
    ///
    /// # Panics
    /// When git fails.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let repo = Self { dir };
        git(repo.dir.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "bare.git"]);
        git(repo.dir.path(), &["clone", "--quiet", "bare.git", "seed"]);
        repo.commit(files, "the beginning");
        repo
    }

    /// Path of the bare repository.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("bare.git")
    }

    /// Commits files to `main` as somebody else would, and pushes.
    ///
    /// # Panics
    /// When git fails.
    pub fn commit(&self, files: &[(&str, &str)], message: &str) {
        let seed = self.dir.path().join("seed");
        if self.has("main") {
            git(&seed, &["pull", "--quiet", "--ff-only", "origin", "main"]);
        }
        for (path, text) in files {
            let file = seed.join(path);
            std::fs::create_dir_all(file.parent().expect("a file has a directory"))
                .expect("directories can be made");
            std::fs::write(file, text).expect("files can be written");
        }
        git(&seed, &["add", "--all"]);
        git(&seed, &["commit", "--quiet", "--allow-empty", "-m", message]);
        git(&seed, &["push", "--quiet", "origin", "HEAD:refs/heads/main"]);
    }

    /// Makes a file of `main` one that can be executed.
    ///
    /// # Panics
    /// When git fails.
    pub fn make_executable(&self, path: &str) {
        let seed = self.dir.path().join("seed");
        git(&seed, &["update-index", "--chmod=+x", path]);
        git(&seed, &["commit", "--quiet", "-m", "a program"]);
        git(&seed, &["push", "--quiet", "origin", "HEAD:refs/heads/main"]);
        git(&seed, &["checkout", "--quiet", "--", path]);
    }

    /// Sets a configuration value of the bare repository.
    pub fn config(&self, name: &str, value: &str) {
        git(&self.path(), &["config", name, value]);
    }

    /// True when a branch exists.
    pub fn has(&self, branch: &str) -> bool {
        let name = format!("refs/heads/{branch}");
        try_git(&self.path(), &["rev-parse", "--verify", "--quiet", &name]).is_ok()
    }

    /// A file's text on a branch.
    ///
    /// # Panics
    /// When it is not there.
    pub fn file(&self, branch: &str, path: &str) -> String {
        git(&self.path(), &["show", &format!("{branch}:{path}")])
    }

    /// Output of any git command in the bare repository.
    ///
    /// # Panics
    /// When git fails.
    pub fn git(&self, args: &[&str]) -> String {
        git(&self.path(), args)
    }

    /// The same where git may fail: gives what it said on standard error then.
    ///
    /// # Errors
    /// What git said.
    pub fn try_git(&self, args: &[&str]) -> Result<String, String> {
        try_git(&self.path(), args)
    }

    /// Subjects of a ref's commits, newest first; of a journal its records alone.
    pub fn subjects(&self, reference: &str) -> Vec<String> {
        let log = git(&self.path(), &["log", "--first-parent", "--format=%s", reference]);
        log.lines().map(str::to_owned).collect()
    }

    /// Names of all journal refs.
    pub fn journals(&self) -> Vec<String> {
        let refs = git(&self.path(), &["for-each-ref", "--format=%(refname)", "refs/flyball"]);
        refs.lines().filter(|name| name.ends_with("/journal")).map(str::to_owned).collect()
    }
}

/// Runs git and gives its output.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn git(dir: &Path, args: &[&str]) -> String {
    try_git(dir, args).unwrap_or_else(|error| panic!("git {args:?} in {}: {error}", dir.display()))
}

fn try_git(dir: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .current_dir(dir)
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")])
        .args(["-c", "user.name=Tester", "-c", "user.email=tester@localhost"])
        .args(args)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
