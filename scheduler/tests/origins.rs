//! Where calls come from, as the audit trail tells it: over every kind of listener.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flyball_core::access::AuditEntry;
use flyball_pki::{Authority, DAY, KeyOf, LiveIdentity, Order, Subject, write_identity};
use flyball_proto::transport::{self, Connection, Credential};
use flyball_proto::v1::access_client::AccessClient;
use flyball_proto::v1::audit_client::AuditClient;
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::{CancelLoopRequest, ListAuditRequest, WhoAmIRequest};
use flyball_scheduler::{Config, Listen, StoreChoice};
use tokio::sync::oneshot;

/// The longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

fn issue(dir: &Path, authority: &Authority, name: &str) -> PathBuf {
    let subject = Subject::Caller(name.parse().unwrap());
    let hosts = if subject.serves() { vec!["127.0.0.1".to_owned()] } else { Vec::new() };
    let order = Order { subject, hosts, lifetime: DAY, key: KeyOf::New, not_before: None };
    let issued = authority.issue(&order, jiff::Timestamp::now()).unwrap();
    let place = dir.join(name.replace(':', "-"));
    write_identity(&place, &issued.bundle, &issued.chain, issued.key.as_deref().unwrap()).unwrap();
    place
}

/// Tries to change something, which is written down, and answers what the caller is told of itself.
async fn act(connection: Connection) -> String {
    let request = CancelLoopRequest { name: "none".to_owned(), ..CancelLoopRequest::default() };
    let refused = LoopsClient::new(connection.clone()).cancel(request).await;
    assert!(refused.is_err());
    let me = AccessClient::new(connection).who_am_i(WhoAmIRequest {}).await.unwrap();
    me.into_inner().from
}

#[tokio::test]
async fn every_entry_of_the_trail_says_where_the_call_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let now = jiff::Timestamp::now();
    let authority = Authority::init(&dir.path().join("ca"), "ours", DAY * 10, now).unwrap();
    let live =
        |name: &str| Arc::new(LiveIdentity::open(&issue(dir.path(), &authority, name)).unwrap());
    let (scheduler, user) = (live("scheduler:s1"), live("user:ada"));
    let addr = "127.0.0.1:0".parse().unwrap();
    let config = Config::new(
        StoreChoice::Memory,
        vec![
            Listen::Tls { addr, identity: scheduler },
            Listen::Tcp { addr, token: "a-token".to_owned() },
            Listen::Unix(dir.path().join("own/s.sock")),
        ],
    );
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, is_ready) = oneshot::channel();
    let task = tokio::spawn(flyball_scheduler::run(
        config,
        async move { drop(stopped.await) },
        move |bound| drop(ready.send(bound)),
    ));
    let bound = tokio::time::timeout(PATIENCE, is_ready).await.unwrap().unwrap();
    let credentials = [
        Credential::none().with_identity(Some(user)),
        Credential::bearer("a-token").unwrap(),
        Credential::none(),
    ];
    let mut told = Vec::new();
    let mut owner = None;
    for (address, credential) in bound.addresses.iter().zip(credentials) {
        let connection = transport::connect(&address.parse().unwrap(), credential).await.unwrap();
        told.push(act(connection.clone()).await);
        owner = Some(connection);
    }
    assert!(told[0].starts_with("127.0.0.1:"), "{told:?}");
    assert!(told[1].starts_with("127.0.0.1:"), "{told:?}");
    assert!(told[2].starts_with("unix uid "), "{told:?}");
    let request = ListAuditRequest { limit: 100, ..ListAuditRequest::default() };
    let listed = AuditClient::new(owner.unwrap()).list(request).await.unwrap().into_inner();
    let read = |json: &_| serde_json::from_slice::<AuditEntry>(json).unwrap();
    let mut origins: Vec<String> = listed.entries_json.iter().map(|json| read(json).from).collect();
    origins.sort();
    told.sort();
    assert_eq!(origins, told);
    let _ = stop.send(());
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
}
