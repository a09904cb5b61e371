//! A remote repository in a temporary directory and a run against it.

use std::path::{Path, PathBuf};
use std::process::Command;

use flyball_core::ids::{InstallationId, LoopUid, NodeName, Token};
use flyball_core::resource::canonical_repo_id;

use crate::git::{Cache, Caches, Git, GitSettings, LoopRefs, Oid, Owner, RunRepo};

/// Temporary world: a bare remote with a `main` of a few files.
pub(super) struct Fixture {
    pub(super) dir: tempfile::TempDir,
}

/// Runs git as a user would, with a neutral environment, and gives its trimmed stdout.
pub(super) fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=User", "-c", "user.email=user@localhost"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(super) fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let seed = dir.path().join("seed");
        std::fs::create_dir(&seed).unwrap();
        git(&seed, &["init", "-q", "-b", "main"]);
        write(&seed.join("README.md"), "# Fixture\n");
        write(&seed.join("src/lib.rs"), "fn one() {}\nfn two() {}\nfn three() {}\n");
        write(&seed.join("src/deep/a.txt"), "a\n");
        write(&seed.join("tests/pinned.rs"), "assert\n");
        write(&seed.join(".gitignore"), "target/\n");
        git(&seed, &["add", "-A"]);
        git(&seed, &["commit", "-qm", "seed"]);
        git(dir.path(), &["clone", "-q", "--bare", "seed", "remote.git"]);
        Self { dir }
    }

    pub(super) fn remote(&self) -> PathBuf {
        self.dir.path().join("remote.git")
    }

    pub(super) fn settings(&self) -> GitSettings {
        GitSettings::new(self.dir.path().join("home"))
    }

    /// A cache as one worker would have it.
    pub(super) async fn cache(&self, worker: &str, url: &str) -> Cache {
        self.cache_with(worker, url, self.settings()).await
    }

    pub(super) async fn cache_with(&self, worker: &str, url: &str, settings: GitSettings) -> Cache {
        let git = Git::new(settings).unwrap();
        let caches = Caches::new(git, self.dir.path().join(worker).join("cache")).unwrap();
        caches.open(&canonical_repo_id("https://example.org/fixture").unwrap(), url).await.unwrap()
    }

    /// A run of one worker over the local path, with the base commit fetched.
    pub(super) async fn run(&self, worker: &str) -> (RunRepo, Oid) {
        let url = self.remote().to_string_lossy().into_owned();
        let cache = self.cache(worker, &url).await;
        self.run_on(&cache, worker).await
    }

    pub(super) async fn run_on(&self, cache: &Cache, worker: &str) -> (RunRepo, Oid) {
        let base = cache.fetch(Some("refs/heads/main"), None).await.unwrap().base.unwrap();
        let repo = RunRepo::create(cache, &self.dir.path().join(worker).join("run")).await.unwrap();
        (repo, base)
    }

    /// Commits one file to the remote's `main`, as somebody else would.
    pub(super) fn commit_elsewhere(&self, path: &str, text: &str) -> String {
        let seed = self.dir.path().join("seed");
        git(&seed, &["pull", "-q", "--rebase", "../remote.git", "main"]);
        write(&seed.join(path), text);
        git(&seed, &["add", "-A"]);
        git(&seed, &["commit", "-qm", "elsewhere"]);
        git(&seed, &["push", "-q", "../remote.git", "HEAD:main"]);
        git(&seed, &["rev-parse", "HEAD"])
    }

    /// Where a ref of the remote is; empty if it does not exist.
    pub(super) fn remote_ref(&self, name: &str) -> String {
        git(&self.remote(), &["for-each-ref", "--format=%(objectname)", name])
    }
}

pub(super) fn refs() -> LoopRefs {
    LoopRefs::new(
        crate::git::DEFAULT_PREFIX,
        &InstallationId::from("inst"),
        &LoopUid::from("uid-1"),
    )
}

pub(super) fn owner(token: i64, node: &str) -> Owner {
    let (loop_uid, node) = (LoopUid::from("uid-1"), NodeName::from(node));
    Owner { loop_uid, token: Token(token), node, generation: 1, owns: None }
}
