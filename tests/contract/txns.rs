//! Transactions, also nested: what is compared with what, what sees what, what is refused.

use crate::subject::{Subject, refused};
use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse,
};
use tonic::Code;

contract!(
    a_branch_is_chosen_by_all_compares,
    compares_cover_every_target,
    reads_see_earlier_writes_of_the_same_request,
    nested_compares_see_the_state_before,
    a_key_is_put_once,
    the_number_of_operations_is_bounded,
    a_refused_request_leaves_nothing,
    revisions_move_only_with_changes,
);

fn absent(key: &str) -> Compare {
    Compare::create_revision(key, CompareOp::Equal, 0)
}

fn put(key: &str, value: &str) -> TxnOp {
    TxnOp::put(key, value, None)
}

async fn a_branch_is_chosen_by_all_compares(mut subject: Subject) {
    let client = &mut subject.client;
    let txn = |compares: Vec<Compare>| {
        Txn::new().when(compares).and_then([put("yes", "1")]).or_else([put("no", "1")])
    };
    assert!(client.txn(txn(vec![])).await.unwrap().succeeded());
    assert!(client.txn(txn(vec![absent("a"), absent("b")])).await.unwrap().succeeded());
    let answer = client.txn(txn(vec![absent("a"), absent("yes")])).await.unwrap();
    assert!(!answer.succeeded());
    assert_eq!(client.get("no", None).await.unwrap().count(), 1);
}

async fn compares_cover_every_target(mut subject: Subject) {
    let client = &mut subject.client;
    client.put("k", "b", None).await.unwrap();
    client.put("k", "c", None).await.unwrap();
    client.put("l", "c", None).await.unwrap();
    use CompareOp::{Equal, Greater, Less, NotEqual};
    let lease = |op, lease| Compare::lease("k", op, lease);
    let cases = [
        (Compare::value("k", Equal, "c"), true),
        (Compare::value("k", Greater, "b"), true),
        (Compare::value("k", Less, "b"), false),
        (Compare::value("k", NotEqual, "c"), false),
        (Compare::value("missing", NotEqual, "c"), false),
        (Compare::value("missing", Equal, ""), false),
        (Compare::version("k", Equal, 2), true),
        (Compare::version("missing", Equal, 0), true),
        (Compare::create_revision("k", Less, 3), true),
        (Compare::mod_revision("k", Equal, 3), true),
        (Compare::mod_revision("k", Greater, 3), false),
        (lease(Equal, 0), true),
        (lease(NotEqual, 0), false),
        // Of a range every key must fit, and none is like a key that is missing.
        (Compare::value("k", Equal, "c").with_range("m"), true),
        (Compare::version("k", Equal, 2).with_prefix(), true),
        (Compare::version("k", Equal, 2).with_range("m"), false),
        (Compare::version("x", Equal, 0).with_prefix(), true),
    ];
    for (compare, expected) in cases {
        let txn = Txn::new().when([compare.clone()]);
        assert_eq!(client.txn(txn).await.unwrap().succeeded(), expected, "{compare:?}");
    }
}

async fn reads_see_earlier_writes_of_the_same_request(mut subject: Subject) {
    let client = &mut subject.client;
    client.put("old", "1", None).await.unwrap();
    let get = || TxnOp::get("", Some(GetOptions::new().with_all_keys()));
    let delete = TxnOp::delete("old", Some(DeleteOptions::new().with_prev_key()));
    let txn = Txn::new().and_then([get(), put("new", "2"), get(), delete, get()]);
    let answer = client.txn(txn).await.unwrap();
    assert_eq!(answer.header().unwrap().revision(), 3);
    let mut counts = Vec::new();
    for response in answer.op_responses() {
        match response {
            TxnOpResponse::Get(get) => {
                counts.push((get.count(), get.header().unwrap().revision()));
            }
            TxnOpResponse::Delete(delete) => assert_eq!(delete.prev_kvs()[0].value(), b"1"),
            _ => {}
        }
    }
    assert_eq!(counts, [(1, 2), (2, 3), (1, 3)]);
    let kv = client.get("new", None).await.unwrap().kvs()[0].clone();
    assert_eq!((kv.create_revision(), kv.mod_revision()), (3, 3));
}

async fn nested_compares_see_the_state_before(mut subject: Subject) {
    let client = &mut subject.client;
    // Two assignments in one request: the second does not see the first.
    let assign = |key: &str| {
        let winner = Txn::new().when([absent("shared")]).and_then([put(key, "won")]);
        TxnOp::txn(winner.or_else([TxnOp::get("shared", None)]))
    };
    let txn = Txn::new().and_then([put("shared", "x"), assign("a"), assign("b")]);
    let answer = client.txn(txn).await.unwrap();
    let inner: Vec<bool> = answer
        .op_responses()
        .iter()
        .filter_map(|response| match response {
            TxnOpResponse::Txn(txn) => Some(txn.succeeded()),
            _ => None,
        })
        .collect();
    assert_eq!(inner, [true, true]);
    let kvs = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    let revisions: Vec<_> = kvs.kvs().iter().map(|kv| kv.mod_revision()).collect();
    assert_eq!(revisions, [2, 2, 2]);
    let txn = Txn::new().and_then([assign("c"), assign("d")]);
    let answer = client.txn(txn).await.unwrap();
    assert_eq!(answer.header().unwrap().revision(), 2);
}

async fn a_key_is_put_once(mut subject: Subject) {
    let client = &mut subject.client;
    let text = "etcdserver: duplicate key given in txn request";
    let nested = |then: TxnOp, otherwise: TxnOp| {
        TxnOp::txn(Txn::new().and_then([then]).or_else([otherwise]))
    };
    let all = || TxnOp::delete("a", Some(DeleteOptions::new().with_range("z")));
    let refusals = [
        vec![put("k", "1"), put("k", "2")],
        vec![put("k", "1"), TxnOp::delete("k", None)],
        vec![all(), put("k", "1")],
        vec![put("k", "1"), nested(put("k", "2"), put("l", "2"))],
        vec![nested(put("k", "2"), put("l", "2")), nested(put("x", "2"), put("k", "2"))],
        vec![all(), nested(put("k", "2"), put("l", "2"))],
        vec![nested(all(), put("zz", "2")), put("k", "2")],
    ];
    for ops in refusals {
        let outcome = client.txn(Txn::new().and_then(ops.clone())).await;
        assert!(outcome.is_err(), "{ops:?}");
        refused(outcome, Code::InvalidArgument, text);
    }
    // Only one of two branches runs; and a get is no put.
    let fine = vec![nested(put("k", "2"), put("k", "3")), TxnOp::get("k", None)];
    client.txn(Txn::new().and_then(fine)).await.unwrap();
    let branches = Txn::new().and_then([put("k", "1")]).or_else([put("k", "2")]);
    client.txn(branches).await.unwrap();
}

async fn the_number_of_operations_is_bounded(mut subject: Subject) {
    let client = &mut subject.client;
    let text = "etcdserver: too many operations in txn request";
    let puts = |count: usize| (0..count).map(|i| put(&format!("k{i}"), "v")).collect::<Vec<_>>();
    client.txn(Txn::new().and_then(puts(128))).await.unwrap();
    refused(client.txn(Txn::new().and_then(puts(129))).await, Code::InvalidArgument, text);
    // N nested transactions of width k: N + k <= 128.
    let nested = |count: usize, width: usize| {
        let inner = |i: usize| {
            let compares: Vec<_> = (0..width).map(|j| absent(&format!("c{i}/{j}"))).collect();
            TxnOp::txn(Txn::new().when(compares).and_then([put(&format!("n{i}"), "v")]))
        };
        Txn::new().and_then((0..count).map(inner).collect::<Vec<_>>())
    };
    client.txn(nested(127, 1)).await.unwrap();
    client.txn(nested(110, 18)).await.unwrap();
    refused(client.txn(nested(128, 1)).await, Code::InvalidArgument, text);
    refused(client.txn(nested(111, 18)).await, Code::InvalidArgument, text);
}

async fn a_refused_request_leaves_nothing(mut subject: Subject) {
    let client = &mut subject.client;
    client.put("k", "1", None).await.unwrap();
    let leased = PutOptions::new().with_lease(99);
    let lease = TxnOp::put("b", "1", Some(leased));
    let keep = TxnOp::put("b", "", Some(PutOptions::new().with_ignore_value()));
    let future = TxnOp::get("k", Some(GetOptions::new().with_revision(99)));
    let cases = [
        (lease, Code::NotFound, "etcdserver: requested lease not found"),
        (keep, Code::InvalidArgument, "etcdserver: key not found"),
        (future, Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
    ];
    for (bad, code, text) in cases {
        let inner = TxnOp::txn(Txn::new().and_then([put("c", "1"), bad.clone()]));
        let txn = Txn::new().and_then([put("a", "1"), TxnOp::delete("k", None), inner]);
        refused(client.txn(txn).await, code, text);
        // In the branch that is not taken nobody minds.
        let txn = Txn::new().and_then([TxnOp::get("k", None)]).or_else([put("a", "1"), bad]);
        client.txn(txn).await.unwrap();
    }
    let all = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    assert_eq!((all.count(), all.header().unwrap().revision()), (1, 2));
}

async fn revisions_move_only_with_changes(mut subject: Subject) {
    let client = &mut subject.client;
    client.put("k", "1", None).await.unwrap();
    let quiet = Txn::new().and_then([TxnOp::delete("x", None), TxnOp::get("k", None)]);
    assert_eq!(client.txn(quiet).await.unwrap().header().unwrap().revision(), 2);
    let busy = Txn::new().and_then([put("a", "1"), put("b", "1"), TxnOp::delete("k", None)]);
    assert_eq!(client.txn(busy).await.unwrap().header().unwrap().revision(), 3);
}
