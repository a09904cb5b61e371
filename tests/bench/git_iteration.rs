//! What one iteration costs in git on a repository of 10 000 files, against the same steps done
//! with bare git commands. Prints the ratio of the medians; the goal is at most 2.
//!
//! Both sides: fetch the base, bring the workspace to the checkpoint, (one file is changed,)
//! record it as a tree, list the difference, commit, push. Flyball's side also lends the agent
//! a `.git`, checks the tree out into the second worktree where it is verified, and appends to the
//! journal in the same push; the bare side does the second checkout too.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first fault")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use flyball_core::ids::{InstallationId, LoopUid, NodeName, Token};
use flyball_core::record::JournalEntry;
use flyball_core::resource::canonical_repo_id;
use flyball_worker::git::{
    Caches, DEFAULT_PREFIX, Git, GitSettings, Journal, Leftovers, LoopRefs, Oid, Owner, Place,
    RefUpdate, RunRepo,
};

const FILES: usize = 10_000;
const ROUNDS: usize = 15;
/// First rounds that are not counted: caches and stat data settle.
const WARM_UP: usize = 3;

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=B", "-c", "user.email=b@localhost", "-c", "gc.auto=0"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn fixture(root: &Path) -> PathBuf {
    let seed = root.join("seed");
    for n in 0..FILES {
        let path = seed.join(format!("src/m{}/f{n}.rs", n / 20));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("fn f{n}() {{}}\n").repeat(20)).unwrap();
    }
    git(&seed, &["init", "-q", "-b", "main"]);
    git(&seed, &["add", "-A"]);
    git(&seed, &["commit", "-qm", "seed"]);
    git(root, &["clone", "-q", "--bare", "seed", "remote.git"]);
    root.join("remote.git")
}

struct Flyball {
    repo: RunRepo,
    journal: Journal,
    owner: Owner,
    tip: Oid,
    pushed: Option<Oid>,
}

impl Flyball {
    async fn start(root: &Path, remote: &Path) -> Self {
        let runner = Git::new(GitSettings::new(root.join("home"))).unwrap();
        let caches = Caches::new(runner, root.join("cache")).unwrap();
        let id = canonical_repo_id("https://example.org/bench").unwrap();
        let cache = caches.open(&id, remote.to_str().unwrap()).await.unwrap();
        let uid = LoopUid::from("bench");
        let refs = LoopRefs::new(DEFAULT_PREFIX, &InstallationId::from("bench"), &uid);
        let fetched = cache.fetch(Some("refs/heads/main"), Some(&refs)).await.unwrap();
        let repo = RunRepo::create(&cache, &root.join("run")).await.unwrap();
        let mut journal = Journal::at(&repo, &refs, fetched.journal).await.unwrap();
        let owner = Owner {
            loop_uid: uid,
            token: Token(1),
            node: NodeName::from("bench"),
            generation: 1,
            owns: None,
        };
        let tip = fetched.base.unwrap();
        journal.seal(&owner, &tip).await.unwrap();
        Self { repo, journal, owner, tip, pushed: None }
    }

    async fn iterate(&mut self, round: usize) -> Duration {
        let began = Instant::now();
        let repo = &self.repo;
        repo.cache().fetch(Some("refs/heads/main"), None).await.unwrap();
        repo.checkout(Place::Work, &self.tip, Leftovers::KeepIgnored).await.unwrap();
        repo.lend_git(Place::Work, &self.tip).await.unwrap();
        change(&repo.path(Place::Work), round);
        let base_tree = repo.tree_of(&self.tip).await.unwrap();
        let snapshot = repo.snapshot(&base_tree).await.unwrap();
        assert_eq!(snapshot.changes.len(), 1);
        repo.checkout(Place::Verify, &snapshot.tree, Leftovers::KeepIgnored).await.unwrap();
        let (parents, now) = ([self.tip.clone()], jiff::Timestamp::now());
        let commit = repo.commit_tree(&snapshot.tree, &parents, "step", now).await.unwrap();
        let name = self.journal.refs().run(self.owner.token);
        let update = RefUpdate { name, old: self.pushed.take(), new: commit.clone() };
        let entry = JournalEntry::Iteration(Box::default());
        self.journal.append(&self.owner, entry, &[update]).await.unwrap();
        self.pushed = Some(commit.clone());
        self.tip = commit;
        began.elapsed()
    }
}

fn bare_iteration(root: &Path, round: usize) -> Duration {
    let began = Instant::now();
    let (work, verify) = (root.join("bare-work"), root.join("bare-verify"));
    git(&work, &["fetch", "-q", "origin", "main"]);
    git(&work, &["reset", "-q", "--hard", "HEAD"]);
    git(&work, &["clean", "-ffdq"]);
    change(&work, round + ROUNDS);
    git(&work, &["add", "-A"]);
    git(&work, &["diff", "--cached", "--raw", "--numstat"]);
    git(&work, &["commit", "-qm", "step"]);
    let head = git(&work, &["rev-parse", "HEAD"]);
    git(&verify, &["checkout", "-qf", "--detach", &head]);
    git(&verify, &["clean", "-ffdq"]);
    git(&work, &["push", "-q", "origin", "HEAD:refs/heads/bare"]);
    began.elapsed()
}

fn change(work: &Path, round: usize) {
    std::fs::write(work.join("src/m7/f140.rs"), format!("fn changed{round}() {{}}\n")).unwrap();
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let remote = fixture(dir.path());
    let mut flyball = Flyball::start(dir.path(), &remote).await;
    git(dir.path(), &["clone", "-q", "--shared", "remote.git", "bare-work"]);
    git(&dir.path().join("bare-work"), &["worktree", "add", "-q", "--detach", "../bare-verify"]);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Taken in turns, so that a busy machine is unfair to both.
        let (a, b) = (flyball.iterate(round).await, bare_iteration(dir.path(), round));
        if round >= WARM_UP {
            ours.push(a);
            bare.push(b);
        }
    }
    let (ours, bare) = (median(&mut ours), median(&mut bare));
    println!(
        "git iteration, {FILES} files: flyball {:.1} ms, bare git {:.1} ms, ratio {:.2} (goal <= 2)",
        ours.as_secs_f64() * 1e3,
        bare.as_secs_f64() * 1e3,
        ours.as_secs_f64() / bare.as_secs_f64()
    );
}
