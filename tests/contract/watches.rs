//! Watches: history, ranges, filters, previous values, cancelling, progress, compaction.

use crate::subject::Subject;
use etcd_client::{
    Client, CompactionOptions, DeleteOptions, Event, EventType, Txn, TxnOp, WatchFilterType,
    WatchOptions, WatchResponse, WatchStream,
};
use std::time::Duration;

contract!(
    history_comes_first_and_then_what_follows,
    ranges_and_filters_select,
    previous_values_come_along,
    a_transaction_is_one_response,
    one_stream_carries_several_watches,
    wrong_watches_are_refused,
    progress_is_told_when_asked,
    a_watch_may_start_in_the_future,
    a_watch_may_start_before_the_first_change,
    a_compacted_start_is_cancelled,
    a_watch_survives_compaction_behind_it,
    many_events_arrive_complete_and_in_order,
);

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens a watch and reads its `created` message.
pub(crate) async fn watch(client: &mut Client, key: &str, options: WatchOptions) -> WatchStream {
    let mut stream = client.watch(key, Some(options)).await.unwrap();
    let created = next(&mut stream).await;
    assert!(created.created() && !created.canceled(), "{created:?}");
    stream
}

async fn next(stream: &mut WatchStream) -> WatchResponse {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await;
    message.expect("a response in time").unwrap().expect("an open stream")
}

/// The next events, at least `count` of them.
async fn events(stream: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let response = next(stream).await;
        assert!(!response.canceled(), "{response:?}");
        events.extend(response.events().iter().cloned());
    }
    events
}

/// Keys and revisions of the next events, which must be deletions.
pub(crate) async fn deleted(stream: &mut WatchStream, count: usize) -> Vec<(String, i64)> {
    let events = events(stream, count).await;
    assert!(events.iter().all(|event| event.event_type() == EventType::Delete), "{events:?}");
    events.iter().map(key_and_revision).collect()
}

fn key_and_revision(event: &Event) -> (String, i64) {
    let kv = event.kv().unwrap();
    (kv.key_str().unwrap().to_owned(), kv.mod_revision())
}

fn found(events: &[Event]) -> Vec<(String, i64)> {
    events.iter().map(key_and_revision).collect()
}

fn named(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected.iter().map(|(key, revision)| ((*key).to_owned(), *revision)).collect()
}

async fn fill(client: &mut Client, keys: &[&str]) {
    for key in keys {
        client.put(*key, format!("value of {key}"), None).await.unwrap();
    }
}

async fn history_comes_first_and_then_what_follows(mut subject: Subject) {
    let client = &mut subject.client;
    fill(client, &["a", "b", "a"]).await;
    let options = WatchOptions::new().with_all_keys().with_start_revision(3);
    let mut stream = watch(client, "", options).await;
    fill(client, &["c"]).await;
    client.delete("a", None).await.unwrap();
    let events = events(&mut stream, 4).await;
    assert_eq!(found(&events), named(&[("b", 3), ("a", 4), ("c", 5), ("a", 6)]));
    let kv = events[1].kv().unwrap();
    assert_eq!((kv.create_revision(), kv.version(), kv.value()), (2, 2, &b"value of a"[..]));
    let kv = events[3].kv().unwrap();
    assert_eq!((kv.create_revision(), kv.version(), kv.value()), (0, 0, &b""[..]));
}

async fn ranges_and_filters_select(mut subject: Subject) {
    let client = &mut subject.client;
    let prefix = || WatchOptions::new().with_prefix();
    let mut under = watch(client, "b/", prefix()).await;
    let mut one = watch(client, "b/1", WatchOptions::new()).await;
    let filter = |filter| prefix().with_filters([filter]);
    let mut puts = watch(client, "b/", filter(WatchFilterType::NoDelete)).await;
    let mut deletes = watch(client, "b/", filter(WatchFilterType::NoPut)).await;
    let mut from = watch(client, "b/2", WatchOptions::new().with_from_key()).await;
    fill(client, &["a", "b/1", "b/2", "c"]).await;
    client.delete("b/", Some(DeleteOptions::new().with_prefix())).await.unwrap();
    let all = named(&[("b/1", 3), ("b/2", 4), ("b/1", 6), ("b/2", 6)]);
    assert_eq!(found(&events(&mut under, 4).await), all);
    assert_eq!(found(&events(&mut one, 2).await), named(&[("b/1", 3), ("b/1", 6)]));
    assert_eq!(found(&events(&mut puts, 2).await), named(&[("b/1", 3), ("b/2", 4)]));
    assert_eq!(found(&events(&mut deletes, 2).await), named(&[("b/1", 6), ("b/2", 6)]));
    assert_eq!(found(&events(&mut from, 3).await), named(&[("b/2", 4), ("c", 5), ("b/2", 6)]));
}

async fn previous_values_come_along(mut subject: Subject) {
    let client = &mut subject.client;
    let mut stream = watch(client, "k", WatchOptions::new().with_prev_key()).await;
    client.put("k", "1", None).await.unwrap();
    client.put("k", "2", None).await.unwrap();
    client.delete("k", None).await.unwrap();
    client.put("k", "3", None).await.unwrap();
    let events = events(&mut stream, 4).await;
    let previous: Vec<_> =
        events.iter().map(|event| event.prev_kv().map(|kv| kv.value().to_vec())).collect();
    assert_eq!(previous, [None, Some(b"1".to_vec()), Some(b"2".to_vec()), None]);
}

async fn a_transaction_is_one_response(mut subject: Subject) {
    let client = &mut subject.client;
    let mut stream = watch(client, "", WatchOptions::new().with_all_keys()).await;
    let inner = TxnOp::txn(Txn::new().and_then([TxnOp::put("c", "1", None)]));
    let ops = [TxnOp::put("b", "1", None), inner, TxnOp::put("a", "1", None)];
    client.txn(Txn::new().and_then(ops)).await.unwrap();
    let response = next(&mut stream).await;
    assert_eq!(found(response.events()), named(&[("b", 2), ("c", 2), ("a", 2)]));
    assert_eq!(response.header().unwrap().revision(), 2);
}

async fn one_stream_carries_several_watches(mut subject: Subject) {
    let client = &mut subject.client;
    let mut stream = client.watch("a", None).await.unwrap();
    let first = next(&mut stream).await;
    stream.watch("b", Some(WatchOptions::new().with_watch_id(7))).await.unwrap();
    let second = next(&mut stream).await;
    stream.watch("c", None).await.unwrap();
    let third = next(&mut stream).await;
    assert_eq!([first.watch_id(), second.watch_id(), third.watch_id()], [0, 7, 1]);
    fill(client, &["b"]).await;
    let response = next(&mut stream).await;
    assert_eq!((response.watch_id(), response.events().len()), (7, 1));
    stream.cancel(7).await.unwrap();
    let cancelled = next(&mut stream).await;
    assert!(cancelled.canceled() && cancelled.watch_id() == 7, "{cancelled:?}");
    fill(client, &["b", "c"]).await;
    let response = next(&mut stream).await;
    assert_eq!(response.watch_id(), 1);
}

async fn wrong_watches_are_refused(mut subject: Subject) {
    let client = &mut subject.client;
    let mut stream = client.watch("a", Some(WatchOptions::new().with_watch_id(3))).await.unwrap();
    assert!(next(&mut stream).await.created());
    stream.watch("b", Some(WatchOptions::new().with_watch_id(3))).await.unwrap();
    let twice = next(&mut stream).await;
    assert!(twice.created() && twice.canceled());
    let text = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!((twice.watch_id(), twice.cancel_reason()), (-1, text));
    stream.watch("b", Some(WatchOptions::new().with_range("a"))).await.unwrap();
    let empty = next(&mut stream).await;
    assert!(empty.created() && empty.canceled());
    assert_eq!(empty.cancel_reason(), "mvcc: watcher range is empty");
    fill(client, &["a"]).await;
    assert_eq!(next(&mut stream).await.events().len(), 1);
}

async fn progress_is_told_when_asked(mut subject: Subject) {
    let client = &mut subject.client;
    let mut stream = watch(client, "k", WatchOptions::new()).await;
    fill(client, &["x", "y"]).await;
    stream.request_progress().await.unwrap();
    let progress = next(&mut stream).await;
    assert_eq!((progress.watch_id(), progress.events().len()), (-1, 0));
    assert_eq!(progress.header().unwrap().revision(), 3);
}

async fn a_watch_may_start_in_the_future(mut subject: Subject) {
    let client = &mut subject.client;
    let options = WatchOptions::new().with_all_keys().with_start_revision(4);
    let mut stream = watch(client, "", options).await;
    fill(client, &["a", "b", "c"]).await;
    assert_eq!(found(&events(&mut stream, 1).await), named(&[("c", 4)]));
}

async fn a_watch_may_start_before_the_first_change(mut subject: Subject) {
    let client = &mut subject.client;
    let mut stream = watch(client, "a", WatchOptions::new().with_start_revision(1)).await;
    fill(client, &["a"]).await;
    assert_eq!(found(&events(&mut stream, 1).await), named(&[("a", 2)]));
}

async fn a_compacted_start_is_cancelled(mut subject: Subject) {
    let client = &mut subject.client;
    fill(client, &["a", "a", "a"]).await;
    client.compact(4, Some(CompactionOptions::new().with_physical())).await.unwrap();
    let mut stream = watch(client, "a", WatchOptions::new().with_start_revision(3)).await;
    let response = next(&mut stream).await;
    assert!(response.canceled() && !response.created(), "{response:?}");
    assert_eq!(response.compact_revision(), 4);
    // The compacted revision itself can still be read from.
    let mut stream = watch(client, "a", WatchOptions::new().with_start_revision(4)).await;
    assert_eq!(found(&events(&mut stream, 1).await), named(&[("a", 4)]));
}

async fn a_watch_survives_compaction_behind_it(mut subject: Subject) {
    let client = &mut subject.client;
    let mut stream = watch(client, "a", WatchOptions::new()).await;
    fill(client, &["a", "a", "a"]).await;
    client.compact(4, None).await.unwrap();
    fill(client, &["a"]).await;
    let expected = named(&[("a", 2), ("a", 3), ("a", 4), ("a", 5)]);
    assert_eq!(found(&events(&mut stream, 4).await), expected);
}

async fn many_events_arrive_complete_and_in_order(mut subject: Subject) {
    let client = &mut subject.client;
    let value = vec![7; 20_000];
    for round in 0..20 {
        let put = |i: usize| TxnOp::put(format!("{round}/{i}"), value.clone(), None);
        client.txn(Txn::new().and_then((0..60).map(put).collect::<Vec<_>>())).await.unwrap();
    }
    // 24 MB of history, more than any one message may carry.
    let options = WatchOptions::new().with_all_keys().with_start_revision(2);
    let mut client = client.watch_client().max_decoding_message_size(64 << 20);
    let mut stream = client.watch("", Some(options)).await.unwrap();
    let events = events(&mut stream, 1200).await;
    let expected: Vec<_> =
        (0..1200).map(|i| (format!("{}/{}", i / 60, i % 60), 2 + i / 60)).collect();
    let got: Vec<_> = found(&events).into_iter().collect();
    assert!(got.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && a.1 == b.1));
    assert_eq!(got.len(), 1200);
}
