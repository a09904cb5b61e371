//! Loops and nodes as any scheduler's API writes them.

use std::sync::Arc;

use flyball_core::ids::LoopUid;
use flyball_core::node::{NodeMark, NodeRecord};
use flyball_store::{CreateLoop, LoopRecord, NewLoop, SCHEMA_VERSION, StoreError, Update};

use crate::on_both;
use crate::setup::{Server, key, record, status};

on_both!(
    a_loop_is_created_once,
    many_loops_are_created_together,
    a_change_names_the_revision_it_is_based_on,
    a_rewrite_keeps_a_newer_versions_fields,
    nodes_are_marked_against_their_revision,
    the_installation_is_made_once_and_a_newer_schema_is_refused,
    the_server_says_who_it_is,
);

async fn a_loop_is_created_once(server: Server) {
    let store = server.store().await;
    let CreateLoop::Created { revision } =
        store.create_loop(&record("a"), &status("new")).await.expect("create")
    else {
        panic!("not created")
    };
    // The same submission again, as after a lost answer.
    let again = store.create_loop(&record("a"), &status("other")).await.expect("create");
    assert_eq!(again, CreateLoop::Created { revision });
    let other = LoopRecord { uid: LoopUid::from("other"), ..record("a") };
    let CreateLoop::Exists(found) =
        store.create_loop(&other, &status("new")).await.expect("create")
    else {
        panic!("created twice")
    };
    assert_eq!(*found.value, record("a"));
    let (loop_, first) = store.get_loop(&key("a")).await.expect("get").expect("loop");
    let first = first.expect("status");
    assert_eq!((loop_.mod_revision, first.mod_revision), (revision, revision));
    assert_eq!(first.value.message, "new");
    assert_eq!(store.get_loop(&key("b")).await.expect("get"), None);
}

async fn many_loops_are_created_together(server: Server) {
    let store = server.store().await;
    let new = |name: &str, uid: &str| NewLoop {
        record: Arc::new(LoopRecord { uid: uid.into(), ..record(name) }),
        status: Arc::new(status("new")),
    };
    let mut loops: Vec<NewLoop> =
        (0..300).map(|n| new(&format!("l{n}"), &format!("u{n}"))).collect();
    loops.push(new("l0", "another"));
    let results = store.create_loops(&loops).await;
    let mut revisions: Vec<i64> = results[..300]
        .iter()
        .map(|result| match result {
            Ok(CreateLoop::Created { revision }) => *revision,
            other => panic!("{other:?}"),
        })
        .collect();
    revisions.dedup();
    assert_eq!(revisions.len(), 3, "126 writes of width 2 fit into a request");
    assert!(matches!(&results[300], Ok(CreateLoop::Exists(found)) if found.value.uid.0 == "u0"));
}

async fn a_change_names_the_revision_it_is_based_on(server: Server) {
    let store = server.store().await;
    let created = store.create_loop(&record("a"), &status("new")).await.expect("create");
    let CreateLoop::Created { revision: created } = created else { panic!("exists") };
    let (found, _) = store.get_loop(&key("a")).await.expect("get").expect("loop");
    let cancelled = LoopRecord { cancel: Some("enough".to_owned()), ..record("a") };
    let Update::Done { revision } =
        store.update_loop(&cancelled, found.mod_revision, None).await.expect("update")
    else {
        panic!("conflict")
    };
    // The same change again, as after a lost answer.
    let again = store.update_loop(&cancelled, found.mod_revision, None).await.expect("update");
    assert_eq!(again, Update::Done { revision });
    let Update::Conflict(Some(now)) =
        store.update_loop(&record("a"), found.mod_revision, None).await.expect("update")
    else {
        panic!("overwritten")
    };
    assert_eq!((now.mod_revision, &*now.value), (revision, &cancelled));
    let gone = store.update_loop(&record("b"), 7, None).await.expect("update");
    assert_eq!(gone, Update::Conflict(None));
    // What rests on the observed state is refused when that has moved.
    let labelled = LoopRecord { labels: [("k".into(), "v".into())].into(), ..cancelled };
    let tried = store.update_loop(&labelled, revision, Some(revision)).await.expect("update");
    assert!(matches!(tried, Update::Conflict(Some(_))), "{tried:?}");
    let done = store.update_loop(&labelled, revision, Some(created)).await.expect("update");
    assert!(matches!(done, Update::Done { .. }), "{done:?}");
}

async fn a_rewrite_keeps_a_newer_versions_fields(server: Server) {
    let store = server.store().await;
    store.create_loop(&record("a"), &status("new")).await.expect("create");
    // A newer scheduler adds field 100 (a varint) to the envelope.
    let mut raw = server.raw().await;
    let spec = "/flyball/v1/loops/default/a/spec";
    let mut value = raw.get(spec, None).await.expect("get").kvs()[0].value().to_vec();
    let newer = [0xa0, 0x06, 0x2a];
    value.extend(newer);
    raw.put(spec, value, None).await.expect("put");
    let (found, _) = store.get_loop(&key("a")).await.expect("get").expect("loop");
    let cancelled = LoopRecord { cancel: Some("enough".to_owned()), ..record("a") };
    let done = store.update_loop(&cancelled, found.mod_revision, None).await.expect("update");
    assert!(matches!(done, Update::Done { .. }));
    let after = raw.get(spec, None).await.expect("get");
    assert!(after.kvs()[0].value().ends_with(&newer));
}

async fn nodes_are_marked_against_their_revision(server: Server) {
    let store = server.store().await;
    let mut node = NodeRecord { name: "n1".into(), ..NodeRecord::default() };
    node.unknown.insert("fromTheFuture".to_owned(), 1.into());
    let Update::Done { revision } = store.put_node(&node, 0).await.expect("put") else {
        panic!("conflict")
    };
    assert_eq!(store.put_node(&node, 0).await.expect("put"), Update::Done { revision });
    node.mark = NodeMark::Cordoned;
    let Update::Conflict(Some(found)) = store.put_node(&node, 0).await.expect("put") else {
        panic!("overwritten")
    };
    assert_eq!(found.mod_revision, revision);
    assert!(matches!(store.put_node(&node, revision).await.expect("put"), Update::Done { .. }));
    let found = store.get_node(&"n1".into()).await.expect("get").expect("node");
    assert_eq!(*found.value, node);
    assert_eq!(store.get_node(&"n2".into()).await.expect("get"), None);
}

async fn the_installation_is_made_once_and_a_newer_schema_is_refused(server: Server) {
    let first = server.store().await.installation().await.expect("installation");
    assert_eq!(first.schema_version, SCHEMA_VERSION);
    let again = server.store().await.installation().await.expect("installation");
    assert_eq!(first, again);
    // Format 1, id "x", schema version 9.
    let newer: &[u8] = &[0x08, 1, 0x12, 1, b'x', 0x18, 9];
    server.raw().await.put("/flyball/v1/installation", newer, None).await.expect("put");
    let refused = server.store().await.installation().await.expect_err("opened");
    assert!(matches!(refused, StoreError::Newer { found: 9, .. }));
    assert!(refused.to_string().contains("upgrade"), "{refused}");
}

async fn the_server_says_who_it_is(server: Server) {
    let store = server.store().await;
    let before = store.status().await.expect("status");
    assert!(!before.version.is_empty());
    store.installation().await.expect("installation");
    assert_eq!(store.status().await.expect("status").revision, before.revision + 1);
}
