//! Servers, and a small world on them: a leader, nodes with sessions, loops.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::Channel;
use flyball_core::ids::{LoopKey, Token};
use flyball_core::spec::Access;
use flyball_core::status::{LoopStatus, Phase};
use flyball_embedded::{Options, Server as Embedded};
use flyball_store::{
    Assign, Campaign, ClaimRecord, Commit, CreateLoop, LeaderRecord, Leadership, LoopRecord,
    Mutation, MutationResult, OpenSession, Release, Session, Store,
};
use flyball_tests::etcd::Etcd;

/// Runs a test on each server, as a test per server.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() {
                super::$name($crate::setup::Server::embedded()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn etcd() {
                super::$name($crate::setup::Server::etcd().await).await;
            }
        }
    )+};
}

pub(crate) const TTL: Duration = Duration::from_secs(30);

/// A fresh server of its own for one test.
pub(crate) struct Server {
    channel: Channel,
    _keep: Box<dyn std::any::Any + Send>,
}

impl Server {
    pub(crate) fn embedded() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Embedded::open(Options::at(dir.path().join("store")));
        let server = server.expect("an embedded server");
        Self { channel: server.channel(), _keep: Box::new((server, dir)) }
    }

    pub(crate) async fn etcd() -> Self {
        let etcd = Etcd::start().await;
        Self { channel: etcd.channel(), _keep: Box::new(etcd) }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) async fn store(&self) -> Store {
        Store::from_channel(self.channel()).await.expect("store")
    }

    /// A client without our layer, for what a rogue or an operator would do.
    pub(crate) async fn raw(&self) -> etcd_client::Client {
        etcd_client::Client::from_channel(self.channel(), None).await.expect("client")
    }
}

/// A store with its leader.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) leadership: Leadership,
}

impl World {
    pub(crate) async fn new(server: &Server) -> Self {
        Self::over(server.store().await).await
    }

    pub(crate) async fn over(store: Store) -> Self {
        let leadership = lead(&store, "s1").await;
        Self { store, leadership }
    }

    pub(crate) async fn session(&self, node: &str) -> Session {
        let incarnation = format!("{node}-life");
        let opened = self
            .store
            .open_session(&self.leadership, &node.into(), &incarnation.into(), TTL)
            .await
            .expect("open");
        match opened {
            OpenSession::Opened(session) => session,
            other => panic!("not opened: {other:?}"),
        }
    }

    /// Creates a loop; returns the revision of its keys.
    pub(crate) async fn create(&self, name: &str) -> i64 {
        let created = self.store.create_loop(&record(name), &status("new")).await;
        match created.expect("create") {
            CreateLoop::Created { revision } => revision,
            other => panic!("not created: {other:?}"),
        }
    }

    pub(crate) async fn commit(&self, mutations: &[Mutation]) -> Commit {
        self.store.commit(&self.leadership, mutations).await
    }

    /// Commits one mutation that must succeed; returns its revision.
    pub(crate) async fn committed(&self, mutation: Mutation) -> i64 {
        let commit = self.commit(&[mutation]).await;
        match commit.results[..] {
            [MutationResult::Committed { revision }] => revision,
            _ => panic!("not committed: {commit:?}"),
        }
    }

    /// Revision of a loop's status.
    pub(crate) async fn status_revision(&self, name: &str) -> i64 {
        let (_, status) = self.store.get_loop(&key(name)).await.expect("get").expect("loop");
        status.expect("status").mod_revision
    }
}

pub(crate) async fn lead(store: &Store, id: &str) -> Leadership {
    match store.campaign(&leader(id), TTL).await.expect("campaign") {
        Campaign::Won(leadership) => leadership,
        Campaign::Held(held) => panic!("held by {held:?}"),
    }
}

pub(crate) fn leader(id: &str) -> LeaderRecord {
    LeaderRecord { id: id.to_owned(), address: format!("unix:/{id}") }
}

pub(crate) fn key(name: &str) -> LoopKey {
    LoopKey::new("default", name)
}

pub(crate) fn record(name: &str) -> LoopRecord {
    LoopRecord {
        key: key(name),
        uid: format!("uid-{name}").into(),
        generation: 1,
        labels: [("team".to_owned(), "a".to_owned())].into(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        spec: flyball_core::spec::LoopSpec { goal: name.to_owned(), ..Default::default() },
        spec_digest: "digest".to_owned(),
        traceparent: String::new(),
        cancel: None,
        delete: false,
    }
}

pub(crate) fn status(message: &str) -> LoopStatus {
    LoopStatus { message: message.to_owned(), ..LoopStatus::default() }
}

pub(crate) fn exclusive(paths: &[&str]) -> Vec<(Access, String)> {
    paths.iter().map(|path| (Access::Exclusive, (*path).to_owned())).collect()
}

/// The assignment of a loop, made at `status_revision`, to a node.
pub(crate) fn assign(
    name: &str,
    node: &str,
    session: &Session,
    status_revision: i64,
    owners: Vec<(Access, String)>,
) -> Mutation {
    let attempt = format!("attempt-{name}-{status_revision}");
    let claim = ClaimRecord {
        key: key(name),
        uid: format!("uid-{name}").into(),
        node: node.into(),
        incarnation: format!("{node}-life").into(),
        attempt: attempt.clone().into(),
        lease: session.lease,
        resources: owners.iter().map(|(_, resource)| resource.clone()).collect(),
        repository: String::new(),
        since: jiff::Timestamp::UNIX_EPOCH,
    };
    let status = LoopStatus {
        phase: Phase::Assigned,
        attempt: Some(attempt.into()),
        node: Some(node.into()),
        ..LoopStatus::default()
    };
    Mutation::Assign(Assign {
        claim,
        owners,
        status: Arc::new(status),
        status_revision,
        loop_revision: 0,
        session_revision: session.create_revision,
    })
}

/// The end of a claim with its token, where the status is still that of the assignment.
pub(crate) fn release(name: &str, token: i64, owners: Vec<(Access, String)>) -> Mutation {
    Mutation::Release(Release {
        key: key(name),
        uid: format!("uid-{name}").into(),
        status: Arc::new(status("released")),
        status_revision: token,
        token: Token(token),
        owners,
    })
}
