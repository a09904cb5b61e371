//! What agents leave behind, and what becomes of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::fixture::{Fixture, git, write};
use crate::git::{ChangeKind, Leftovers, Oid, Place, RunRepo, Snapshot, diff_stat};

async fn prepared(fixture: &Fixture) -> (RunRepo, Oid) {
    let (repo, base) = fixture.run("w").await;
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    repo.lend_git(Place::Work, &base).await.unwrap();
    let tree = repo.tree_of(&base).await.unwrap();
    (repo, tree)
}

fn shown(snap: &Snapshot) -> Vec<(&str, ChangeKind, u32, u32)> {
    snap.changes.iter().map(|c| (c.path.as_str(), c.kind, c.added, c.removed)).collect()
}

#[tokio::test]
async fn every_kind_of_change_is_seen() {
    let fixture = Fixture::new();
    let (repo, base) = prepared(&fixture).await;
    let unchanged = repo.snapshot(&base).await.unwrap();
    assert_eq!((unchanged.tree, unchanged.changes.len()), (base.clone(), 0));
    let work = repo.path(Place::Work);
    write(&work.join("src/lib.rs"), "fn one() {}\nfn zwei() {}\nfn three() {}\n");
    fs::rename(work.join("src/deep/a.txt"), work.join("src/moved.txt")).unwrap();
    fs::set_permissions(work.join("README.md"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(work.join("tests/pinned.rs")).unwrap();
    symlink("/etc/passwd", work.join("tests/pinned.rs")).unwrap();
    fs::write(work.join("blob.bin"), [0, 1, 2]).unwrap();
    write(&work.join("target/ignored"), "x\n");
    let snap = repo.snapshot(&base).await.unwrap();
    assert_eq!(snap.refused, Vec::<String>::new());
    assert_eq!(
        shown(&snap),
        [
            ("README.md", ChangeKind::Mode, 0, 0),
            ("blob.bin", ChangeKind::Added, 1, 0),
            ("src/deep/a.txt", ChangeKind::Removed, 0, 1),
            ("src/lib.rs", ChangeKind::Modified, 1, 1),
            ("src/moved.txt", ChangeKind::Added, 1, 0),
            ("tests/pinned.rs", ChangeKind::Type, 1, 1),
        ]
    );
    assert_eq!(diff_stat(&snap.changes).files, 6);
    repo.checkout(Place::Verify, &snap.tree, Leftovers::KeepIgnored).await.unwrap();
    let link = fs::read_link(repo.path(Place::Verify).join("tests/pinned.rs")).unwrap();
    assert_eq!(link.to_str(), Some("/etc/passwd"), "links stay links");
}

#[tokio::test]
async fn files_and_directories_may_trade_places() {
    let fixture = Fixture::new();
    let (repo, base) = prepared(&fixture).await;
    let work = repo.path(Place::Work);
    fs::remove_dir_all(work.join("src/deep")).unwrap();
    write(&work.join("src/deep"), "file\n");
    fs::remove_file(work.join("README.md")).unwrap();
    write(&work.join("README.md/inner"), "x\n");
    let snap = repo.snapshot(&base).await.unwrap();
    let paths: Vec<_> = snap.changes.iter().map(|c| c.path.as_str()).collect();
    assert_eq!(paths, ["README.md", "README.md/inner", "src/deep", "src/deep/a.txt"]);
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    assert_eq!(repo.snapshot(&base).await.unwrap().tree, base);
}

#[tokio::test]
async fn the_agents_own_git_directory_does_not_matter() {
    let fixture = Fixture::new();
    let (repo, base) = prepared(&fixture).await;
    let work = repo.path(Place::Work);
    write(&work.join("src/new.rs"), "new\n");
    write(&work.join(".git/info/exclude"), "*\n");
    git(&work, &["update-index", "--assume-unchanged", "src/lib.rs"]);
    write(&work.join("src/lib.rs"), "x\n");
    git(&work, &["rm", "-rq", "--cached", "tests"]);
    git(&work, &["commit", "-qm", "agent"]);
    let proof = fixture.dir.path().join("ran");
    git(&work, &["config", "core.fsmonitor", &format!("touch {};", proof.display())]);
    let snap = repo.snapshot(&base).await.unwrap();
    let paths: Vec<_> = snap.changes.iter().map(|c| c.path.as_str()).collect();
    assert_eq!(paths, ["src/lib.rs", "src/new.rs"]);
    assert!(!proof.exists());
    fs::remove_dir_all(work.join(".git")).unwrap();
    write(&work.join(".git"), "gitdir: /nonexistent\n");
    let again = repo.snapshot(&base).await.unwrap();
    assert_eq!(again.tree, snap.tree);
}

#[tokio::test]
async fn ignore_files_hide_nothing_that_is_tracked() {
    let fixture = Fixture::new();
    let (repo, base) = prepared(&fixture).await;
    let work = repo.path(Place::Work);
    write(&work.join(".gitignore"), "target/\nsrc/\nhidden\n");
    write(&work.join("src/lib.rs"), "x\n");
    write(&work.join("hidden"), "x\n");
    let snap = repo.snapshot(&base).await.unwrap();
    let paths: Vec<_> = snap.changes.iter().map(|c| c.path.as_str()).collect();
    assert_eq!(paths, [".gitignore", "src/lib.rs"]);
    repo.checkout(Place::Verify, &snap.tree, Leftovers::KeepIgnored).await.unwrap();
    assert!(!repo.path(Place::Verify).join("hidden").exists(), "what is hidden is not measured");
}

#[tokio::test]
async fn attributes_start_no_program_and_hide_no_line() {
    let fixture = Fixture::new();
    let (repo, base) = prepared(&fixture).await;
    let work = repo.path(Place::Work);
    write(&work.join(".gitattributes"), "* -diff filter=evil diff=evil merge=evil\n");
    let proof = fixture.dir.path().join("ran");
    let command = format!("touch {}; cat", proof.display());
    let config = repo.dir().join("git/config");
    let text = fs::read_to_string(&config).unwrap();
    let evil = format!("{text}[filter \"evil\"]\n\tclean = {command}\n\tsmudge = {command}\n");
    fs::write(&config, evil).unwrap();
    write(&work.join("src/lib.rs"), "a\nb\nc\nd\n");
    let snap = repo.snapshot(&base).await.unwrap();
    let stat = diff_stat(&snap.changes);
    assert_eq!((stat.files, stat.lines), (2, 1 + 4 + 3));
    repo.checkout(Place::Verify, &snap.tree, Leftovers::KeepIgnored).await.unwrap();
    assert!(!proof.exists());
}

#[tokio::test]
async fn what_cannot_be_recorded_is_refused_by_name() {
    let fixture = Fixture::new();
    let (repo, base) = prepared(&fixture).await;
    let work = repo.path(Place::Work);
    for (name, commits) in [("empty-repo", false), ("full-repo", true)] {
        write(&work.join(name).join("x"), "x\n");
        git(&work.join(name), &["init", "-q"]);
        if commits {
            git(&work.join(name), &["add", "-A"]);
            git(&work.join(name), &["commit", "-qm", "x"]);
        }
    }
    write(&work.join("sub/.GIT/config"), "x\n");
    fs::remove_file(work.join("README.md")).unwrap();
    nix::unistd::mkfifo(&work.join("README.md"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let sparse = fs::File::create(work.join("huge")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    write(&work.join("src/fine.rs"), "x\n");
    let snap = repo.snapshot(&base).await.unwrap();
    let all = snap.refused.join("\n");
    for name in ["empty-repo/", "full-repo/", ".GIT/config", "README.md", "huge"] {
        assert!(all.contains(name), "{name} in {all}");
    }
    assert!(snap.changes.iter().all(|c| c.path == "src/fine.rs"), "{:?}", snap.changes);
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    let clean = repo.snapshot(&base).await.unwrap();
    assert_eq!((clean.tree, clean.refused.len()), (base, 0));
}

#[tokio::test]
async fn a_worktree_that_is_gone_is_refused_and_comes_back() {
    let fixture = Fixture::new();
    let (repo, base) = prepared(&fixture).await;
    let work = repo.path(Place::Work);
    fs::remove_dir_all(&work).unwrap();
    let snap = repo.snapshot(&base).await.unwrap();
    assert_eq!((snap.tree, snap.refused.len()), (base.clone(), 1));
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    assert!(work.join("src/lib.rs").exists());
    for entry in ["src", "src/deep"] {
        fs::set_permissions(work.join(entry), fs::Permissions::from_mode(0o500)).unwrap();
    }
    write(&work.join("README.md"), "x\n");
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    assert_eq!(repo.snapshot(&base).await.unwrap().tree, base);
}

#[tokio::test]
async fn a_flood_of_files_is_refused_without_reading_them() {
    let fixture = Fixture::new();
    let (repo, base) = prepared(&fixture).await;
    let flood = repo.path(Place::Work).join("flood");
    fs::create_dir(&flood).unwrap();
    for n in 0..=crate::git::SNAPSHOT_PATHS_MAX {
        fs::File::create(flood.join(n.to_string())).unwrap();
    }
    let snap = repo.snapshot(&base).await.unwrap();
    assert_eq!(snap.tree, base);
    assert!(snap.refused[0].starts_with("more than"), "{:?}", snap.refused);
}

#[tokio::test]
async fn submodule_entries_stay_and_cannot_be_changed() {
    let fixture = Fixture::new();
    let seed = fixture.dir.path().join("seed");
    let head = git(&seed, &["rev-parse", "HEAD"]);
    git(&seed, &["update-index", "--add", "--cacheinfo", &format!("160000,{head},sub")]);
    git(&seed, &["commit", "-qm", "submodule"]);
    git(&seed, &["push", "-q", "../remote.git", "HEAD:main"]);
    let (repo, base) = prepared(&fixture).await;
    let work = repo.path(Place::Work);
    assert!(work.join("sub").is_dir());
    write(&work.join("src/lib.rs"), "x\n");
    let snap = repo.snapshot(&base).await.unwrap();
    assert_eq!(snap.changes.len(), 1);
    write(&work.join("sub/x"), "x\n");
    git(&work.join("sub"), &["init", "-q"]);
    let proof = fixture.dir.path().join("ran");
    git(&work.join("sub"), &["add", "x"]);
    git(&work.join("sub"), &["commit", "-qm", "x"]);
    git(&work.join("sub"), &["config", "core.fsmonitor", &format!("touch {};", proof.display())]);
    let snap = repo.snapshot(&base).await.unwrap();
    let sub = snap.changes.iter().find(|change| change.path == "sub").unwrap();
    assert!(sub.is_submodule && !proof.exists());
}
