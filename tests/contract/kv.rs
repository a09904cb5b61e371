//! Single puts, ranges and deletes, and compaction.

use crate::subject::{Subject, refused};
use etcd_client::{
    Client, CompactionOptions, DeleteOptions, GetOptions, GetResponse, PutOptions, SortOrder,
    SortTarget,
};
use tonic::Code;

contract!(
    revisions_and_versions_count,
    puts_can_keep_value_or_lease,
    ranges_have_etcds_shape,
    ranges_sort_filter_and_cut,
    old_revisions_stay_readable,
    deletes_answer_what_went,
    compaction_refuses_what_is_gone,
    wrong_requests_are_refused,
);

async fn fill(client: &mut Client, keys: &[&str]) {
    for key in keys {
        client.put(*key, format!("value of {key}"), None).await.unwrap();
    }
}

fn keys(response: &GetResponse) -> Vec<String> {
    response.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned()).collect()
}

async fn revisions_and_versions_count(mut subject: Subject) {
    let client = &mut subject.client;
    let put = client.put("k", "1", None).await.unwrap();
    assert_eq!(put.header().unwrap().revision(), 2);
    assert!(put.prev_key().is_none());
    let put = client.put("k", "2", Some(PutOptions::new().with_prev_key())).await.unwrap();
    assert_eq!(put.prev_key().unwrap().value(), b"1");
    let kv = client.get("k", None).await.unwrap().kvs()[0].clone();
    assert_eq!((kv.create_revision(), kv.mod_revision(), kv.version()), (2, 3, 2));
    client.delete("k", None).await.unwrap();
    client.put("k", "3", None).await.unwrap();
    let kv = client.get("k", None).await.unwrap().kvs()[0].clone();
    assert_eq!((kv.create_revision(), kv.mod_revision(), kv.version()), (5, 5, 1));
}

async fn puts_can_keep_value_or_lease(mut subject: Subject) {
    let client = &mut subject.client;
    let keep_value = || PutOptions::new().with_ignore_value();
    let missing = (Code::InvalidArgument, "etcdserver: key not found");
    refused(client.put("k", "", Some(keep_value())).await, missing.0, missing.1);
    let lease = client.lease_grant(100, None).await.unwrap().id();
    client.put("k", "1", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    client.put("k", "2", Some(PutOptions::new().with_ignore_lease())).await.unwrap();
    let kv = client.get("k", None).await.unwrap().kvs()[0].clone();
    assert_eq!((kv.value(), kv.lease()), (&b"2"[..], lease));
    client.put("k", "", Some(keep_value())).await.unwrap();
    let kv = client.get("k", None).await.unwrap().kvs()[0].clone();
    assert_eq!((kv.value(), kv.lease()), (&b"2"[..], 0));
    let both = client.put("k", "3", Some(keep_value())).await;
    refused(both, Code::InvalidArgument, "etcdserver: value is provided");
    let both = PutOptions::new().with_ignore_lease().with_lease(lease);
    let both = client.put("k", "3", Some(both)).await;
    refused(both, Code::InvalidArgument, "etcdserver: lease is provided");
}

async fn ranges_have_etcds_shape(mut subject: Subject) {
    let client = &mut subject.client;
    fill(client, &["a", "b/1", "b/2", "b/3", "c"]).await;
    let all = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    assert_eq!(keys(&all), ["a", "b/1", "b/2", "b/3", "c"]);
    let prefix = client.get("b/", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!((keys(&prefix).len(), prefix.count(), prefix.more()), (3, 3, false));
    let from = client.get("b/2", Some(GetOptions::new().with_from_key())).await.unwrap();
    assert_eq!(keys(&from), ["b/2", "b/3", "c"]);
    let range = client.get("a", Some(GetOptions::new().with_range("b/2"))).await.unwrap();
    assert_eq!(keys(&range), ["a", "b/1"]);
    let upside_down = client.get("c", Some(GetOptions::new().with_range("a"))).await.unwrap();
    assert_eq!((upside_down.kvs().len(), upside_down.count()), (0, 0));
    let limited = GetOptions::new().with_prefix().with_limit(2);
    let limited = client.get("b/", Some(limited)).await.unwrap();
    assert_eq!((keys(&limited).len(), limited.count(), limited.more()), (2, 3, true));
    let count = GetOptions::new().with_prefix().with_count_only();
    let count = client.get("b/", Some(count)).await.unwrap();
    assert_eq!((count.kvs().len(), count.count()), (0, 3));
    let bare = GetOptions::new().with_prefix().with_keys_only();
    let bare = client.get("b/", Some(bare)).await.unwrap();
    assert!(bare.kvs().iter().all(|kv| kv.value().is_empty()));
}

async fn ranges_sort_filter_and_cut(mut subject: Subject) {
    let client = &mut subject.client;
    fill(client, &["c", "b", "a", "b"]).await;
    let by = |target, order| GetOptions::new().with_all_keys().with_sort(target, order);
    let mut sorted = async |options| keys(&client.get("", Some(options)).await.unwrap());
    assert_eq!(sorted(by(SortTarget::Key, SortOrder::Descend)).await, ["c", "b", "a"]);
    assert_eq!(sorted(by(SortTarget::Create, SortOrder::Ascend)).await, ["c", "b", "a"]);
    assert_eq!(sorted(by(SortTarget::Mod, SortOrder::Descend)).await, ["b", "a", "c"]);
    assert_eq!(sorted(by(SortTarget::Mod, SortOrder::None)).await, ["c", "a", "b"]);
    assert_eq!(sorted(by(SortTarget::Version, SortOrder::Descend).with_limit(1)).await, ["b"]);
    assert_eq!(
        sorted(GetOptions::new().with_all_keys().with_min_mod_revision(4)).await,
        ["a", "b"]
    );
    let created = GetOptions::new().with_all_keys().with_max_create_revision(3);
    assert_eq!(sorted(created).await, ["b", "c"]);
    let cut = GetOptions::new().with_all_keys().with_min_mod_revision(4).with_limit(1);
    let cut = client.get("", Some(cut)).await.unwrap();
    assert_eq!((keys(&cut).len(), cut.count(), cut.more()), (1, 3, true));
}

async fn old_revisions_stay_readable(mut subject: Subject) {
    let client = &mut subject.client;
    client.put("k", "1", None).await.unwrap();
    client.put("k", "2", None).await.unwrap();
    client.delete("k", None).await.unwrap();
    let expected: [&[&[u8]]; 4] = [&[], &[b"1"], &[b"2"], &[]];
    for (revision, expected) in (1..).zip(expected) {
        let options = GetOptions::new().with_revision(revision);
        let response = client.get("k", Some(options)).await.unwrap();
        let values: Vec<_> = response.kvs().iter().map(|kv| kv.value()).collect();
        assert_eq!(values, expected, "at {revision}");
        assert_eq!(response.header().unwrap().revision(), 4);
    }
    let future = client.get("k", Some(GetOptions::new().with_revision(5))).await;
    let text = "etcdserver: mvcc: required revision is a future revision";
    refused(future, Code::OutOfRange, text);
}

async fn deletes_answer_what_went(mut subject: Subject) {
    let client = &mut subject.client;
    fill(client, &["a", "b/1", "b/2"]).await;
    let nothing = client.delete("x", None).await.unwrap();
    assert_eq!((nothing.deleted(), nothing.header().unwrap().revision()), (0, 4));
    let options = DeleteOptions::new().with_prefix().with_prev_key();
    let gone = client.delete("b/", Some(options)).await.unwrap();
    assert_eq!((gone.deleted(), gone.header().unwrap().revision()), (2, 5));
    assert_eq!(gone.prev_kvs()[1].value(), b"value of b/2");
    let all = client.delete("", Some(DeleteOptions::new().with_all_keys())).await.unwrap();
    assert_eq!((all.deleted(), all.prev_kvs().len()), (1, 0));
}

async fn compaction_refuses_what_is_gone(mut subject: Subject) {
    let client = &mut subject.client;
    fill(client, &["k", "k", "x", "k"]).await;
    client.delete("x", None).await.unwrap();
    let physical = || Some(CompactionOptions::new().with_physical());
    client.compact(4, physical()).await.unwrap();
    let gone = "etcdserver: mvcc: required revision has been compacted";
    let old = client.get("k", Some(GetOptions::new().with_revision(3))).await;
    refused(old, Code::OutOfRange, gone);
    refused(client.compact(4, None).await, Code::OutOfRange, gone);
    let future = "etcdserver: mvcc: required revision is a future revision";
    refused(client.compact(99, None).await, Code::OutOfRange, future);
    for (revision, version, x) in [(4, 2, 1), (5, 3, 1), (6, 3, 0)] {
        let at = || Some(GetOptions::new().with_revision(revision));
        let k = client.get("k", at()).await.unwrap();
        assert_eq!(k.kvs()[0].version(), version, "at {revision}");
        assert_eq!(client.get("x", at()).await.unwrap().count(), x, "at {revision}");
    }
    client.compact(6, physical()).await.unwrap();
    assert_eq!(client.get("k", None).await.unwrap().kvs()[0].version(), 3);
}

async fn wrong_requests_are_refused(mut subject: Subject) {
    let client = &mut subject.client;
    let empty = (Code::InvalidArgument, "etcdserver: key is not provided");
    refused(client.put("", "1", None).await, empty.0, empty.1);
    refused(client.get("", None).await, empty.0, empty.1);
    refused(client.delete("", None).await, empty.0, empty.1);
    let lease = client.put("k", "1", Some(PutOptions::new().with_lease(99))).await;
    refused(lease, Code::NotFound, "etcdserver: requested lease not found");
    let large = client.put("k", vec![0; (3 << 19) + 1], None).await;
    refused(large, Code::InvalidArgument, "etcdserver: request is too large");
    client.put("k", vec![0; 1 << 20], None).await.unwrap();
    assert_eq!(client.get("k", None).await.unwrap().header().unwrap().revision(), 2);
}
