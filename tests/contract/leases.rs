//! Leases: grants, renewals, what goes with them, what stays.

use crate::subject::{Subject, refused};
use crate::watches::{deleted, watch};
use etcd_client::{
    GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchOptions,
};
use tonic::Code;

contract!(
    grants_have_bounds,
    a_revoked_lease_takes_its_keys_in_one_revision,
    unknown_leases_are_answers_not_errors,
    a_put_without_the_lease_detaches,
    a_lease_that_is_not_renewed_ends,
    a_renewed_lease_lives_on,
);

async fn grants_have_bounds(mut subject: Subject) {
    let client = &mut subject.client;
    let id = |id| Some(LeaseGrantOptions::new().with_id(id));
    let granted = client.lease_grant(100, id(7)).await.unwrap();
    assert_eq!((granted.id(), granted.ttl()), (7, 100));
    let again = client.lease_grant(100, id(7)).await;
    refused(again, Code::FailedPrecondition, "etcdserver: lease already exists");
    let long = client.lease_grant(9_000_000_001, None).await;
    refused(long, Code::OutOfRange, "etcdserver: too large lease TTL");
    let short = client.lease_grant(1, None).await.unwrap();
    assert_eq!(short.ttl(), 2);
    assert!(short.id() > 0);
    let listed: Vec<_> = client.leases().await.unwrap().leases().iter().map(|l| l.id()).collect();
    assert_eq!(listed, [short.id(), 7]);
}

async fn a_revoked_lease_takes_its_keys_in_one_revision(mut subject: Subject) {
    let client = &mut subject.client;
    let lease = client.lease_grant(100, None).await.unwrap().id();
    for key in ["b", "a", "c"] {
        client.put(key, "1", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    }
    client.put("d", "1", None).await.unwrap();
    let options = WatchOptions::new().with_all_keys().with_start_revision(6);
    let mut stream = watch(client, "", options).await;
    let revoked = client.lease_revoke(lease).await.unwrap();
    assert_eq!(revoked.header().unwrap().revision(), 6);
    let gone = [("a".to_owned(), 6), ("b".to_owned(), 6), ("c".to_owned(), 6)];
    assert_eq!(deleted(&mut stream, 3).await, gone);
    let left = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    assert_eq!(left.count(), 1);
    let again = client.lease_revoke(lease).await;
    refused(again, Code::NotFound, "etcdserver: requested lease not found");
}

async fn unknown_leases_are_answers_not_errors(mut subject: Subject) {
    let client = &mut subject.client;
    let left = client.lease_time_to_live(99, None).await.unwrap();
    assert_eq!((left.ttl(), left.granted_ttl()), (-1, 0));
    // The client makes an error of the answer with TTL 0 to a first renewal.
    let lost = client.lease_keep_alive(99).await;
    assert!(lost.is_err() || lost.unwrap().1.message().await.unwrap().unwrap().ttl() == 0);
    let lease = client.lease_grant(100, None).await.unwrap().id();
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    client.lease_revoke(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!((answer.id(), answer.ttl()), (lease, 0));
}

async fn a_put_without_the_lease_detaches(mut subject: Subject) {
    let client = &mut subject.client;
    let first = client.lease_grant(100, None).await.unwrap().id();
    let second = client.lease_grant(100, None).await.unwrap().id();
    let with = |lease| Some(PutOptions::new().with_lease(lease));
    for key in ["kept", "moved", "freed"] {
        client.put(key, "1", with(first)).await.unwrap();
    }
    client.put("kept", "2", with(first)).await.unwrap();
    client.put("moved", "2", with(second)).await.unwrap();
    client.put("freed", "2", None).await.unwrap();
    let keys = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(first, Some(keys)).await.unwrap();
    assert_eq!((left.keys(), left.granted_ttl()), (&[b"kept".to_vec()][..], 100));
    assert!((98..=100).contains(&left.ttl()));
    client.lease_revoke(first).await.unwrap();
    let all = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    let keys: Vec<_> = all.kvs().iter().map(|kv| kv.key_str().unwrap()).collect();
    assert_eq!(keys, ["freed", "moved"]);
}

async fn a_lease_that_is_not_renewed_ends(mut subject: Subject) {
    let client = &mut subject.client;
    let lease = client.lease_grant(2, None).await.unwrap().id();
    client.put("k", "1", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    let mut stream = watch(client, "k", WatchOptions::new().with_start_revision(3)).await;
    assert_eq!(deleted(&mut stream, 1).await, [("k".to_owned(), 3)]);
    let left = client.lease_time_to_live(lease, None).await.unwrap();
    assert_eq!(left.ttl(), -1);
}

async fn a_renewed_lease_lives_on(mut subject: Subject) {
    let client = &mut subject.client;
    let kept = client.lease_grant(3, None).await.unwrap().id();
    let lost = client.lease_grant(3, None).await.unwrap().id();
    for (key, lease) in [("kept", kept), ("lost", lost)] {
        client.put(key, "1", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    }
    let options = WatchOptions::new().with_all_keys().with_start_revision(4);
    let mut stream = watch(client, "", options).await;
    let (mut keeper, mut answers) = client.lease_keep_alive(kept).await.unwrap();
    let renew = async {
        loop {
            keeper.keep_alive().await.unwrap();
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(answer.ttl(), 3);
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = renew => {}
        gone = deleted(&mut stream, 1) => assert_eq!(gone, [("lost".to_owned(), 4)]),
    }
    assert_eq!(client.get("kept", None).await.unwrap().count(), 1);
}
