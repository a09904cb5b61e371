//! Cache, worktrees, commits, pins, rebase and the final clone.

use std::fs;

use flyball_core::record::JournalEntry;
use flyball_core::resource::PinSet;

use super::fixture::{Fixture, git, owner, refs, write};
use crate::git::{GitError, Journal, JournalError, Leftovers, Oid, Place, Rebased, RefUpdate};

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_700_000_000).unwrap()
}

#[tokio::test]
async fn refs_are_resolved_and_missing_ones_told_apart_from_unreachable() {
    let fixture = Fixture::new();
    git(&fixture.remote(), &["tag", "-a", "v1", "-m", "one", "main"]);
    let url = fixture.remote().to_string_lossy().into_owned();
    let cache = fixture.cache("w", &url).await;
    assert_eq!(cache.resolve("main").await.unwrap(), "refs/heads/main");
    assert_eq!(cache.resolve("v1").await.unwrap(), "refs/tags/v1");
    assert_eq!(cache.resolve("refs/heads/main").await.unwrap(), "refs/heads/main");
    assert_eq!(cache.resolve("HEAD").await.unwrap(), "HEAD");
    for missing in ["nope", "refs/heads/ma", "ain", "--upload-pack=id", "m*"] {
        let error = cache.resolve(missing).await.unwrap_err();
        assert_eq!(error, GitError::MissingRef { reference: missing.to_owned() });
    }
    let head: Oid = git(&fixture.remote(), &["rev-parse", "main"]).parse().unwrap();
    let tag = cache.fetch(Some("refs/tags/v1"), None).await.unwrap();
    assert_eq!(tag.base, Some(head), "an annotated tag is peeled");
    let gone = cache.fetch(Some("refs/heads/gone"), None).await.unwrap_err();
    assert_eq!(gone, GitError::MissingRef { reference: "refs/heads/gone".to_owned() });
    let away = fixture.cache("w2", "/nonexistent/repo.git").await;
    assert!(matches!(away.resolve("main").await, Err(GitError::Unreachable { .. })));
    let refused = fixture.cache("w3", "http://127.0.0.1:1/x.git").await;
    assert!(matches!(
        refused.fetch(Some("refs/heads/main"), None).await,
        Err(GitError::Unreachable { .. })
    ));
}

#[tokio::test]
async fn checkout_undoes_whatever_was_done_to_the_worktree() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("w").await;
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    repo.lend_git(Place::Work, &base).await.unwrap();
    let work = repo.path(Place::Work);
    assert_eq!(git(&work, &["status", "--porcelain"]), "");
    assert_eq!(git(&work, &["rev-parse", "HEAD"]), base.as_str());
    let outside = fixture.dir.path().join("outside");
    write(&outside.join("a.txt"), "mine\n");
    fs::remove_dir_all(work.join(".git")).unwrap();
    fs::remove_dir_all(work.join("src/deep")).unwrap();
    std::os::unix::fs::symlink(&outside, work.join("src/deep")).unwrap();
    write(&work.join("README.md"), "changed\n");
    write(&work.join("extra/file"), "x\n");
    write(&work.join("nested/x"), "x\n");
    git(&work.join("nested"), &["init", "-q"]);
    write(&work.join("target/out"), "built\n");
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    assert_eq!(fs::read_to_string(work.join("README.md")).unwrap(), "# Fixture\n");
    assert_eq!(fs::read_to_string(work.join("src/deep/a.txt")).unwrap(), "a\n");
    assert!(!fs::symlink_metadata(work.join("src/deep")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(outside.join("a.txt")).unwrap(), "mine\n");
    assert!(!work.join("extra").exists() && !work.join("nested").exists());
    assert!(work.join("target/out").exists() && !work.join(".git").exists());
    repo.checkout(Place::Work, &base, Leftovers::Remove).await.unwrap();
    assert!(!work.join("target").exists());
    fs::remove_dir_all(&work).unwrap();
    std::os::unix::fs::symlink(&outside, &work).unwrap();
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    assert!(work.join("src/lib.rs").exists() && !outside.join("src").exists());
}

#[tokio::test]
async fn commits_are_deterministic_and_pins_come_back() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("w").await;
    let base_tree = repo.tree_of(&base).await.unwrap();
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    let work = repo.path(Place::Work);
    write(&work.join("src/lib.rs"), "fn one() {}\n");
    fs::remove_file(work.join("tests/pinned.rs")).unwrap();
    write(&work.join("tests/pinned.rs/now/a/dir"), "x\n");
    write(&work.join("tests/more.rs"), "x\n");
    let snap = repo.snapshot(&base_tree).await.unwrap();
    let pins = PinSet::parse(&["tests/**"]).unwrap();
    let tree = repo.restore_pins(&snap.tree, &base_tree, &pins).await.unwrap();
    let changed = repo.diff(&base_tree, &tree).await.unwrap();
    let paths: Vec<_> = changed.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["src/lib.rs"]);
    assert_eq!(repo.restore_pins(&tree, &base_tree, &pins).await.unwrap(), tree);
    let parents = [base.clone()];
    let commit = repo.commit_tree(&tree, &parents, "step\n\nbody", now()).await.unwrap();
    assert_eq!(commit, repo.commit_tree(&tree, &parents, "step\n\nbody", now()).await.unwrap());
    assert!(repo.is_ancestor(&base, &commit).await.unwrap());
    assert!(!repo.is_ancestor(&commit, &base).await.unwrap());
}

#[tokio::test]
async fn the_final_clone_stands_alone() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("w").await;
    let base_tree = repo.tree_of(&base).await.unwrap();
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    write(&repo.path(Place::Work).join("src/lib.rs"), "fn one() {}\n");
    write(&repo.path(Place::Work).join("tests/pinned.rs"), "cheat\n");
    let snap = repo.snapshot(&base_tree).await.unwrap();
    let commit =
        repo.commit_tree(&snap.tree, std::slice::from_ref(&base), "step", now()).await.unwrap();
    let pins = PinSet::parse(&["tests/**"]).unwrap();
    let tree = repo.restore_pins(&snap.tree, &base_tree, &pins).await.unwrap();
    for _ in 0..2 {
        let path = repo.final_clone(&commit, &tree).await.unwrap();
        assert_eq!(fs::read_to_string(path.join("src/lib.rs")).unwrap(), "fn one() {}\n");
        assert_eq!(fs::read_to_string(path.join("tests/pinned.rs")).unwrap(), "assert\n");
        assert!(!path.join(".git/objects/info/alternates").exists());
        assert_eq!(git(&path, &["rev-parse", "HEAD"]), commit.as_str());
        assert_eq!(git(&path, &["fsck", "--full", "--strict", "--no-dangling"]), "");
        assert_eq!(git(&path, &["log", "--format=%s"]), "step\nseed");
        write(&path.join("left"), "over");
    }
}

#[tokio::test]
async fn accepted_commits_follow_the_base() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("w").await;
    let mut tip = base.clone();
    for (path, text) in [("src/lib.rs", "fn one() {}\n"), ("src/new.rs", "new\n")] {
        repo.checkout(Place::Work, &tip, Leftovers::KeepIgnored).await.unwrap();
        write(&repo.path(Place::Work).join(path), text);
        let tip_tree = repo.tree_of(&tip).await.unwrap();
        let snap = repo.snapshot(&tip_tree).await.unwrap();
        tip = repo.commit_tree(&snap.tree, &[tip], path, now()).await.unwrap();
    }
    fixture.commit_elsewhere("docs/x.md", "x\n");
    let new_base = repo.cache().fetch(Some("refs/heads/main"), None).await.unwrap().base.unwrap();
    let rebased = repo.rebase(&base, &tip, &new_base).await.unwrap();
    let Rebased::Done { commit } = rebased else { panic!("{rebased:?}") };
    let changed = repo.diff(&new_base, &commit).await.unwrap();
    assert_eq!(
        changed.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(),
        ["src/lib.rs", "src/new.rs"]
    );
    assert!(repo.is_ancestor(&new_base, &commit).await.unwrap());
    assert_eq!(
        repo.rebase(&base, &tip, &base).await.unwrap(),
        Rebased::Done { commit: tip.clone() },
        "the same commits on the same base are the same"
    );
    fixture.commit_elsewhere("src/new.rs", "other\n");
    let new_base = repo.cache().fetch(Some("refs/heads/main"), None).await.unwrap().base.unwrap();
    let conflict = repo.rebase(&base, &tip, &new_base).await.unwrap();
    assert_eq!(conflict, Rebased::Conflict { paths: vec!["src/new.rs".to_owned()] });
}

#[tokio::test]
async fn a_change_that_is_already_upstream_vanishes_and_never_follows_a_rename() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("w").await;
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    write(&repo.path(Place::Work).join("src/lib.rs"), "fn one() {}\nfn two() {}\nfn tri() {}\n");
    let base_tree = repo.tree_of(&base).await.unwrap();
    let snap = repo.snapshot(&base_tree).await.unwrap();
    let tip = repo.commit_tree(&snap.tree, std::slice::from_ref(&base), "s", now()).await.unwrap();
    fixture.commit_elsewhere("src/lib.rs", "fn one() {}\nfn two() {}\nfn tri() {}\n");
    let fetch =
        || async { repo.cache().fetch(Some("refs/heads/main"), None).await.unwrap().base.unwrap() };
    let same = fetch().await;
    assert_eq!(repo.rebase(&base, &tip, &same).await.unwrap(), Rebased::Done { commit: same });
    let seed = fixture.dir.path().join("seed");
    git(&seed, &["reset", "-q", "--hard", base.as_str()]);
    git(&seed, &["mv", "src/lib.rs", "elsewhere.rs"]);
    git(&seed, &["commit", "-qm", "rename"]);
    git(&seed, &["push", "-qf", "../remote.git", "HEAD:main"]);
    let renamed = fetch().await;
    let conflict = repo.rebase(&base, &tip, &renamed).await.unwrap();
    assert_eq!(conflict, Rebased::Conflict { paths: vec!["elsewhere.rs".to_owned()] });
}

#[tokio::test]
async fn repositories_of_other_formats_and_refs_to_other_things_are_unsupported() {
    let fixture = Fixture::new();
    let other = fixture.dir.path().join("sha256");
    fs::create_dir(&other).unwrap();
    git(&other, &["init", "-q", "-b", "main", "--object-format=sha256"]);
    git(&other, &["commit", "-q", "--allow-empty", "-m", "x"]);
    let cache = fixture.cache("w", other.to_str().unwrap()).await;
    let unsupported = |error: &GitError| matches!(error, GitError::Unsupported { .. });
    let error = cache.resolve("main").await.unwrap_err();
    assert!(unsupported(&error) && !error.is_retryable(), "{error}");
    let error = cache.fetch(Some("refs/heads/main"), None).await.unwrap_err();
    assert!(unsupported(&error), "{error}");
    git(&fixture.remote(), &["tag", "tree", "main^{tree}"]);
    let (repo, _) = fixture.run("w2").await;
    let error = repo.cache().fetch(Some("refs/tags/tree"), None).await.unwrap_err();
    assert!(unsupported(&error), "{error}");
}

#[tokio::test]
async fn a_tree_with_git_internals_is_never_written() {
    let fixture = Fixture::new();
    let seed = fixture.dir.path().join("seed");
    let blob = git(&seed, &["hash-object", "-w", "README.md"]);
    let list = fixture.dir.path().join("list");
    let mktree = |text: &str| {
        fs::write(&list, text).unwrap();
        let script = format!("git mktree < {}", list.display());
        let output =
            std::process::Command::new("sh").current_dir(&seed).args(["-c", &script]).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    };
    let inner = mktree(&format!("100644 blob {blob}\tconfig\n"));
    let tree = mktree(&format!("040000 tree {inner}\t.git\n"));
    let commit = git(&seed, &["commit-tree", "-m", "evil", &tree]);
    git(&seed, &["push", "-q", "../remote.git", &format!("{commit}:refs/heads/evil")]);
    let (repo, _) = fixture.run("w").await;
    let base = repo.cache().fetch(Some("refs/heads/evil"), None).await.unwrap().base.unwrap();
    let error = repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap_err();
    assert!(matches!(error, GitError::Unsupported { .. }), "{error}");
    assert!(!repo.path(Place::Work).join(".git").exists());
    let dir = repo.dir().to_owned();
    repo.remove().await.unwrap();
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_repository_with_a_worktree_serves_as_remote() {
    let fixture = Fixture::new();
    let seed = fixture.dir.path().join("seed");
    let cache = fixture.cache("w", seed.to_str().unwrap()).await;
    let (repo, base) = fixture.run_on(&cache, "w").await;
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    let own = owner(5, "w");
    journal.seal(&own, &base).await.unwrap();
    let tree = repo.tree_of(&base).await.unwrap();
    let commit = repo.commit_tree(&tree, std::slice::from_ref(&base), "s", now()).await.unwrap();
    let publish = |name: &str, old: Option<Oid>| {
        let update = RefUpdate { name: name.to_owned(), old, new: commit.clone() };
        let entry =
            JournalEntry::Published { commit: commit.to_string(), reference: name.to_owned() };
        (entry, [update])
    };
    let (entry, update) = publish("refs/heads/flyball/x", None);
    journal.append(&own, entry, &update).await.unwrap();
    assert_eq!(git(&seed, &["rev-parse", "flyball/x"]), commit.as_str());
    // The branch that somebody works on is not pulled away under them.
    let (entry, update) = publish("refs/heads/main", Some(base));
    let error = journal.append(&own, entry, &update).await.unwrap_err();
    let JournalError::Git(GitError::Rejected { message }) = error else { panic!("{error}") };
    assert!(message.contains("currently checked out"), "{message}");
}
