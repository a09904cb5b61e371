//! What a watch makes of the server's answers, without a server.

use etcd_client::proto::{PbKeyValue, PbResponseHeader};

use super::*;

async fn watch() -> WatchStream {
    let dead = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let store = Store::from_channel(crate::Channel::Tonic(dead)).await.unwrap();
    store.watch(5)
}

fn put(key: &str, revision: i64) -> PbEvent {
    let kv = PbKeyValue {
        key: key.as_bytes().to_vec(),
        mod_revision: revision,
        ..PbKeyValue::default()
    };
    PbEvent { kv: Some(kv), ..PbEvent::default() }
}

fn answer(events: Vec<PbEvent>, fragment: bool) -> PbWatchResponse {
    let header = Some(PbResponseHeader { revision: 99, ..PbResponseHeader::default() });
    PbWatchResponse { header, events, fragment, ..PbWatchResponse::default() }
}

/// Revision and number of changes of what is ready.
fn ready(watch: &mut WatchStream) -> Vec<(i64, usize)> {
    let changes = |item| match item {
        WatchItem::Changes { revision, changes } => (revision, changes.len()),
        other => panic!("unexpected {other:?}"),
    };
    watch.ready.drain(..).map(changes).collect()
}

#[tokio::test]
async fn each_revision_is_one_item_and_resumption_is_behind_the_last_event() {
    let mut watch = watch().await;
    let events = vec![
        put("/flyball/v1/leader", 5),
        put("/flyball/v1/nodes/a", 5),
        put("/flyball/v1/leader", 7),
    ];
    watch.on_response(answer(events, false));
    assert_eq!(ready(&mut watch), [(5, 2), (7, 1)]);
    // Not behind the header's revision, which runs ahead of the events.
    assert_eq!(watch.receive_from, 8);
}

#[tokio::test]
async fn a_fragmented_revision_waits_for_its_rest() {
    let mut watch = watch().await;
    let first = vec![put("/flyball/v1/leader", 5), put("/flyball/v1/nodes/a", 6)];
    watch.on_response(answer(first, true));
    assert_eq!(ready(&mut watch), [(5, 1)]);
    assert_eq!(watch.receive_from, 6);
    watch.on_response(answer(vec![put("/flyball/v1/nodes/b", 6)], false));
    assert_eq!(ready(&mut watch), [(6, 2)]);
}

#[tokio::test]
async fn what_was_yielded_before_is_not_yielded_again() {
    let mut watch = watch().await;
    watch.on_response(answer(vec![put("/flyball/v1/leader", 4)], false));
    assert_eq!(ready(&mut watch), []);
    assert_eq!(watch.receive_from, 5);
}

#[tokio::test]
async fn an_unreadable_value_is_a_change_and_does_not_end_the_watch() {
    let mut watch = watch().await;
    watch.on_response(answer(vec![put("/flyball/v1/claims/ns/a", 5)], false));
    let Some(WatchItem::Changes { changes, .. }) = watch.ready.pop_front() else {
        panic!("no changes")
    };
    assert!(matches!(&changes[0], Change::Undecodable { key, .. } if key.ends_with("ns/a")));
}

#[tokio::test]
async fn compaction_is_final() {
    let mut watch = watch().await;
    let gone =
        PbWatchResponse { canceled: true, compact_revision: 50, ..PbWatchResponse::default() };
    watch.on_response(gone);
    assert!(matches!(watch.next().await, WatchItem::Compacted { revision: 50 }));
    assert!(matches!(watch.next().await, WatchItem::Compacted { revision: 50 }));
}

#[tokio::test]
async fn a_dead_server_is_an_end_that_can_be_resumed() {
    let mut watch = watch().await;
    assert!(matches!(watch.next().await, WatchItem::Ended(StoreError::Unavailable { .. })));
    assert_eq!(watch.receive_from, 5);
}
