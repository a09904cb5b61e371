//! The leader's writes: fenced, all or nothing each, independent of their neighbours.

use std::sync::Arc;

use flyball_core::ids::{LoopUid, Token};
use flyball_core::seal::{GivenUp, SealDuty};
use flyball_core::spec::Access;
use flyball_store::{
    Assign, Campaign, CommitError, Found, Mutation, MutationResult, OrphanKey, OwnerKey, PutDuty,
    PutNode, PutStatus, RemoveLoop, RemoveOrphan, Update,
};

use crate::on_both;
use crate::setup::{Server, TTL, World, assign, exclusive, key, lead, leader, release, status};

on_both!(
    a_deposed_leader_is_fenced,
    an_assignment_is_one_revision_and_its_release_leaves_nothing,
    a_conflict_on_one_entry_leaves_nothing,
    readers_share_and_are_refused_by_an_owner,
    a_dead_session_refuses_only_its_own_assignment,
    an_assignment_of_a_changed_loop_is_refused,
    one_key_twice_in_a_batch_is_decided_in_order,
    large_batches_are_split_and_all_answered,
    what_is_too_large_is_said_and_stops_nothing,
    a_release_spares_keys_that_became_anothers,
    loops_are_removed_only_unowned_and_unchanged,
    a_removed_loop_leaves_its_seal_duty_in_the_same_revision,
    a_token_guards_the_owners_status,
    node_records_and_orphans_are_compared,
);

fn put_status(name: &str, message: &str, revision: i64, token: Option<i64>) -> Mutation {
    Mutation::PutStatus(PutStatus {
        key: key(name),
        status: Arc::new(status(message)),
        status_revision: revision,
        token: token.map(Token),
    })
}

fn is_committed(result: &MutationResult) -> bool {
    matches!(result, MutationResult::Committed { .. })
}

async fn a_deposed_leader_is_fenced(server: Server) {
    let old = World::new(&server).await;
    let revision = old.create("a").await;
    let other = server.store().await;
    let Campaign::Held(held) = other.campaign(&leader("s2"), TTL).await.expect("campaign") else {
        panic!("two leaders")
    };
    assert_eq!(held.value.id, "s1");
    // The lease ends behind the leader's back, as after a long pause.
    other.revoke(old.leadership.lease).await.expect("revoke");
    let new = lead(&other, "s2").await;
    assert!(new.create_revision > old.leadership.create_revision);

    let commit = old.commit(&[put_status("a", "late", revision, None)]).await;
    assert_eq!(commit.results, [MutationResult::NotApplied]);
    let Some(CommitError::Fenced { leader: Some(found) }) = commit.error else {
        panic!("not fenced: {:?}", commit.error)
    };
    assert_eq!(found.value.id, "s2");
    assert_eq!(old.status_revision("a").await, revision);
    // Control: it is the fence that refuses, nothing else.
    let unfenced = World { store: old.store.clone(), leadership: new.clone() };
    unfenced.committed(put_status("a", "late", revision, None)).await;

    // Resigning late does not depose the new one.
    old.store.resign(&old.leadership).await.expect("resign");
    let leads = other.leader().await.expect("leader").expect("nobody leads");
    assert_eq!(leads.create_revision, new.create_revision);
    other.resign(&new).await.expect("resign");
    assert_eq!(other.leader().await.expect("leader"), None);
}

async fn an_assignment_is_one_revision_and_its_release_leaves_nothing(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let revision = world.create("a").await;
    let owners = exclusive(&["git/r/src/**", "gpu/n 1/0"]);
    let token = world.committed(assign("a", "n1", &session, revision, owners.clone())).await;
    let claim = world.store.get_claim(&key("a")).await.expect("get").expect("claim");
    assert_eq!((claim.create_revision, claim.lease), (token, session.lease));
    assert_eq!(world.status_revision("a").await, token);
    let state = world.store.snapshot(token).await.expect("snapshot");
    assert_eq!(state.owners.len(), 2);
    for (owner, stored) in &state.owners {
        assert_eq!((stored.create_revision, stored.lease), (token, session.lease));
        assert_eq!(stored.value.key, key("a"));
        assert_eq!(owner.access(), Access::Exclusive);
    }

    let revision = world.committed(release("a", token, owners)).await;
    let state = world.store.snapshot(revision).await.expect("snapshot");
    assert!(state.owners.is_empty() && state.claims.is_empty());
    assert_eq!(state.statuses[0].1.value.message, "released");
}

async fn a_conflict_on_one_entry_leaves_nothing(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let (a, b) = (world.create("a").await, world.create("b").await);
    world.committed(assign("a", "n1", &session, a, exclusive(&["git/r/x", "git/r/y"]))).await;
    let wanted = exclusive(&["git/r/w", "git/r/y", "git/r/z"]);
    let commit = world.commit(&[assign("b", "n1", &session, b, wanted)]).await;
    let [MutationResult::Refused(found)] = &commit.results[..] else { panic!("{commit:?}") };
    let Found::Owned { owner, by, lease, .. } = found else { panic!("{found:?}") };
    assert_eq!(owner.resource(), "git/r/y");
    assert_eq!((by, *lease), (&Some(key("a")), session.lease));
    assert!(found.to_string().contains("git/r/y is owned by loop default/a"), "{found}");
    let state = world.store.snapshot(0).await.expect("snapshot");
    assert_eq!((state.claims.len(), state.owners.len()), (1, 2));
    assert_eq!(world.status_revision("b").await, b);
}

async fn readers_share_and_are_refused_by_an_owner(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let mut revisions = Vec::new();
    for name in ["a", "b", "c", "d"] {
        revisions.push(world.create(name).await);
    }
    let read = |path: &str| vec![(Access::Read, path.to_owned())];
    let commit = world
        .commit(&[
            assign("a", "n1", &session, revisions[0], read("git/r/x")),
            assign("b", "n1", &session, revisions[1], read("git/r/x")),
            assign("c", "n1", &session, revisions[2], exclusive(&["git/r/y"])),
            // The owner is of the same batch: it must not slip past the compare.
            assign("d", "n1", &session, revisions[3], read("git/r/y")),
        ])
        .await;
    assert!(commit.results[..3].iter().all(is_committed), "{commit:?}");
    let MutationResult::Refused(Found::Owned { by, .. }) = &commit.results[3] else {
        panic!("{commit:?}")
    };
    assert_eq!(by, &Some(key("c")));
    let MutationResult::Committed { revision } = commit.results[0] else { panic!() };
    world.committed(release("a", revision, read("git/r/x"))).await;
    let state = world.store.snapshot(0).await.expect("snapshot");
    let shared = OwnerKey::new(Access::Read, "git/r/x", &key("b"));
    assert!(state.owners.iter().any(|(owner, _)| *owner == shared), "b still reads");
    assert_eq!(state.owners.len(), 2);
}

async fn an_assignment_of_a_changed_loop_is_refused(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let created = world.create("a").await;
    let (found, _) = world.store.get_loop(&key("a")).await.expect("get").expect("loop");
    let changed = flyball_store::LoopRecord { delete: true, ..(*found.value).clone() };
    world.store.update_loop(&changed, found.mod_revision, None).await.expect("update");
    let Mutation::Assign(assign) = assign("a", "n1", &session, created, Vec::new()) else {
        panic!()
    };
    let (now, _) = world.store.get_loop(&key("a")).await.expect("get").expect("loop");
    let at = |loop_revision: i64| Mutation::Assign(Assign { loop_revision, ..assign.clone() });
    let commit = world.commit(&[at(created)]).await;
    let moved = Found::LoopMoved { expected: created, found: now.mod_revision };
    assert_eq!(commit.results[0], MutationResult::Refused(moved));
    world.committed(at(now.mod_revision)).await;
}

async fn a_dead_session_refuses_only_its_own_assignment(server: Server) {
    let world = World::new(&server).await;
    let (dead, alive) = (world.session("n1").await, world.session("n2").await);
    let (a, b) = (world.create("a").await, world.create("b").await);
    world.store.revoke(dead.lease).await.expect("revoke");
    let commit = world
        .commit(&[
            assign("a", "n1", &dead, a, exclusive(&["git/r/x"])),
            assign("b", "n2", &alive, b, exclusive(&["git/r/y"])),
        ])
        .await;
    assert_eq!(commit.error, None);
    let gone = Found::SessionGone { node: "n1".into(), found: 0 };
    assert_eq!(commit.results[0], MutationResult::Refused(gone));
    assert!(is_committed(&commit.results[1]));

    // A session of a later life of the node is not the one that was decided on.
    let later = world.session("n1").await;
    let commit = world.commit(&[assign("a", "n1", &dead, a, Vec::new())]).await;
    let other = Found::SessionGone { node: "n1".into(), found: later.create_revision };
    assert_eq!(commit.results, [MutationResult::Refused(other)]);
}

async fn one_key_twice_in_a_batch_is_decided_in_order(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let (a, b) = (world.create("a").await, world.create("b").await);
    let commit = world
        .commit(&[
            put_status("a", "first", a, None),
            put_status("b", "beside", b, None),
            put_status("a", "second", a, None),
        ])
        .await;
    assert!(is_committed(&commit.results[0]) && is_committed(&commit.results[1]));
    let MutationResult::Refused(Found::StatusMoved { expected, found }) = commit.results[2] else {
        panic!("{commit:?}")
    };
    assert_eq!(expected, a);
    let commit = world
        .commit(&[
            assign("a", "n1", &session, found, exclusive(&["git/r/x"])),
            assign("b", "n1", &session, found, exclusive(&["git/r/x"])),
        ])
        .await;
    assert!(is_committed(&commit.results[0]), "{commit:?}");
    let MutationResult::Refused(refused) = &commit.results[1] else { panic!("{commit:?}") };
    assert!(matches!(refused, Found::Owned { .. }), "{refused:?}");
}

async fn large_batches_are_split_and_all_answered(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let names: Vec<String> = (0..300).map(|n| format!("l{n}")).collect();
    let mut revisions = Vec::new();
    for name in &names {
        revisions.push(world.create(name).await);
    }
    let puts: Vec<Mutation> = names
        .iter()
        .zip(&revisions)
        .map(|(name, revision)| put_status(name, "again", *revision, None))
        .collect();
    let commit = world.commit(&puts).await;
    assert_eq!(commit.error, None);
    let mut committed: Vec<i64> = commit
        .results
        .iter()
        .map(|result| match result {
            MutationResult::Committed { revision } => *revision,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(committed.is_sorted());
    let after = committed.clone();
    committed.dedup();
    assert_eq!(committed.len(), 3, "127 writes of width 1 fit into a request");

    // Sets of the largest size: 48 entries.
    let assigns: Vec<Mutation> = (0..100)
        .map(|n| {
            let paths: Vec<String> =
                (0..48).map(|e| format!("git/example.org/r/{n}/{e}")).collect();
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            assign(&names[n], "n1", &session, after[n], exclusive(&paths))
        })
        .collect();
    let commit = world.commit(&assigns).await;
    assert_eq!(commit.error, None);
    assert!(commit.results.iter().all(is_committed), "{:?}", commit.results);
    let state = world.store.snapshot(0).await.expect("snapshot");
    assert_eq!((state.claims.len(), state.owners.len()), (100, 4800));
}

async fn what_is_too_large_is_said_and_stops_nothing(server: Server) {
    let world = World::new(&server).await;
    let mut mutations = Vec::new();
    for (name, bytes) in [("a", 700_000), ("b", 900_000), ("c", 700_000), ("d", 700_000)] {
        let revision = world.create(name).await;
        mutations.push(put_status(name, &"x".repeat(bytes), revision, None));
    }
    let commit = world.commit(&mutations).await;
    assert_eq!(commit.error, None);
    let MutationResult::TooLarge { why } = &commit.results[1] else { panic!("not too large") };
    assert!(why.contains("more than the 786432 allowed"), "{why}");
    for index in [0, 2, 3] {
        assert!(is_committed(&commit.results[index]));
    }
}

async fn a_release_spares_keys_that_became_anothers(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let revision = world.create("a").await;
    let owners = exclusive(&["git/r/x", "git/r/y"]);
    let token = world.committed(assign("a", "n1", &session, revision, owners.clone())).await;
    // An operator deletes one owner key and another loop gets it.
    let mut raw = server.raw().await;
    raw.delete("/flyball/v1/owners/x/git/r/x", None).await.expect("delete");
    let b = world.create("b").await;
    world.committed(assign("b", "n1", &session, b, exclusive(&["git/r/x"]))).await;
    world.committed(release("a", token, owners)).await;
    let state = world.store.snapshot(0).await.expect("snapshot");
    let left: Vec<_> =
        state.owners.iter().map(|(owner, by)| (owner.resource(), by.value.key.clone())).collect();
    assert_eq!(left, [("git/r/x", key("b"))]);
}

async fn loops_are_removed_only_unowned_and_unchanged(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let revision = world.create("a").await;
    let remove = |loop_revision| {
        Mutation::RemoveLoop(RemoveLoop { key: key("a"), loop_revision, duty: None })
    };
    let token = world.committed(assign("a", "n1", &session, revision, Vec::new())).await;
    let commit = world.commit(&[remove(revision), remove(revision - 1)]).await;
    let owned = Found::Claimed { token: Token(token), node: Some(("n1".into(), "n1-life".into())) };
    assert_eq!(commit.results[0], MutationResult::Refused(owned));
    let moved = Found::LoopMoved { expected: revision - 1, found: revision };
    assert_eq!(commit.results[1], MutationResult::Refused(moved));
    world.committed(release("a", token, Vec::new())).await;
    world.committed(remove(revision)).await;
    assert_eq!(world.store.get_loop(&key("a")).await.expect("get"), None);
    let state = world.store.snapshot(0).await.expect("snapshot");
    assert!(state.statuses.is_empty() && state.loops.is_empty());
}

fn put_duty(message: &str, revision: i64) -> PutDuty {
    let uid = LoopUid::from("uid-a");
    let duty =
        SealDuty { loop_uid: uid.clone(), loop_key: message.to_owned(), ..SealDuty::default() };
    PutDuty { uid, duty: Some(Arc::new(duty)), revision }
}

async fn a_removed_loop_leaves_its_seal_duty_in_the_same_revision(server: Server) {
    let world = World::new(&server).await;
    let loop_revision = world.create("a").await;
    let remove =
        |duty| Mutation::RemoveLoop(RemoveLoop { key: key("a"), loop_revision, duty: Some(duty) });
    // Decided on another duty than there is: nothing of it is done.
    let commit = world.commit(&[remove(put_duty("stale", 3))]).await;
    let moved = Found::DutyMoved { expected: 3, found: 0 };
    assert_eq!(commit.results, [MutationResult::Refused(moved)]);
    assert!(world.store.get_loop(&key("a")).await.expect("get").is_some());
    let removed = world.committed(remove(put_duty("left", 0))).await;
    let state = world.store.snapshot(0).await.expect("snapshot");
    assert!(state.loops.is_empty() && state.statuses.is_empty(), "{state:?}");
    let [(uid, duty)] = &state.duties[..] else { panic!("{:?}", state.duties) };
    assert_eq!((uid.as_str(), duty.mod_revision), ("uid-a", removed));
    assert_eq!(duty.value.loop_key, "left");

    // An operator gives it up from any scheduler; what the leader had decided before is refused.
    let uid = LoopUid::from("uid-a");
    let found = world.store.get_duty(&uid).await.expect("get").expect("there");
    let mut given_up = SealDuty::clone(&found.value);
    given_up.given_up = Some(GivenUp { by: "ann".to_owned(), ..GivenUp::default() });
    let Update::Done { revision } =
        world.store.put_duty(&given_up, found.mod_revision).await.expect("put")
    else {
        panic!("refused")
    };
    // The same again was done already; another one on the old revision is not.
    let again = world.store.put_duty(&given_up, found.mod_revision).await.expect("put");
    assert_eq!(again, Update::Done { revision });
    let other = SealDuty { since: Some(jiff::Timestamp::MIN), ..given_up };
    let conflict = world.store.put_duty(&other, found.mod_revision).await.expect("put");
    assert!(matches!(conflict, Update::Conflict(Some(_))), "{conflict:?}");
    let end = |revision| Mutation::PutDuty(PutDuty { uid: uid.clone(), duty: None, revision });
    let commit = world.commit(&[end(found.mod_revision)]).await;
    let moved = Found::DutyMoved { expected: found.mod_revision, found: revision };
    assert_eq!(commit.results, [MutationResult::Refused(moved)]);
    world.committed(end(revision)).await;
    assert_eq!(world.store.get_duty(&uid).await.expect("get"), None);
}

async fn a_token_guards_the_owners_status(server: Server) {
    let world = World::new(&server).await;
    let session = world.session("n1").await;
    let created = world.create("a").await;
    let token = world.committed(assign("a", "n1", &session, created, Vec::new())).await;
    let revision = world.committed(put_status("a", "by owner", token, Some(token))).await;
    let commit = world.commit(&[put_status("a", "by nobody", revision, Some(token + 1))]).await;
    let gone = Found::ClaimGone { token: Token(token + 1) };
    assert_eq!(commit.results, [MutationResult::Refused(gone)]);
    // The claim ends with its lease; the owner's word counts no more.
    world.store.revoke(session.lease).await.expect("revoke");
    let commit = world.commit(&[put_status("a", "late", revision, Some(token))]).await;
    let gone = Found::ClaimGone { token: Token(token) };
    assert_eq!(commit.results, [MutationResult::Refused(gone)]);
    world.committed(put_status("a", "run lost", revision, None)).await;
}

async fn node_records_and_orphans_are_compared(server: Server) {
    let world = World::new(&server).await;
    let node = |reason: &str| {
        let record = flyball_core::node::NodeRecord {
            name: "n1".into(),
            mark_reason: reason.to_owned(),
            ..Default::default()
        };
        Arc::new(record)
    };
    let put = |record, node_revision| Mutation::PutNode(PutNode { record, node_revision });
    let revision = world.committed(put(node("new"), 0)).await;
    let commit = world.commit(&[put(node("stale"), 0)]).await;
    let moved = Found::NodeMoved { expected: 0, found: revision };
    assert_eq!(commit.results, [MutationResult::Refused(moved)]);
    world.committed(put(node("changed"), revision)).await;

    // An owner key overwritten without its lease would stay for ever.
    let mut raw = server.raw().await;
    raw.put("/flyball/v1/owners/x/git/r/x", "junk", None).await.expect("put");
    let owner = OwnerKey::new(Access::Exclusive, "git/r/x", &key("a"));
    let found = raw.get("/flyball/v1/owners/x/git/r/x", None).await.expect("get");
    let revision = found.kvs()[0].mod_revision();
    let remove = |revision| {
        Mutation::RemoveOrphan(RemoveOrphan {
            orphan: OrphanKey::Owner(owner.clone()),
            revision,
            duty: None,
        })
    };
    let commit = world.commit(&[remove(revision - 1)]).await;
    let moved = Found::OrphanMoved { found: revision };
    assert_eq!(commit.results, [MutationResult::Refused(moved)]);
    world.committed(remove(revision)).await;
    assert!(raw.get("/flyball/v1/owners/x/git/r/x", None).await.expect("get").kvs().is_empty());
}
