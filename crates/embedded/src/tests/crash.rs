//! Power cuts at any point: what was acknowledged is there, nothing is there by halves.

use super::backend::Disk;
use super::client;
use super::dice::Dice;
use crate::{Options, Server};
use etcd_client::{Client, GetOptions, PutOptions, Txn, TxnOp};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Power cuts per test, each at whatever point the writers are.
const CUTS: usize = 30;
const WRITERS: usize = 4;

fn on(disk: &Disk) -> Options {
    // Little history, so that compaction and folding are cut into as well.
    Options {
        backend: Some(Box::new(disk.clone())),
        history_revisions_max: 50,
        history_bytes_max: 20_000,
        ..Options::default()
    }
}

/// Key and revision of acknowledged writes.
type Acknowledged = Arc<Mutex<Vec<(String, i64)>>>;

/// Writes pairs of keys in one transaction each, for ever, and notes what was acknowledged.
async fn write(mut client: Client, writer: usize, lease: i64, acknowledged: Acknowledged) {
    for number in 0.. {
        let key = format!("{writer}/{}", number % 40);
        let value = format!("{number}").repeat(number % 7 * 20 + 1);
        let leased = (number % 5 == 0).then(|| PutOptions::new().with_lease(lease));
        let pair = [TxnOp::put(format!("left/{key}"), value.clone(), leased.clone())];
        let inner = Txn::new().and_then([TxnOp::put(format!("right/{key}"), value, leased)]);
        let txn =
            Txn::new().and_then(pair.into_iter().chain([TxnOp::txn(inner)]).collect::<Vec<_>>());
        let Ok(answer) = client.txn(txn).await else { return };
        acknowledged.lock().unwrap().push((key, answer.header().unwrap().revision()));
        if number % 11 == 0 && client.delete(format!("gone/{writer}"), None).await.is_err() {
            return;
        }
        if number % 13 == 0 && client.put(format!("gone/{writer}"), "x", None).await.is_err() {
            return;
        }
    }
}

/// Opens what a power cut left and says what is wrong with it.
async fn inspect(disk: &Disk, acknowledged: &[(String, i64)]) -> Result<(), String> {
    let mut db = redb::Builder::new().create_with_backend(disk.clone());
    let sound = db.as_mut().map(|db| db.check_integrity());
    if !matches!(sound, Ok(Ok(true))) {
        return Err(format!("not sound: {sound:?}"));
    }
    drop(db);
    let server = Server::open(on(disk)).map_err(|error| error.to_string())?;
    let mut client = client(&server).await;
    let all = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    let revision = all.header().unwrap().revision();
    let find = |key: String| all.kvs().iter().find(|kv| kv.key() == key.as_bytes());
    for (key, written) in acknowledged {
        let kv = find(format!("left/{key}")).ok_or_else(|| format!("{key} is missing"))?;
        if kv.mod_revision() < *written {
            return Err(format!("{key} is of {}, not {written}", kv.mod_revision()));
        }
        let twin =
            find(format!("right/{key}")).ok_or_else(|| format!("half of {key} is missing"))?;
        if (twin.value(), twin.mod_revision()) != (kv.value(), kv.mod_revision()) {
            return Err(format!("{key} is there by halves"));
        }
        if kv.mod_revision() > revision {
            return Err(format!("{key} is newer than the store"));
        }
        if kv.lease() != 0 && client.lease_time_to_live(kv.lease(), None).await.unwrap().ttl() < 0 {
            return Err(format!("{key} hangs on a lease that is not there"));
        }
    }
    // And it goes on from there.
    let put = client.put("next", "1", None).await.map_err(|error| error.to_string())?;
    let next = put.header().unwrap().revision();
    if next == revision + 1 { Ok(()) } else { Err(format!("{next} after {revision}")) }
}

/// Lets writers run on the disk, cuts the power again and again, and collects what was wrong.
async fn cut_power(disk: Disk, seed: u64) -> Vec<String> {
    let server = Server::open(on(&disk)).unwrap();
    let lease = client(&server).await.lease_grant(1000, None).await.unwrap().id();
    let acknowledged = Acknowledged::default();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(client(&server).await, writer, lease, Arc::clone(&acknowledged)));
    }
    let mut dice = Dice(seed);
    let mut wrong = Vec::new();
    for cut in 0..CUTS {
        let before = acknowledged.lock().unwrap().len();
        while acknowledged.lock().unwrap().len() < before + 5 + dice.below(60) {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        // First what was acknowledged, then the cut: all of the former must survive it.
        let known = acknowledged.lock().unwrap().clone();
        let left = disk.after_power_cut(&mut dice);
        if let Err(what) = inspect(&left, &known).await {
            wrong.push(format!("cut {cut}: {what}"));
        }
    }
    writers.shutdown().await;
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_power_cuts() {
    let wrong = cut_power(Disk::default(), 1).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The control: on a disk whose syncs do nothing the same test must see losses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_test_sees_what_a_missing_sync_loses() {
    let wrong = cut_power(Disk::lying(), 1).await;
    assert!(!wrong.is_empty(), "a disk that never syncs lost nothing?");
}

#[tokio::test]
async fn a_disk_that_fails_stops_the_store_and_loses_nothing_acknowledged() {
    let disk = Disk::default();
    let server = Server::open(on(&disk)).unwrap();
    let mut client = client(&server).await;
    client.put("k", "1", None).await.unwrap();
    disk.fail();
    let error = client.put("k", "2", None).await.unwrap_err();
    assert!(error.to_string().contains("server stopped"), "{error}");
    server.ended().await;
    // What it holds in memory may not be on the disk, so it shows nothing any more.
    assert!(client.get("k", None).await.is_err());
    let left = disk.after_power_cut(&mut Dice(1));
    let server = Server::open(on(&left)).unwrap();
    let kv = self::client(&server).await.get("k", None).await.unwrap().kvs()[0].clone();
    assert!([&b"1"[..], b"2"].contains(&kv.value()));
}
