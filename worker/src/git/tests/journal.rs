//! The journal over a local path.

use flyball_core::ids::{LoopUid, Token};
use flyball_core::record::{IterationRecord, JournalEntry};

use super::fixture::{Fixture, git, owner, refs};
use crate::git::{Journal, JournalError, RefUpdate};

fn iteration(number: u32) -> JournalEntry {
    JournalEntry::Iteration(Box::new(IterationRecord {
        number,
        reason: "line one\nline \0 two".to_owned(),
        ..IterationRecord::default()
    }))
}

#[tokio::test]
async fn records_are_appended_and_read_back_by_the_next_owner() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("a").await;
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    assert!(journal.last().is_none() && journal.tip().is_none());
    let a = owner(5, "a");
    journal.seal(&a, &base).await.unwrap();
    let update = RefUpdate { name: refs().run(Token(5)), old: None, new: base.clone() };
    let appended = journal.append(&a, iteration(1), &[update]).await.unwrap();
    assert_eq!((appended.record.sequence, appended.read_back), (2, false));
    assert_eq!(fixture.remote_ref("refs/flyball/inst/uid-1/journal"), appended.commit.as_str());
    assert_eq!(fixture.remote_ref("refs/flyball/inst/uid-1/run/5"), base.as_str());
    let subjects =
        git(&fixture.remote(), &["log", "--format=%s", "refs/flyball/inst/uid-1/journal"]);
    assert!(subjects.starts_with("iteration 1 reverted: line one line   two\na takes over"));

    let (repo, base) = fixture.run("b").await;
    let mut next = Journal::open(&repo, &refs()).await.unwrap();
    assert_eq!(next.records(), journal.records());
    let sealed = next.seal(&owner(9, "b"), &base).await.unwrap();
    assert_eq!(sealed.record.sequence, 3);
    let error = journal.append(&a, iteration(2), &[]).await.unwrap_err();
    assert_eq!(error, JournalError::Fenced { found_token: 9, own_token: 5 });
    let error = journal.append(&a, iteration(2), &[]).await.unwrap_err();
    assert_eq!(error, JournalError::Fenced { found_token: 9, own_token: 5 });
}

#[tokio::test]
async fn a_seal_is_refused_unless_its_token_is_newer() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("a").await;
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    journal.seal(&owner(5, "a"), &base).await.unwrap();
    for token in [4, 5] {
        let (repo, base) = fixture.run(&format!("b{token}")).await;
        let mut late = Journal::open(&repo, &refs()).await.unwrap();
        let error = late.seal(&owner(token, "b"), &base).await.unwrap_err();
        assert_eq!(error, JournalError::Fenced { found_token: 5, own_token: token });
    }
    // For another loop's owner it is sealed already if anybody came after the run in question.
    let (repo, _) = fixture.run("other").await;
    let mut other = Journal::open(&repo, &refs()).await.unwrap();
    let by = LoopUid::from("x");
    let sealed = other.seal_for_other(&owner(6, "x"), &by, Token(4)).await.unwrap();
    assert_eq!(sealed, None);
    // An older owner that appends between our read and our push only costs another round.
    let (repo, base) = fixture.run("c").await;
    let mut newer = Journal::open(&repo, &refs()).await.unwrap();
    journal.append(&owner(5, "a"), iteration(1), &[]).await.unwrap();
    let sealed = newer.seal(&owner(6, "c"), &base).await.unwrap();
    assert_eq!(sealed.record.sequence, 3);
    // One that is newer than we are fences us.
    let (repo, base) = fixture.run("d").await;
    let mut older = Journal::open(&repo, &refs()).await.unwrap();
    let (repo, _) = fixture.run("e").await;
    let mut newest = Journal::open(&repo, &refs()).await.unwrap();
    newest.seal(&owner(8, "e"), &base).await.unwrap();
    let error = older.seal(&owner(7, "d"), &base).await.unwrap_err();
    assert_eq!(error, JournalError::Fenced { found_token: 8, own_token: 7 });
}

#[tokio::test]
async fn a_seal_for_another_loop_shuts_out_that_run_and_nobody_later() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("a").await;
    let mut lost = Journal::open(&repo, &refs()).await.unwrap();
    lost.seal(&owner(5, "a"), &base).await.unwrap();
    let by = LoopUid::from("x");
    let (repo, _) = fixture.run("x").await;
    let mut other = Journal::open(&repo, &refs()).await.unwrap();
    // The lost run appends once more between the read and the push.
    lost.append(&owner(5, "a"), iteration(1), &[]).await.unwrap();
    let sealed = other.seal_for_other(&owner(7, "x"), &by, Token(5)).await.unwrap();
    assert_eq!(sealed.unwrap().record.sequence, 3);
    let error = lost.append(&owner(5, "a"), iteration(2), &[]).await.unwrap_err();
    assert_eq!(error, JournalError::Fenced { found_token: 7, own_token: 5 });
    // The loop's next owner is at work when a third one still carries the lost run.
    let (repo, base) = fixture.run("b").await;
    let mut next = Journal::open(&repo, &refs()).await.unwrap();
    next.seal(&owner(8, "b"), &base).await.unwrap();
    let (repo, _) = fixture.run("y").await;
    let mut third = Journal::open(&repo, &refs()).await.unwrap();
    assert_eq!(third.seal_for_other(&owner(9, "y"), &by, Token(5)).await.unwrap(), None);
    next.append(&owner(8, "b"), iteration(1), &[]).await.unwrap();
}

#[tokio::test]
async fn a_publish_branch_that_moved_is_not_a_fence() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("a").await;
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    let a = owner(5, "a");
    journal.seal(&a, &base).await.unwrap();
    let tip = journal.tip().cloned().unwrap();
    let moved = fixture.commit_elsewhere("docs/x.md", "x\n");
    let at = jiff::Timestamp::UNIX_EPOCH;
    let tree = repo.tree_of(&base).await.unwrap();
    let commit =
        repo.commit_tree(&tree, std::slice::from_ref(&base), "candidate", at).await.unwrap();
    let main = "refs/heads/main".to_owned();
    let update = RefUpdate { name: main.clone(), old: Some(base), new: commit.clone() };
    let published = JournalEntry::Published { commit: commit.to_string(), reference: main.clone() };
    let error = journal.append(&a, published.clone(), &[update]).await.unwrap_err();
    let found = Some(moved.parse().unwrap());
    assert_eq!(error, JournalError::PublishMoved { reference: main.clone(), found });
    assert_eq!(fixture.remote_ref("refs/flyball/inst/uid-1/journal"), tip.as_str());
    assert_eq!(journal.find_published(&commit, 1), None);
    let old = Some(moved.parse().unwrap());
    let update = RefUpdate { name: main.clone(), old, new: commit.clone() };
    journal.append(&a, published, &[update]).await.unwrap();
    assert_eq!(fixture.remote_ref(&main), commit.as_str());
    let (repo, _) = fixture.run("b").await;
    let next = Journal::open(&repo, &refs()).await.unwrap();
    assert_eq!(next.find_published(&commit, 1), Some(main.clone()));
    assert!(repo.remote_holds(&main, &commit).await.unwrap());
    fixture.commit_elsewhere("docs/y.md", "y\n");
    assert!(repo.remote_holds(&main, &commit).await.unwrap(), "below what others put on top");
    assert!(!repo.remote_holds("refs/heads/gone", &commit).await.unwrap());
    assert_eq!(next.find_published(&commit, 2), None, "a changed spec has to be met anew");
}

#[tokio::test]
async fn a_push_without_an_answer_is_in_doubt_until_the_journal_moves() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("a").await;
    let mut journal = Journal::open(&repo, &refs()).await.unwrap();
    let a = owner(5, "a");
    journal.seal(&a, &base).await.unwrap();
    assert!(!repo.doubt().holds());
    let away = fixture.remote().with_extension("away");
    std::fs::rename(fixture.remote(), &away).unwrap();
    journal.append(&a, iteration(1), &[]).await.unwrap_err();
    assert!(repo.doubt().holds(), "it may have left");
    std::fs::rename(&away, fixture.remote()).unwrap();
    journal.append(&a, iteration(1), &[]).await.unwrap();
    assert!(!repo.doubt().holds(), "what comes now is refused");
    let (other, _) = fixture.run("b").await;
    let mut next = Journal::open(&other, &refs()).await.unwrap();
    next.seal(&owner(6, "b"), &base).await.unwrap();
    journal.append(&a, iteration(2), &[]).await.unwrap_err();
    assert!(!repo.doubt().holds(), "somebody else has moved it");
}
