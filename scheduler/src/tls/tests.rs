//! Connections that are ended from here, over the loopback.

use std::path::{Path, PathBuf};

use flyball_core::revocation::Revocation;
use flyball_pki::{Authority, DAY, KeyOf, Order, Peer, Subject, connect, write_identity};
use flyball_store::{Snapshot, Stored};
use tokio::io::AsyncReadExt;

use super::*;

/// The longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

fn issue(dir: &Path, authority: &Authority, name: &str) -> PathBuf {
    let subject = Subject::Caller(name.parse().unwrap());
    let hosts = if subject.serves() { vec!["127.0.0.1".to_owned()] } else { Vec::new() };
    let order = Order { subject, hosts, lifetime: DAY, key: KeyOf::New, not_before: None };
    let issued = authority.issue(&order, Timestamp::now()).unwrap();
    let place = dir.join(name.replace(':', "-"));
    let key = issued.key.as_deref().unwrap();
    write_identity(&place, &issued.bundle, &issued.chain, key).unwrap();
    place
}

#[tokio::test]
async fn a_connection_ends_when_its_certificate_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::init(&dir.path().join("ca"), "ours", DAY * 10, Timestamp::now());
    let ours = ours.unwrap();
    let node = LiveIdentity::open(&issue(dir.path(), &ours, "node:n1")).unwrap();
    let own = issue(dir.path(), &ours, "scheduler:s1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let admission = Admission::default();
    let tls = Tls::new(Arc::new(LiveIdentity::open(&own).unwrap()), &admission);
    let named = |served: &Encrypted| {
        let mut request = Request::new(());
        request.extensions_mut().insert(served.connect_info());
        tls.name(request).map(|request| request.extensions().get::<Identity>().cloned())
    };
    let mut incoming = tls.clone().incoming(listener);
    let _client = connect(("127.0.0.1", port), &node, Peer::Scheduler).await.unwrap();
    let mut served = incoming.recv().await.unwrap().unwrap();
    assert_eq!(named(&served).unwrap(), "node:n1".parse().ok());
    // Of another node: nothing happens.
    let snapshot = |whom: &str| {
        let record = Revocation { at: Timestamp::now(), ..Revocation::default() };
        let value = Arc::new(record);
        let stored = Stored { value, mod_revision: 1, create_revision: 1, lease: 0 };
        let revocations = vec![(whom.parse().unwrap(), stored)];
        admission.revoked.on_snapshot(&Snapshot { revocations, ..Snapshot::default() });
    };
    snapshot("node:n2");
    let early = tokio::time::timeout(SWEEP_EVERY * 2, served.read_u8()).await;
    assert!(early.is_err() && named(&served).is_ok(), "{early:?}");
    snapshot("node:n1");
    let refused = named(&served).unwrap_err();
    assert!(refused.message().contains("revoked"), "{refused}");
    let ended = tokio::time::timeout(PATIENCE, served.read_u8()).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn strangers_are_few_and_stay_for_a_while() {
    let open = Open::default();
    let from = |last: u8| IpAddr::from([10, 0, 0, last]);
    let mut kept: Vec<_> = (0..99).filter_map(|_| open.enter_stranger(from(1))).collect();
    assert_eq!(kept.len(), STRANGERS_OF_ONE_MAX);
    kept.extend((2..99).filter_map(|last| open.enter_stranger(from(last))));
    assert_eq!(kept.len(), STRANGERS_MAX);
    kept.pop();
    assert!(open.enter_stranger(from(100)).is_some(), "one that has gone makes room");
}

#[tokio::test]
async fn a_connection_ends_when_its_authority_is_retired() {
    let dir = tempfile::tempdir().unwrap();
    let old = Authority::init(&dir.path().join("ca"), "ours", DAY * 10, Timestamp::now());
    let old = old.unwrap();
    let node = LiveIdentity::open(&issue(dir.path(), &old, "node:n1")).unwrap();
    let new = old.rotate(DAY * 10, Timestamp::now()).unwrap();
    let ours = issue(dir.path(), &new, "scheduler:s1");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let identity = Arc::new(LiveIdentity::open(&ours).unwrap());
    let tls = Tls::new(identity, &Admission::default());
    let mut incoming = tls.incoming(listener);
    let _client = connect(("127.0.0.1", port), &node, Peer::Scheduler).await.unwrap();
    let mut served = incoming.recv().await.unwrap().unwrap();

    // Both authorities are trusted: the connection stays.
    let early = tokio::time::timeout(SWEEP_EVERY * 2, served.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    let last = new.retire().unwrap();
    issue(dir.path(), &last, "scheduler:s1");
    let ended = tokio::time::timeout(PATIENCE, served.read_u8()).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}
