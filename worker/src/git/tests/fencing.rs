//! The proof that the journal is a seal: an owner that was replaced between its look at the
//! server's refs and its send moves nothing, over a local path, git daemon and smart HTTP. And the
//! control: a push without the journal would have got through.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flyball_core::ids::Token;
use flyball_core::record::JournalEntry;

use super::fixture::{Fixture, git, owner, refs};
use super::servers::{Fault, Server};
use crate::git::{GitError, Journal, JournalError, Oid, RefUpdate, RunRepo};

/// A pre-push hook runs after the advertisement was read and before anything is sent: it reports
/// that and waits to be let go.
struct Gate {
    hooks: PathBuf,
    reached: PathBuf,
    go: PathBuf,
}

impl Gate {
    /// Lets `passes` pushes through, then stops.
    fn new(fixture: &Fixture, passes: u32) -> Self {
        let hooks = fixture.dir.path().join("hooks");
        let (reached, go) = (hooks.join("reached"), hooks.join("go"));
        let count = hooks.join("count");
        fs::create_dir(&hooks).unwrap();
        let script = format!(
            "#!/bin/sh\necho >> {count}\n[ $(wc -l < {count}) -gt {passes} ] || exit 0\n\
             : > {reached}\nwhile [ ! -e {go} ]; do sleep 0.02; done\n",
            count = count.display(),
            reached = reached.display(),
            go = go.display(),
        );
        fs::write(hooks.join("pre-push"), script).unwrap();
        fs::set_permissions(hooks.join("pre-push"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { hooks, reached, go }
    }

    async fn wait_until_reached(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.reached.exists() {
            assert!(Instant::now() < deadline, "the push never came to its hook");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[derive(Clone, Copy)]
enum Transport {
    Path,
    Daemon,
    Http,
}

fn serve(fixture: &Fixture, transport: Transport) -> (Option<Server>, String) {
    let root = fixture.dir.path();
    match transport {
        Transport::Path => (None, fixture.remote().to_string_lossy().into_owned()),
        Transport::Daemon => {
            let server = Server::daemon(root);
            let url = server.url("git", "remote.git");
            (Some(server), url)
        }
        Transport::Http => {
            let server = Server::http(root);
            let url = server.url("http", "remote.git");
            (Some(server), url)
        }
    }
}

async fn candidate(repo: &RunRepo, base: &Oid) -> Oid {
    let tree = repo.tree_of(base).await.unwrap();
    let at = jiff::Timestamp::UNIX_EPOCH;
    repo.commit_tree(&tree, std::slice::from_ref(base), "candidate", at).await.unwrap()
}

const PUBLISH: &str = "refs/heads/flyball/fix";

async fn replaced_owner_moves_nothing(transport: Transport) {
    let fixture = Fixture::new();
    let (_server, url) = serve(&fixture, transport);
    let gate = Gate::new(&fixture, 1);
    let mut settings = fixture.settings();
    settings.hooks_path = Some(gate.hooks.clone());
    let cache = fixture.cache_with("old", &url, settings).await;
    let (repo, base) = fixture.run_on(&cache, "old").await;
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    let old = owner(5, "old");
    journal.seal(&old, &base).await.unwrap();

    let commit = candidate(&repo, &base).await;
    let updates = [
        RefUpdate { name: refs().run(Token(5)), old: None, new: commit.clone() },
        RefUpdate { name: PUBLISH.to_owned(), old: None, new: commit.clone() },
    ];
    let published =
        JournalEntry::Published { commit: commit.to_string(), reference: PUBLISH.to_owned() };
    let pushing = tokio::spawn(async move { journal.append(&old, published, &updates).await });
    gate.wait_until_reached().await;

    let cache = fixture.cache("new", &url).await;
    let (repo, base) = fixture.run_on(&cache, "new").await;
    let mut next = Journal::open(&repo, &refs()).await.unwrap();
    let sealed = next.seal(&owner(6, "new"), &base).await.unwrap();

    fs::write(&gate.go, "").unwrap();
    let error = pushing.await.unwrap().unwrap_err();
    assert_eq!(error, JournalError::Fenced { found_token: 6, own_token: 5 });
    assert_eq!(fixture.remote_ref(&refs().journal()), sealed.commit.as_str());
    assert_eq!(fixture.remote_ref(&refs().run(Token(5))), "");
    assert_eq!(fixture.remote_ref(PUBLISH), "");
    let iteration = JournalEntry::Iteration(Box::default());
    next.append(&owner(6, "new"), iteration, &[]).await.unwrap();
}

/// The same race with a push that compares the journal and does not move it: it gets through, so
/// the proof above can fail.
async fn comparing_alone_fences_nothing(transport: Transport) {
    let fixture = Fixture::new();
    let (_server, url) = serve(&fixture, transport);
    let gate = Gate::new(&fixture, 0);
    let cache = fixture.cache("old", &url).await;
    let (repo, base) = fixture.run_on(&cache, "old").await;
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    let sealed = journal.seal(&owner(5, "old"), &base).await.unwrap();
    let commit = candidate(&repo, &base).await;

    let hooks = format!("core.hooksPath={}", gate.hooks.display());
    let journal_is = format!("--force-with-lease={}:{}", refs().journal(), sealed.commit);
    let publish_is = format!("--force-with-lease={PUBLISH}:");
    let journal_same = format!("{}:{}", sealed.commit, refs().journal());
    let publish = format!("{commit}:{PUBLISH}");
    let dir = fixture.dir.path().join("old/run/git");
    let pushing = tokio::task::spawn_blocking(move || {
        let arguments = ["-c", &hooks, "push", "--atomic", &journal_is, &publish_is, &url];
        git(&dir, &[&arguments[..], &[&journal_same, &publish]].concat())
    });
    gate.wait_until_reached().await;
    let (repo, base) = fixture.run("new").await;
    let mut next = Journal::open(&repo, &refs()).await.unwrap();
    next.seal(&owner(6, "new"), &base).await.unwrap();
    fs::write(&gate.go, "").unwrap();
    pushing.await.unwrap();
    assert_eq!(fixture.remote_ref(PUBLISH), commit.as_str(), "the stale owner published");
}

#[tokio::test]
async fn replaced_owner_moves_nothing_over_a_path() {
    replaced_owner_moves_nothing(Transport::Path).await;
}

#[tokio::test]
async fn replaced_owner_moves_nothing_over_git_daemon() {
    replaced_owner_moves_nothing(Transport::Daemon).await;
}

#[tokio::test]
async fn replaced_owner_moves_nothing_over_smart_http() {
    replaced_owner_moves_nothing(Transport::Http).await;
}

#[tokio::test]
async fn comparing_alone_fences_nothing_over_a_path() {
    comparing_alone_fences_nothing(Transport::Path).await;
}

#[tokio::test]
async fn comparing_alone_fences_nothing_over_git_daemon() {
    comparing_alone_fences_nothing(Transport::Daemon).await;
}

#[tokio::test]
async fn comparing_alone_fences_nothing_over_smart_http() {
    comparing_alone_fences_nothing(Transport::Http).await;
}

#[tokio::test]
async fn of_two_first_seals_the_older_is_refused() {
    let fixture = Fixture::new();
    let (_server, url) = serve(&fixture, Transport::Http);
    let gate = Gate::new(&fixture, 0);
    let mut settings = fixture.settings();
    settings.hooks_path = Some(gate.hooks.clone());
    let cache = fixture.cache_with("old", &url, settings).await;
    let (repo, base) = fixture.run_on(&cache, "old").await;
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    let sealing = tokio::spawn(async move { journal.seal(&owner(5, "old"), &base).await });
    gate.wait_until_reached().await;
    let (repo, base) = fixture.run("new").await;
    let mut next = Journal::open(&repo, &refs()).await.unwrap();
    let sealed = next.seal(&owner(6, "new"), &base).await.unwrap();
    fs::write(&gate.go, "").unwrap();
    let error = sealing.await.unwrap().unwrap_err();
    assert_eq!(error, JournalError::Fenced { found_token: 6, own_token: 5 });
    assert_eq!(fixture.remote_ref(&refs().journal()), sealed.commit.as_str());
}

#[tokio::test]
async fn a_lost_answer_is_resolved_by_reading_back() {
    let fixture = Fixture::new();
    let (server, url) = serve(&fixture, Transport::Http);
    let server = server.unwrap();
    let cache = fixture.cache("w", &url).await;
    let (repo, base) = fixture.run_on(&cache, "w").await;
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    let own = owner(5, "w");
    journal.seal(&own, &base).await.unwrap();
    let mut run: Option<Oid> = None;
    for (fault, read_back) in [(Fault::LoseAnswer, true), (Fault::LoseRequest, false)] {
        let commit = candidate(&repo, run.as_ref().unwrap_or(&base)).await;
        let update = RefUpdate { name: refs().run(Token(5)), old: run, new: commit.clone() };
        server.arm(fault);
        let iteration = JournalEntry::Iteration(Box::default());
        let appended = journal.append(&own, iteration, &[update]).await.unwrap();
        assert_eq!(appended.read_back, read_back, "{fault:?}");
        assert_eq!(fixture.remote_ref(&refs().journal()), appended.commit.as_str());
        assert_eq!(fixture.remote_ref(&refs().run(Token(5))), commit.as_str());
        run = Some(commit);
    }
    assert_eq!(journal.last().unwrap().sequence, 3, "each record is there once");
    // Answer lost and the server away: that is unknown, and the journal tells later.
    drop(server);
    let iteration = JournalEntry::Iteration(Box::default());
    let error = journal.append(&own, iteration, &[]).await.unwrap_err();
    assert!(matches!(error, JournalError::Git(GitError::Unknown { .. })), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn servers_that_cannot_or_will_not_are_named() {
    let fixture = Fixture::new();
    let remote = fixture.remote();
    git(&remote, &["config", "receive.advertiseAtomic", "false"]);
    for transport in [Transport::Http, Transport::Daemon, Transport::Path] {
        let (_server, url) = serve(&fixture, transport);
        let cache = fixture.cache("w", &url).await;
        let (repo, base) = fixture.run_on(&cache, "w").await;
        let mut journal = Journal::open(&repo, &refs()).await.unwrap();
        let error = journal.seal(&owner(5, "w"), &base).await.unwrap_err();
        assert_eq!(error, JournalError::Git(GitError::AtomicUnsupported));
        assert!(!error.is_retryable());
    }
    git(&remote, &["config", "receive.advertiseAtomic", "true"]);
    let (repo, base) = fixture.run("w").await;
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    let hook = remote.join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho only on Fridays >&2\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let error = journal.seal(&owner(5, "w"), &base).await.unwrap_err();
    let JournalError::Git(GitError::Rejected { message }) = &error else { panic!("{error}") };
    assert!(message.contains("only on Fridays") && message.contains("pre-receive"), "{message}");
    assert!(!error.is_retryable() && fixture.remote_ref(&refs().journal()).is_empty());
}

/// Has the server name a file that it reads when it unpacks, and that is not there.
fn cannot_unpack(remote: &Path) -> PathBuf {
    let missing = remote.join("missing");
    git(remote, &["config", "receive.fsckObjects", "true"]);
    git(remote, &["config", "receive.fsck.skipList", missing.to_str().unwrap()]);
    missing
}

#[tokio::test]
async fn a_push_that_the_server_cannot_unpack_is_tried_again() {
    let fixture = Fixture::new();
    let missing = cannot_unpack(&fixture.remote());
    let hooks = fixture.dir.path().join("hooks");
    fs::create_dir(&hooks).unwrap();
    let count = hooks.join("count");
    // By the second try the server has what it lacks.
    let script = format!(
        "#!/bin/sh\necho >> {count}\n[ $(wc -l < {count}) -lt 2 ] || : > {missing}\n",
        count = count.display(),
        missing = missing.display(),
    );
    fs::write(hooks.join("pre-push"), script).unwrap();
    fs::set_permissions(hooks.join("pre-push"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut settings = fixture.settings();
    settings.hooks_path = Some(hooks);
    let cache = fixture.cache_with("w", fixture.remote().to_str().unwrap(), settings).await;
    let (repo, base) = fixture.run_on(&cache, "w").await;
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    journal.seal(&owner(5, "w"), &base).await.unwrap();
    assert_eq!(fs::read_to_string(count).unwrap().lines().count(), 2);
    assert!(!repo.doubt().holds());
}

#[tokio::test]
async fn a_server_that_never_unpacks_is_away_and_one_with_rules_refuses() {
    let fixture = Fixture::new();
    let remote = fixture.remote();
    cannot_unpack(&remote);
    let (repo, base) = fixture.run("w").await;
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    let error = journal.seal(&owner(5, "w"), &base).await.unwrap_err();
    let JournalError::Git(GitError::Unreachable { message }) = &error else { panic!("{error}") };
    assert!(message.contains("unpack"), "{message}");
    assert!(error.is_retryable() && fixture.remote_ref(&refs().journal()).is_empty());
    git(&remote, &["config", "receive.fsckObjects", "false"]);
    git(&remote, &["config", "receive.maxInputSize", "5"]);
    let error = journal.seal(&owner(5, "w"), &base).await.unwrap_err();
    let JournalError::Git(GitError::Rejected { message }) = &error else { panic!("{error}") };
    assert!(message.contains("maximum allowed size") && !error.is_retryable(), "{message}");
}

#[tokio::test]
async fn an_own_push_that_lands_late_is_not_taken_for_another_owner() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("w").await;
    let own = owner(5, "w");
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    journal.seal(&own, &base).await.unwrap();
    let mut before = journal.clone();
    let iteration = JournalEntry::Iteration(Box::default());
    journal.append(&own, iteration.clone(), &[]).await.unwrap();
    assert_eq!(before.append(&own, iteration, &[]).await.unwrap_err(), JournalError::Late);
}
