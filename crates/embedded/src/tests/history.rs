//! History that is bounded by itself, folded away, and still complete after reopening.

use super::backend::Disk;
use super::client;
use super::dice::Dice;
use crate::{Options, Server};
use etcd_client::{Client, GetOptions, PutOptions, WatchOptions};
use std::collections::BTreeMap;

fn on(disk: &Disk) -> Options {
    Options {
        backend: Some(Box::new(disk.clone())),
        history_revisions_max: 100,
        ..Options::default()
    }
}

async fn everything(client: &mut Client) -> BTreeMap<Vec<u8>, (Vec<u8>, i64, i64, i64, i64)> {
    let all = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    let row = |kv: &etcd_client::KeyValue| {
        let numbers = (kv.create_revision(), kv.mod_revision(), kv.version(), kv.lease());
        (kv.value().to_vec(), numbers.0, numbers.1, numbers.2, numbers.3)
    };
    all.kvs().iter().map(|kv| (kv.key().to_vec(), row(kv))).collect()
}

#[tokio::test]
async fn history_is_bounded_and_the_state_survives_folding() {
    let disk = Disk::default();
    let mut dice = Dice(7);
    let mut known = BTreeMap::new();
    for life in 0..3 {
        let server = Server::open(on(&disk)).unwrap();
        let mut client = client(&server).await;
        assert_eq!(everything(&mut client).await, known, "life {life}");
        let lease = client.lease_grant(1000, None).await.unwrap().id();
        for number in 0..1500 {
            let key = format!("k{}", dice.below(30));
            match dice.below(4) {
                0 => drop(client.delete(key, None).await.unwrap()),
                1 => {
                    let options = PutOptions::new().with_lease(lease);
                    client.put(key, format!("{number}"), Some(options)).await.unwrap();
                }
                _ => drop(client.put(key, format!("{number}"), None).await.unwrap()),
            }
        }
        known = everything(&mut client).await;
        let revision = client.get("k", None).await.unwrap().header().unwrap().revision();
        // Far behind is compacted, near is not, and a watch from the near past is complete.
        let old = GetOptions::new().with_revision(revision - 110);
        assert!(client.get("k", Some(old)).await.is_err());
        let from = revision - 90;
        let options = WatchOptions::new().with_all_keys().with_start_revision(from);
        let mut stream = client.watch("", Some(options)).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 91 {
            let response = stream.message().await.unwrap().unwrap();
            seen.extend(response.events().iter().map(|event| event.kv().unwrap().mod_revision()));
        }
        assert_eq!(seen, (from..=revision).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_chosen_compaction_survives_reopening() {
    let disk = Disk::default();
    let server = Server::open(on(&disk)).unwrap();
    let mut client = client(&server).await;
    for value in ["1", "2", "3", "4"] {
        client.put("k", value, None).await.unwrap();
    }
    client.delete("k", None).await.unwrap();
    client.compact(4, None).await.unwrap();
    server.shutdown();
    drop(server);
    let server = Server::open(on(&disk)).unwrap();
    let mut client = self::client(&server).await;
    assert!(client.get("k", Some(GetOptions::new().with_revision(3))).await.is_err());
    let at = client.get("k", Some(GetOptions::new().with_revision(4))).await.unwrap();
    assert_eq!(at.kvs()[0].value(), b"3");
    assert!(client.compact(4, None).await.is_err());
    client.compact(6, None).await.unwrap();
    assert_eq!(client.get("k", None).await.unwrap().count(), 0);
}
