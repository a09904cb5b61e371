//! Events: listed by scope, short-lived, bounded.

use flyball_core::ids::LoopKey;
use flyball_store::{EVENT_TTL_SECONDS, EventRecord, EventScope, EventsPut};

use crate::on_both;
use crate::setup::Server;

on_both!(events_are_listed_by_scope_in_order_of_time, events_hang_on_one_lease_and_are_bounded,);

fn event(namespace: &str, name: &str, second: i64) -> EventRecord {
    EventRecord {
        at: jiff::Timestamp::from_second(second).expect("time"),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        reason: "Assigned".to_owned(),
        message: format!("at {second}"),
        node: "n1".to_owned(),
    }
}

async fn events_are_listed_by_scope_in_order_of_time(server: Server) {
    let store = server.store().await;
    let all = [
        event("default", "a", 3),
        event("default", "ab", 2),
        event("default", "a", 1),
        event("other", "a", 4),
        event("", "", 5),
    ];
    let put = store.put_events(all.to_vec()).await.expect("put");
    assert_eq!(put, EventsPut { written: 5, dropped: 0 });
    let listed = |scope| {
        let store = store.clone();
        async move {
            let events = store.list_events(&scope).await.expect("list");
            events.into_iter().map(|event| event.at.as_second()).collect::<Vec<_>>()
        }
    };
    assert_eq!(listed(EventScope::All).await, [1, 2, 3, 4, 5]);
    assert_eq!(listed(EventScope::Namespace("default".to_owned())).await, [1, 2, 3]);
    assert_eq!(listed(EventScope::Loop(LoopKey::new("default", "a"))).await, [1, 3]);
    assert_eq!(listed(EventScope::Loop(LoopKey::new("default", "none"))).await, [0_i64; 0]);
    let found = store.list_events(&EventScope::All).await.expect("list");
    assert_eq!(found[2], all[0]);
    // They are no part of the state.
    let state = store.snapshot(0).await.expect("snapshot");
    assert!(state.undecodable.is_empty());
}

async fn events_hang_on_one_lease_and_are_bounded(server: Server) {
    let store = server.store().await;
    let many: Vec<EventRecord> = (0..3000).map(|n| event("default", "a", n)).collect();
    let put = store.put_events(many).await.expect("put");
    assert!((2000..2100).contains(&put.written), "{put:?}");
    assert_eq!(put.written + put.dropped, 3000);
    let mut raw = server.raw().await;
    let options = etcd_client::GetOptions::new().with_prefix();
    let found = raw.get("/flyball/v1/events/", Some(options)).await.expect("get");
    assert_eq!(found.kvs().len(), put.written);
    let lease = found.kvs()[0].lease();
    assert!(lease != 0 && found.kvs().iter().all(|kv| kv.lease() == lease));
    let left = store.time_to_live(lease).await.expect("ttl").expect("alive");
    assert!(left.as_secs() >= EVENT_TTL_SECONDS);
    let long = EventRecord { message: "ä".repeat(3000), ..event("default", "b", 1) };
    // The burst is used up; room for one more comes within a twentieth of a second.
    for attempt in 0.. {
        if store.put_events(vec![long.clone()]).await.expect("put").written == 1 {
            break;
        }
        assert!(attempt < 100, "room for one event never comes");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let scope = EventScope::Loop(LoopKey::new("default", "b"));
    let cut = store.list_events(&scope).await.expect("list");
    assert_eq!(cut.first().map_or(0, |event| event.message.len()), 1024);
}
