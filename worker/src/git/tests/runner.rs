//! Limits and environment of git processes, and what killed ones leave behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::fixture::{Fixture, git, refs, write};
use crate::git::{Git, GitError, GitSettings, Journal, Leftovers, Place};

/// A stand-in for git.
fn script(dir: &Path, text: &str) -> GitSettings {
    let program = dir.join("stand-in");
    write(&program, &format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    GitSettings { program, ..GitSettings::new(dir.join("home")) }
}

#[tokio::test]
async fn a_process_over_its_time_is_killed_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let text = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
    let mut settings = script(dir.path(), &text);
    settings.local_timeout = Duration::from_secs(2);
    let git = Git::new(settings).unwrap();
    let error = git.call(dir.path(), ["version"]).output().await.unwrap_err();
    assert_eq!(error, GitError::TimedOut { operation: "version".to_owned(), seconds: 2 });
    assert!(error.is_retryable());
    let pid: i32 = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    // Gone, or a zombie that this container's init has not reaped.
    let alive = || {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
    };
    while alive() {
        assert!(Instant::now() < deadline, "the helper process lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn output_over_the_bound_and_a_missing_program_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let git = Git::new(script(dir.path(), "yes")).unwrap();
    let error = git.call(dir.path(), ["log"]).stdout_bytes_max(1000).output().await.unwrap_err();
    assert_eq!(error, GitError::TooLarge { operation: "log".to_owned(), bytes_max: 1000 });
    let flood = "head -c 1000000 /dev/zero >&2; echo done";
    let git = Git::new(script(dir.path(), flood)).unwrap();
    let output = git.call(dir.path(), ["log"]).output().await.unwrap();
    assert_eq!(output.text(), "done\n");
    assert!(output.stderr.len() <= 64 * 1024);
    let program = dir.path().join("none");
    let git = Git::new(GitSettings { program, ..GitSettings::new(dir.path()) }).unwrap();
    let error = git.call(dir.path(), ["log"]).output().await.unwrap_err();
    assert!(matches!(error, GitError::Local { .. }), "{error}");
}

#[tokio::test]
async fn the_environment_holds_only_what_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let git = Git::new(script(dir.path(), "env")).unwrap();
    let text = git.call(dir.path(), ["log"]).ok().await.unwrap().text();
    let known = ["PATH", "HOME", "LC_ALL", "TZ", "SSH_ASKPASS", "PWD", "OLDPWD", "SHLVL", "_"];
    for line in text.lines() {
        let name = line.split('=').next().unwrap();
        assert!(name.starts_with("GIT_") || known.contains(&name), "{line}");
    }
    for (name, value) in [("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_TERMINAL_PROMPT", "0")] {
        assert!(text.lines().any(|line| line == format!("{name}={value}")), "{name}");
    }
}

#[tokio::test]
async fn locks_of_killed_processes_do_not_matter() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("w").await;
    Journal::open(&repo, &refs()).await.unwrap();
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    fixture.commit_elsewhere("x", "x\n");
    let cache = repo.cache();
    let locked = fs::read_dir(cache.dir().join("refs/base")).unwrap().next().unwrap().unwrap();
    fs::write(locked.path().with_extension("lock"), "").unwrap();
    let moved = cache.fetch(Some("refs/heads/main"), None).await.unwrap().base.unwrap();
    assert_ne!(moved, base);
    let lock = repo.dir().join("git/work.index.lock");
    let tree = repo.tree_of(&base).await.unwrap();
    write(&repo.path(Place::Work).join("src/new.rs"), "x\n");
    write(&repo.path(Place::Work).join("target/built"), "x\n");
    fs::write(&lock, "").unwrap();
    assert_eq!(repo.snapshot(&tree).await.unwrap().changes.len(), 1);
    fs::write(&lock, "").unwrap();
    repo.checkout(Place::Work, &base, Leftovers::KeepIgnored).await.unwrap();
    assert!(repo.path(Place::Work).join("target/built").exists(), "not made anew");
}

#[tokio::test]
async fn packs_of_a_cache_are_joined_and_no_object_is_lost() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("w").await;
    let pack_dir = repo.cache().dir().join("objects/pack");
    let packs = || {
        let entries = fs::read_dir(&pack_dir).unwrap().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "pack")).count()
    };
    let mut commits = vec![base];
    for n in 0..55 {
        fixture.commit_elsewhere("x", &format!("{n}\n"));
        let fetched = repo.cache().fetch(Some("refs/heads/main"), None).await.unwrap();
        commits.push(fetched.base.unwrap());
        if n == 30 {
            // From here on the first half is unreachable.
            let seed = fixture.dir.path().join("seed");
            git(&seed, &["checkout", "-q", "--orphan", "new"]);
            git(&seed, &["commit", "-qm", "anew"]);
            git(&seed, &["push", "-qf", "../remote.git", "HEAD:main"]);
        }
    }
    assert!(packs() < 50, "{}", packs());
    for commit in &commits {
        repo.tree_of(commit).await.unwrap();
    }
}
