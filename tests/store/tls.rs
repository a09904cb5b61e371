//! A real etcd that wants certificates: who it takes, and whom the store takes for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flyball_pki::{Authority, KeyOf, LiveIdentity, Order, Subject, write_identity};
use flyball_store::{KeepAlive, Store};
use flyball_tests::etcd::secured;
use jiff::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);

fn issue(authority: &Authority, subject: Subject, hosts: &[&str], dir: &Path) {
    let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
    let order = Order { subject, hosts, lifetime: HOUR, key: KeyOf::New, not_before: None };
    let issued = authority.issue(&order, Timestamp::now()).expect("a certificate");
    let key = issued.key.expect("a key");
    write_identity(dir, &issued.bundle, &issued.chain, &key).expect("files");
}

async fn store(endpoint: &str, identity: &Path) -> Store {
    let identity = Arc::new(LiveIdentity::open(identity).expect("an identity"));
    Store::connect_as(&[endpoint.to_owned()], Some(identity)).await.expect("a store")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_show_certificates() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = |name: &str| dir.path().join(name);
    let authority = |name: &str| {
        Authority::init(&place(name), name, HOUR * 24, Timestamp::now()).expect("an authority")
    };
    let (ours, other) = (authority("ours"), authority("other"));
    issue(&ours, Subject::EtcdMember("e1".to_owned()), &["127.0.0.1"], &place("member"));
    let client = || Subject::EtcdClient("scheduler".to_owned());
    issue(&ours, client(), &[], &place("client"));
    issue(&other, client(), &[], &place("stranger"));
    let (etcd, endpoint) = secured(&place("member")).await;

    let good = store(&endpoint, &place("client")).await;
    assert!(good.status().await.expect("etcd answers").version.starts_with("3."));
    assert_eq!(good.installation().await.expect("a first use").schema_version, 1);
    // Leases go over a connection of their own.
    let lost = good.keep_alive(7).await.expect("an answer");
    assert_eq!(lost, KeepAlive::Lost, "there is no such lease");

    // Trusts the member, and shows a certificate of another authority.
    std::fs::copy(place("client").join("ca.pem"), place("stranger").join("ca.pem"))
        .expect("a copy");
    let refused = store(&endpoint, &place("stranger")).await.status().await;
    assert!(refused.is_err(), "etcd takes no stranger");

    // Shows a good certificate, and trusts another authority.
    std::fs::copy(place("other").join("ca.pem"), place("client").join("ca.pem")).expect("a copy");
    let refused = store(&endpoint, &place("client")).await.status().await;
    assert!(refused.is_err(), "the store takes no impostor");
    drop(etcd);
}
