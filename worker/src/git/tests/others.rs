//! Who else has begun work in a repository, and that its journal's deletion shuts it out.

use flyball_core::ids::{InstallationId, LoopUid};
use flyball_core::record::JournalEntry;
use flyball_core::resource::PathSet;
use flyball_core::status::{Outcome, Phase, Reason};

use super::fixture::{Fixture, git, owner};
use crate::git::{DEFAULT_PREFIX, Journal, JournalError, LoopRefs, Oid, Other, Owner, RunRepo};

const OURS: &str = "0123456789abcdef0123456789abcdef";
const THEIRS: &str = "fedcba9876543210fedcba9876543210";

fn refs_of(installation: &str, uid: &str) -> LoopRefs {
    LoopRefs::new(DEFAULT_PREFIX, &InstallationId::from(installation), &LoopUid::from(uid))
}

/// A loop that somebody has taken over.
async fn begun(repo: &RunRepo, base: &Oid, refs: &LoopRefs, owns: &[&str]) -> (Journal, Owner) {
    let owns = owns.iter().map(|one| (*one).to_owned()).collect();
    let owner = Owner { owns: Some(owns), ..owner(90, "n1") };
    let mut journal = Journal::open(repo, refs).await.unwrap();
    journal.seal(&owner, base).await.unwrap();
    (journal, owner)
}

async fn in_the_way(repo: &RunRepo, patterns: &[&str]) -> Vec<String> {
    let paths = PathSet::of_patterns(patterns).unwrap();
    let others = repo.journals_of_others(&refs_of(OURS, "mine")).await.unwrap();
    let rival = |other: &&Other| other.last.as_ref().is_none_or(|last| last.may_act_on(&paths));
    others.iter().filter(rival).map(|other| other.reference.clone()).collect()
}

#[tokio::test]
async fn only_what_others_have_begun_on_the_same_paths_is_in_the_way() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("w").await;
    assert_eq!(repo.journals_of_others(&refs_of(OURS, "mine")).await.unwrap(), []);
    // Of this installation, which its claims keep apart.
    begun(&repo, &base, &refs_of(OURS, "one"), &["**"]).await;
    // A branch, and a ref that is no loop's.
    for name in ["refs/flyball/some/branch/journal", &format!("refs/flyball/{THEIRS}/a/b/journal")]
    {
        git(&fixture.remote(), &["update-ref", name, base.as_str()]);
    }
    assert_eq!(repo.journals_of_others(&refs_of(OURS, "mine")).await.unwrap(), []);

    let (theirs, _) = begun(&repo, &base, &refs_of(THEIRS, "src"), &["src/**"]).await;
    let others = repo.journals_of_others(&refs_of(OURS, "mine")).await.unwrap();
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].installation.as_str(), THEIRS);
    assert_eq!(others[0].last.as_ref(), theirs.last());
    assert_eq!(in_the_way(&repo, &["src/lib.rs"]).await, [theirs.refs().journal()]);
    assert_eq!(in_the_way(&repo, &["README.md"]).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_has_ended_is_not_and_what_cannot_be_read_is() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("w").await;
    let (mut journal, owner) = begun(&repo, &base, &refs_of(THEIRS, "a"), &["**"]).await;
    assert_eq!(in_the_way(&repo, &["src/**"]).await.len(), 1);
    // Sealed for another loop of theirs, it still tells its own paths and is not over.
    let other = Owner { token: flyball_core::ids::Token(95), owns: None, ..owner.clone() };
    journal.seal_for_other(&other, &LoopUid::from("b"), owner.token).await.unwrap().unwrap();
    assert_eq!(in_the_way(&repo, &["src/**"]).await.len(), 1);
    assert_eq!(journal.last().unwrap().owns, owner.owns);
    let outcome = Outcome {
        phase: Phase::Cancelled,
        reason: Reason::ByUser,
        message: String::new(),
        evidence: Vec::new(),
        retry_after_ms: 0,
        need: None,
    };
    let ended = JournalEntry::Ended { outcome };
    journal.append(&other, ended, &[]).await.unwrap();
    assert_eq!(in_the_way(&repo, &["src/**"]).await, Vec::<String>::new());

    let strange = refs_of(THEIRS, "strange").journal();
    git(&fixture.remote(), &["update-ref", &strange, base.as_str()]);
    assert_eq!(in_the_way(&repo, &["src/**"]).await, [strange]);
}

#[tokio::test]
async fn a_deleted_journal_fences_whoever_wrote_it() {
    let fixture = Fixture::new();
    let (repo, base) = fixture.run("w").await;
    let refs = refs_of(THEIRS, "a");
    let (mut journal, owner) = begun(&repo, &base, &refs, &["**"]).await;
    let tree = repo.tree_of(&base).await.unwrap();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let commit = repo.commit_tree(&tree, std::slice::from_ref(&base), "late", now).await.unwrap();
    let remote = fixture.remote();
    git(&remote, &["push", "--quiet", ".", "--delete", &refs.journal()]);
    assert_eq!(in_the_way(&repo, &["src/**"]).await, Vec::<String>::new());
    let entry = JournalEntry::Published {
        commit: commit.to_string(),
        reference: "refs/heads/main".to_owned(),
    };
    let update = crate::git::RefUpdate {
        name: "refs/heads/main".to_owned(),
        old: Some(base.clone()),
        new: commit,
    };
    let pushed = journal.append(&owner, entry, &[update]).await;
    assert!(matches!(pushed, Err(JournalError::Fenced { .. })), "{pushed:?}");
    assert_eq!(fixture.remote_ref("refs/heads/main"), base.to_string());
    assert_eq!(fixture.remote_ref(&refs.journal()), "");
}
