//! Many leases and many nodes, for cases of a store with a lot to end.

use std::time::Duration;

use etcd_client::{GetOptions, PutOptions};
use flyball_core::node::NodeFacts;
use flyball_proto::transport::{self, Address, Credential};
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_proto::v1::{NodeMessage, Register, node_message};
use tokio::task::JoinSet;

use super::fleet::{Fleet, TOKEN};

/// Where the keys of leases go: outside of our prefix.
const SWARM: &str = "/swarm/";
/// Calls under way at a time: what one client of etcd takes without a queue.
const AT_ONCE: usize = 32;
/// Longest wait for one call.
const CALL_MAX: Duration = Duration::from_secs(10);

impl Fleet {
    /// Registers nodes with the leader, then never sends a heartbeat. Gives their names.
    pub(crate) fn short_lived_nodes(&self, count: usize) -> Vec<String> {
        let address = &self.addresses[&self.leader()];
        let names: Vec<String> = (1..=count).map(|number| format!("ghost-{number}")).collect();
        self.runtime.block_on(async {
            for name in &names {
                let registered = tokio::time::timeout(CALL_MAX, register(address, name)).await;
                registered.expect("a scheduler answers").expect("a node can register");
            }
        });
        names
    }

    /// Grants leases, each with a key, that nobody renews.
    pub(crate) fn short_leases(&self, count: usize, ttl_seconds: i64) {
        self.runtime.block_on(async {
            let client = self.raw().await;
            let mut under_way = JoinSet::new();
            for number in 0..count {
                if under_way.len() >= AT_ONCE {
                    under_way.join_next().await.expect("some").expect("no panic");
                }
                let mut client = client.clone();
                under_way.spawn(async move {
                    let lease = client.lease_grant(ttl_seconds, None).await.expect("a lease");
                    let bound = PutOptions::new().with_lease(lease.id());
                    let put = client.put(format!("{SWARM}{number}"), "x", Some(bound)).await;
                    // A slow machine may see the first ones end before the last ones are made.
                    if let Err(error) = put {
                        assert!(error.to_string().contains("lease not found"), "{error}");
                    }
                });
            }
            while let Some(done) = under_way.join_next().await {
                done.expect("no panic");
            }
        });
    }

    /// How many of these leases' keys are left.
    pub(crate) fn leased_keys(&self) -> i64 {
        self.runtime.block_on(async {
            let options = GetOptions::new().with_prefix().with_count_only();
            let found = self.raw().await.get(SWARM, Some(options)).await;
            found.expect("etcd answers").count()
        })
    }
}

async fn register(address: &str, name: &str) -> Result<(), String> {
    let address: Address = address.parse().map_err(|_| format!("{address} is no address"))?;
    let credential = Credential::bearer(TOKEN).map_err(|error| error.to_string())?;
    let connection = transport::connect(&address, credential).await;
    let connection = connection.map_err(|error| error.to_string())?;
    let facts = NodeFacts { slots: 1, ..NodeFacts::default() };
    let register = Register {
        node: name.to_owned(),
        incarnation: format!("{name}-1"),
        version: "0.1.0".to_owned(),
        facts_json: serde_json::to_vec(&facts).map_err(|error| error.to_string())?.into(),
        ttl_seconds: 2,
        ..Register::default()
    };
    let message = NodeMessage { message: Some(node_message::Message::Register(register)) };
    let answer = SessionsClient::new(connection).attach(tokio_stream::iter([message])).await;
    let mut answers = answer.map_err(|status| status.to_string())?.into_inner();
    answers.message().await.map(drop).map_err(|status| status.to_string())
}
