//! First tests of the server in one process.

mod backend;
mod commit;
mod crash;
mod dice;
mod history;

use crate::{Options, Server};
use etcd_client::{Client, Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, WatchOptions};

pub(crate) async fn client(server: &Server) -> Client {
    Client::from_channel(server.channel(), None).await.unwrap()
}

#[tokio::test]
async fn puts_are_read_and_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::open(Options::at(dir.path())).unwrap();
    let mut client = client(&server).await;
    let put = client.put("a", "1", None).await.unwrap();
    assert_eq!(put.header().unwrap().revision(), 2);
    let lease = client.lease_grant(30, None).await.unwrap().id();
    client.put("b", "2", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    client.put("a", "3", None).await.unwrap();
    server.shutdown();
    assert!(client.put("a", "4", None).await.is_err());

    let server = Server::open(Options::at(dir.path())).unwrap();
    let mut client = self::client(&server).await;
    let get = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    let kvs: Vec<_> = get.kvs().iter().map(|kv| (kv.key(), kv.value(), kv.version())).collect();
    assert_eq!(kvs, [(&b"a"[..], &b"3"[..], 2), (b"b", b"2", 1)]);
    assert_eq!(get.header().unwrap().revision(), 4);
    client.lease_revoke(lease).await.unwrap();
    assert_eq!(client.get("b", None).await.unwrap().kvs().len(), 0);
}

#[tokio::test]
async fn a_directory_is_for_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let _server = Server::open(Options::at(dir.path())).unwrap();
    let error = Server::open(Options::at(dir.path())).unwrap_err();
    assert!(error.is_retryable());
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
}

#[tokio::test]
async fn a_watch_sees_history_and_what_follows() {
    let server = Server::open(Options::in_memory()).unwrap();
    let mut client = client(&server).await;
    client.put("k/1", "a", None).await.unwrap();
    let options = WatchOptions::new().with_prefix().with_start_revision(2);
    let mut stream = client.watch("k/", Some(options)).await.unwrap();
    client.put("k/2", "b", None).await.unwrap();
    client.delete("k/1", None).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let response = stream.message().await.unwrap().unwrap();
        for event in response.events() {
            let kv = event.kv().unwrap();
            seen.push((event.event_type() as i32, kv.key().to_vec(), kv.mod_revision()));
        }
    }
    let expected = [(0, b"k/1".to_vec(), 2), (0, b"k/2".to_vec(), 3), (1, b"k/1".to_vec(), 4)];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn compares_decide_and_a_refused_request_leaves_nothing() {
    let server = Server::open(Options::in_memory()).unwrap();
    let mut client = client(&server).await;
    let create = || {
        Txn::new()
            .when([Compare::create_revision("k", CompareOp::Equal, 0)])
            .and_then([TxnOp::put("k", "1", None), TxnOp::get("k", None)])
            .or_else([TxnOp::get("k", None)])
    };
    assert!(client.txn(create()).await.unwrap().succeeded());
    assert!(!client.txn(create()).await.unwrap().succeeded());
    let bad = PutOptions::new().with_lease(99);
    let ops = [TxnOp::put("x", "1", None), TxnOp::put("y", "1", Some(bad))];
    assert!(client.txn(Txn::new().and_then(ops)).await.is_err());
    let x = client.get("x", None).await.unwrap();
    assert_eq!((x.kvs().len(), x.header().unwrap().revision()), (0, 2));
}

#[tokio::test]
async fn silent_watches_hear_of_progress() {
    let interval = std::time::Duration::from_millis(20);
    let options = Options { progress_interval: interval, ..Options::in_memory() };
    let server = Server::open(options).unwrap();
    let mut client = client(&server).await;
    let mut stream =
        client.watch("k", Some(WatchOptions::new().with_progress_notify())).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    client.put("x", "1", None).await.unwrap();
    loop {
        let progress = stream.message().await.unwrap().unwrap();
        assert_eq!((progress.watch_id(), progress.events().len()), (0, 0));
        if progress.header().unwrap().revision() == 2 {
            return;
        }
    }
}

#[tokio::test]
async fn a_watch_ends_with_its_server() {
    let server = Server::open(Options::in_memory()).unwrap();
    let mut stream = client(&server).await.watch("k", None).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    server.shutdown();
    let error = stream.message().await.unwrap_err();
    assert!(error.to_string().contains("server stopped"), "{error}");
}

#[tokio::test]
async fn a_lease_has_its_full_time_again_after_reopening() {
    let disk = backend::Disk::default();
    let on = || Options { backend: Some(Box::new(disk.clone())), ..Options::default() };
    let server = Server::open(on()).unwrap();
    let mut client = client(&server).await;
    let lease = client.lease_grant(2, None).await.unwrap().id();
    client.put("k", "1", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    // It runs out while nobody is there: that does not count.
    server.shutdown();
    drop(server);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let server = Server::open(on()).unwrap();
    let mut client = self::client(&server).await;
    assert_eq!(client.get("k", None).await.unwrap().count(), 1);
    let mut stream =
        client.watch("k", Some(WatchOptions::new().with_start_revision(3))).await.unwrap();
    while stream.message().await.unwrap().unwrap().events().is_empty() {}
    assert_eq!(client.get("k", None).await.unwrap().count(), 0);
}

/// etcd 3.4 lets this through its check for keys that are put and deleted at once, and panics.
#[tokio::test]
async fn keeping_the_value_of_a_key_that_the_same_request_deletes_is_harmless() {
    let server = Server::open(Options::in_memory()).unwrap();
    let mut client = client(&server).await;
    client.put("k", "1", None).await.unwrap();
    let sweep = TxnOp::delete("", Some(etcd_client::DeleteOptions::new().with_all_keys()));
    let keep = TxnOp::put("k", "", Some(PutOptions::new().with_ignore_value()));
    client.txn(Txn::new().and_then([sweep, keep])).await.unwrap();
    let kv = client.get("k", None).await.unwrap().kvs()[0].clone();
    assert_eq!((kv.value(), kv.version(), kv.create_revision()), (&b""[..], 1, 3));
}
