//! The audit trail: appended by many at once, whole, and changed by nobody unnoticed.

use flyball_core::access::AuditEntry;
use flyball_store::{Store, StoreError};

use crate::on_both;
use crate::setup::Server;

on_both!(
    many_append_at_once_and_nothing_is_lost,
    a_changed_or_missing_entry_shows,
    the_newest_that_fit_are_listed,
);

/// Calls for one entry, each of which tries several times by itself.
const CALLS_MAX: usize = 10;

fn entry(id: &str, who: &str) -> AuditEntry {
    let (id, who) = (id.to_owned(), who.to_owned());
    AuditEntry { id, who, result: "Ok".to_owned(), ..AuditEntry::default() }
}

/// Appends one after another. One call gives up when others are always faster; then, as schedulers do, it is made
/// again with the same entry.
async fn append(store: &Store, who: &str, count: usize) {
    for number in 0..count {
        let entry = [entry(&format!("{who}-{number}"), who)];
        let mut appended = store.append_audit(&entry).await;
        for _ in 0..CALLS_MAX {
            match appended {
                Err(StoreError::Unavailable { .. }) => appended = store.append_audit(&entry).await,
                _ => break,
            }
        }
        appended.expect("append");
    }
}

async fn many_append_at_once_and_nothing_is_lost(server: Server) {
    let (one, other, third) = (server.store().await, server.store().await, server.store().await);
    tokio::join!(append(&one, "a", 15), append(&other, "b", 15), append(&third, "c", 15));
    let batch: Vec<_> = (0..100).map(|number| entry(&format!("d-{number}"), "d")).collect();
    one.append_audit(&batch).await.expect("append");
    let verified = one.verify_audit(7).await.expect("verify");
    assert_eq!(verified.outcome, Ok(145));
    assert!(verified.asked.is_some());
    let all = one.list_audit(0, 1000, |_| Some(true)).await.expect("list");
    let numbers: Vec<u64> = all.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=145).collect::<Vec<_>>());
    // A snapshot does not carry the trail, and a watch of the state does not tell of it.
    assert!(one.snapshot(0).await.expect("snapshot").undecodable.is_empty());
}

async fn a_changed_or_missing_entry_shows(server: Server) {
    let store = server.store().await;
    append(&store, "ada", 5).await;
    let mut raw = server.raw().await;
    for number in 1..=5 {
        let key = format!("/flyball/v1/audit/{number:020}");
        let kept = raw.get(key.clone(), None).await.expect("get").kvs()[0].value().to_vec();
        let edited = String::from_utf8_lossy(&kept).replace("\"who\":\"ada\"", "\"who\":\"bob\"");
        assert_ne!(edited.as_bytes(), kept);
        raw.put(key.clone(), edited, None).await.expect("put");
        assert!(store.verify_audit(0).await.expect("verify").outcome.is_err(), "{number}");
        raw.delete(key.clone(), None).await.expect("delete");
        assert!(store.verify_audit(0).await.expect("verify").outcome.is_err(), "{number}");
        raw.put(key, kept, None).await.expect("put");
        assert_eq!(store.verify_audit(0).await.expect("verify").outcome, Ok(5));
    }
}

async fn the_newest_that_fit_are_listed(server: Server) {
    let store = server.store().await;
    append(&store, "ada", 3).await;
    append(&store, "bea", 3).await;
    let whose = async |who: &str, after, limit| {
        let found = store.list_audit(after, limit, |entry| Some(entry.who == who)).await;
        found.expect("list").iter().map(|entry| entry.number).collect::<Vec<_>>()
    };
    assert_eq!(whose("ada", 0, 2).await, [2, 3]);
    assert_eq!(whose("bea", 4, 9).await, [5, 6]);
    assert_eq!(whose("bea", 6, 9).await, [0; 0]);
    let stopped = store.list_audit(0, 9, |entry| (entry.number > 4).then_some(true)).await;
    assert_eq!(stopped.expect("list").len(), 2);
}
