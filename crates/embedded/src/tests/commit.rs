//! Group commit: what waits together is synced together, and shown to nobody before.

use super::backend::Disk;
use super::client;
use crate::{Options, Server};
use etcd_client::{GetOptions, WatchOptions};
use std::time::Duration;

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..5000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_during_a_sync_is_one_commit_and_invisible_until_then() {
    let disk = Disk::default();
    let options = Options { backend: Some(Box::new(disk.clone())), ..Options::default() };
    let server = Server::open(options).unwrap();
    let mut client = client(&server).await;
    client.put("first", "1", None).await.unwrap();
    let one_commit = disk.syncs();
    client.put("second", "1", None).await.unwrap();
    let one_commit = disk.syncs() - one_commit;
    let mut stream = client.watch("k/", Some(WatchOptions::new().with_prefix())).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());

    disk.hold(true);
    let before = disk.syncs();
    let put = |number: usize| {
        let mut client = client.clone();
        tokio::spawn(async move { client.put(format!("k/{number}"), "1", None).await.unwrap() })
    };
    let mut puts = vec![put(0)];
    until("the first commit syncs", || disk.waiting() == 1).await;
    puts.extend((1..100).map(put));
    let everything = GetOptions::new().with_prefix();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let seen = client.get("k/", Some(everything.clone())).await.unwrap();
        assert_eq!((seen.count(), seen.header().unwrap().revision()), (0, 3));
    }
    assert!(puts.iter().all(|put| !put.is_finished()), "answered before it was durable");
    let silent = tokio::time::timeout(Duration::from_millis(20), stream.message()).await;
    assert!(silent.is_err(), "an event left before it was durable: {silent:?}");

    disk.hold(false);
    for put in puts {
        put.await.unwrap();
    }
    // The first put by itself, then the rest; a late one may need a commit more.
    let commits = (disk.syncs() - before) / one_commit;
    assert!((2..=3).contains(&commits), "{commits} commits of {one_commit} syncs");
    let seen = client.get("k/", Some(everything)).await.unwrap();
    assert_eq!((seen.count(), seen.header().unwrap().revision()), (100, 103));
}

#[tokio::test]
async fn reading_and_renewing_write_nothing() {
    let disk = Disk::default();
    let options = Options { backend: Some(Box::new(disk.clone())), ..Options::default() };
    let server = Server::open(options).unwrap();
    let mut client = client(&server).await;
    let lease = client.lease_grant(100, None).await.unwrap().id();
    let before = disk.syncs();
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    for _ in 0..10 {
        keeper.keep_alive().await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 100);
        client.get("k", None).await.unwrap();
        client.delete("nothing", None).await.unwrap();
        client.status().await.unwrap();
    }
    assert_eq!(disk.syncs(), before);
}
