//! Many leases and many nodes, for cases of a store with a lot to end.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{GetOptions, PutOptions};
use flyball_core::node::NodeFacts;
use flyball_proto::transport::{self, Address, Credential};
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_proto::v1::{
    Assign, HeartbeatRequest, LiveRun, NodeMessage, Register, node_message, scheduler_message,
};
use flyball_tests::talk;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::fleet::Fleet;

/// Where the keys of leases go: outside of our prefix.
const SWARM: &str = "/swarm/";
/// Calls under way at a time: what one client of etcd takes without a queue.
const AT_ONCE: usize = 32;
/// Pause between two heartbeats of a ghost.
const BEAT: Duration = Duration::from_millis(400);
/// Pause before a ghost asks the next scheduler.
const RETRY: Duration = Duration::from_millis(50);
/// Messages of a ghost under way: it has one run.
const OUTBOX: usize = 8;

/// Nodes that run nothing: each takes one loop and says that it runs. Dropping this ends them all at once, without
/// a word.
pub(crate) struct Ghosts {
    pub(crate) names: Vec<String>,
    _lives: JoinSet<()>,
}

impl Fleet {
    /// Registers such nodes.
    pub(crate) fn ghosts(&self, count: usize) -> Ghosts {
        let names: Vec<String> = (1..=count).map(|number| format!("ghost-{number}")).collect();
        let addresses: Vec<String> = self.addresses.values().cloned().collect();
        let ttl_seconds = i64::try_from(self.shape.ttl).expect("a short time");
        let mut lives = JoinSet::new();
        for name in &names {
            let (name, addresses) = (name.clone(), addresses.clone());
            let (credential, runs) = (self.secrets.credential(), BTreeMap::new());
            let life = Ghost { name, credential, ttl_seconds, lease: 0, sequence: 0, runs };
            lives.spawn_on(life.live(addresses), self.runtime.handle());
        }
        Ghosts { names, _lives: lives }
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

struct Ghost {
    name: String,
    credential: Credential,
    ttl_seconds: i64,
    lease: i64,
    sequence: u64,
    runs: BTreeMap<String, LiveRun>,
}

impl Ghost {
    /// Keeps a session with whoever leads.
    async fn live(mut self, addresses: Vec<String>) {
        for address in addresses.iter().cycle() {
            // One that does not lead refuses; whatever went wrong, the next one is asked.
            let _ = self.session(address).await;
            tokio::time::sleep(RETRY).await;
        }
    }

    fn incarnation(&self) -> String {
        format!("life-of-{}", self.name)
    }

    fn register(&self) -> NodeMessage {
        let facts = NodeFacts { slots: 1, ..NodeFacts::default() };
        let register = Register {
            node: self.name.clone(),
            incarnation: self.incarnation(),
            version: "0.1.0".to_owned(),
            facts_json: serde_json::to_vec(&facts).expect("plain data").into(),
            ttl_seconds: self.ttl_seconds,
            lease_id: self.lease,
            runs: self.runs.values().cloned().collect(),
            ..Register::default()
        };
        NodeMessage { message: Some(node_message::Message::Register(register)) }
    }

    async fn session(&mut self, address: &str) -> Result<(), String> {
        let address: Address = address.parse().map_err(|_| format!("{address} is no address"))?;
        let connection = transport::connect(&address, self.credential.clone()).await;
        let mut client = SessionsClient::new(connection.map_err(|error| error.to_string())?);
        let (outbox, stream) = mpsc::channel(OUTBOX);
        outbox.send(self.register()).await.map_err(|error| error.to_string())?;
        let answer = client.attach(ReceiverStream::new(stream)).await;
        let mut inbound = answer.map_err(|status| status.to_string())?.into_inner();
        let mut beat = tokio::time::interval(BEAT);
        loop {
            let message = tokio::select! {
                message = inbound.message() => message.map_err(|status| status.to_string())?,
                _ = beat.tick() => {
                    if self.lease != 0 {
                        let beat = client.heartbeat(self.heartbeat()).await;
                        beat.map_err(|status| status.to_string())?;
                    }
                    continue;
                }
            };
            match message.and_then(|message| message.message) {
                Some(scheduler_message::Message::Registered(known)) => self.lease = known.lease_id,
                Some(scheduler_message::Message::Assign(assign)) => {
                    self.assigned(assign, &outbox).await;
                }
                Some(scheduler_message::Message::Refused(_)) | None => return Ok(()),
                _ => {}
            }
        }
    }

    fn heartbeat(&self) -> HeartbeatRequest {
        talk::heartbeat(&self.name, self.incarnation(), self.lease)
    }

    async fn assigned(&mut self, assign: Assign, outbox: &mpsc::Sender<NodeMessage>) {
        self.sequence += 1;
        let (run, message) = talk::begun(assign, self.sequence);
        self.runs.insert(run.uid.clone(), run);
        // The session may have ended; then the next one tells of the run.
        let _ = outbox.send(message).await;
    }
}
