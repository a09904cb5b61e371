//! What the benches on a running control plane share: its parts, and a client that stays connected.

use flyball_core::status::{LoopStatus, Phase};
use flyball_proto::transport::{self, Connection, Credential};
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::{ApplyRequest, WatchLoopsRequest};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::etcd::Etcd;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Label of the loops that are counted together.
const GROUP: &str = "group";

/// A control plane of one node, with the store it was asked for.
pub(crate) struct Plane {
    pub(crate) name: &'static str,
    pub(crate) cluster: Cluster,
    pub(crate) etcd: Option<Etcd>,
}

impl Plane {
    /// Brings up those planes that are named among the arguments, or all of them.
    pub(crate) async fn all(slots: u32) -> Vec<Self> {
        let wanted: Vec<String> =
            std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
        let mut planes = Vec::new();
        for name in ["embedded", "etcd"] {
            if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
                planes.push(Self::start(name, slots).await);
            }
        }
        planes
    }

    async fn start(name: &'static str, slots: u32) -> Self {
        let etcd = if name == "etcd" { Some(Etcd::start().await) } else { None };
        let endpoint = etcd.as_ref().map(Etcd::endpoint);
        let options = Options { slots, ttl: 6, etcd: endpoint, ..Options::default() };
        // Starting it blocks, and nothing else runs here yet.
        let cluster = tokio::task::block_in_place(|| Cluster::start(options));
        Self { name, cluster, etcd }
    }

    pub(crate) async fn client(&self) -> LoopsClient<Connection> {
        let address = self.cluster.address(1).parse().unwrap();
        LoopsClient::new(transport::connect(&address, Credential::none()).await.unwrap())
    }

    /// Names of a group's loops as they end, each once, with their phase.
    pub(crate) async fn ends(&self, group: &str) -> mpsc::UnboundedReceiver<(String, Phase)> {
        let mut client = self.client().await;
        let (sender, ends) = mpsc::unbounded_channel();
        let labels = [(GROUP.to_owned(), group.to_owned())].into();
        let request = WatchLoopsRequest { labels, ..WatchLoopsRequest::default() };
        let mut news = client.watch(request).await.unwrap().into_inner();
        tokio::spawn(async move {
            let mut ended = std::collections::HashSet::new();
            while let Ok(Some(change)) = news.message().await {
                let Some(object) = change.object.filter(|_| !change.deleted) else { continue };
                let document: Value = serde_json::from_slice(&object.object_json).unwrap();
                let status: LoopStatus =
                    serde_json::from_value(document["status"].clone()).unwrap();
                if status.phase.is_terminal() && ended.insert(object.uid) {
                    // Whoever counts may be done.
                    let _ = sender.send((object.name, status.phase));
                }
            }
        });
        ends
    }
}

/// A manifest with one check and no agent, in a group.
pub(crate) fn manifest(group: &str, name: &str, argv: &[&str]) -> Value {
    json!({
        "apiVersion": "flyball.dev/v1",
        "kind": "Loop",
        "metadata": { "name": name, "labels": { GROUP: group } },
        "spec": {
            "goal": "be done",
            "owns": [format!("bench:{name}")],
            "checks": [{ "name": "only", "run": argv }],
        },
    })
}

/// Submits a loop.
pub(crate) async fn apply(client: &mut LoopsClient<Connection>, manifest: &Value) {
    let manifest_json = serde_json::to_vec(manifest).unwrap().into();
    let request = ApplyRequest { manifest_json, ..ApplyRequest::default() };
    let answer = client.apply(request).await.unwrap().into_inner();
    assert_eq!(answer.outcome, "created");
}
