//! What the suite runs on.

use etcd_client::{Client, Error};
use flyball_embedded::{Listening, Options, Server};
use flyball_tests::etcd::{Etcd, is_skipped, version};
use std::sync::OnceLock;
use tonic::Code;

/// A fresh server of either kind with a client.
pub(crate) struct Subject {
    pub(crate) client: Client,
    keep: Keep,
}

enum Keep {
    Embedded { server: Server, dir: tempfile::TempDir, listening: OnceLock<Listening> },
    Etcd(Etcd),
}

impl Subject {
    /// The embedded server on a directory of its own.
    pub(crate) async fn embedded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::open(Options::at(dir.path())).unwrap();
        let client = Client::from_channel(server.channel(), None).await.unwrap();
        Self { client, keep: Keep::Embedded { server, dir, listening: OnceLock::new() } }
    }

    /// A real etcd, or nothing where that is switched off.
    pub(crate) async fn etcd() -> Option<Self> {
        if is_skipped() {
            println!("skipped: no real etcd wanted here");
            return None;
        }
        println!("real etcd: {}", version().unwrap());
        let etcd = Etcd::start().await;
        let client = Client::from_channel(etcd.channel(), None).await.unwrap();
        Some(Self { client, keep: Keep::Etcd(etcd) })
    }

    /// An address for other programs. The embedded server starts to listen for it.
    pub(crate) fn endpoint(&self) -> String {
        match &self.keep {
            Keep::Etcd(etcd) => etcd.endpoint(),
            Keep::Embedded { server, dir, listening } => {
                let path = dir.path().join("etcd.sock");
                listening.get_or_init(|| server.listen(&path).unwrap());
                format!("unix://{}", path.display())
            }
        }
    }
}

/// Makes two tests of every named function, one per kind of server.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::subject::Subject::embedded().await).await;
            })+
        }
        mod etcd {
            $(#[tokio::test]
            async fn $name() {
                if let Some(subject) = crate::subject::Subject::etcd().await {
                    super::$name(subject).await;
                }
            })+
        }
    };
}

/// Code and text of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, Error>) -> (Code, String) {
    match outcome.unwrap_err() {
        Error::GRpcStatus(status) => (status.code(), status.message().to_owned()),
        other => panic!("not a status: {other:?}"),
    }
}

/// Asserts a refusal.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, code: Code, text: &str) {
    assert_eq!(refusal(outcome), (code, text.to_owned()));
}
