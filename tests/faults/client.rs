//! Clients of the fleet: every call and its answer is written down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flyball_core::status::LoopStatus;
use flyball_proto::transport::{self, Address, Credential};
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::nodes_client::NodesClient;
use flyball_proto::v1::{ApplyRequest, GetLoopRequest, LoopObject, MarkNodeRequest, NodeMark};
use flyball_tests::history::{Answer, Call, Event};
use serde_json::Value;
use tonic::{Code, Status};

use super::recorder::{Record, result};

/// Longest wait of a client; then it does not know.
const PATIENCE: Duration = Duration::from_secs(3);

/// Numbers of calls, unique in a history.
pub(crate) type Operations = Arc<AtomicU64>;

/// One client; it has one call under way at most.
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) record: Arc<Record>,
    pub(crate) operations: Operations,
    pub(crate) credential: Credential,
}

impl Client {
    /// Creates a loop through a scheduler.
    pub(crate) async fn apply(&self, address: &str, key: &str, manifest: &Value) -> Answer {
        let digest = digest(&manifest["spec"]);
        let call = Call::Apply { key: key.to_owned(), digest };
        let request =
            ApplyRequest { manifest_json: manifest.to_string().into(), ..Default::default() };
        self.call(address, call, |mut loops| async move {
            let answer = loops.apply(request).await?.into_inner();
            Ok(answer.object.unwrap_or_default())
        })
        .await
    }

    /// Reads a loop through a scheduler.
    pub(crate) async fn get(&self, address: &str, key: &str) -> Answer {
        let (namespace, name) = key.split_once('/').expect("namespace and name");
        let request = GetLoopRequest { namespace: namespace.to_owned(), name: name.to_owned() };
        self.call(address, Call::Get { key: key.to_owned() }, |mut loops| async move {
            loops.get(request).await.map(tonic::Response::into_inner)
        })
        .await
    }

    /// Whether a node gets new work, told to a scheduler that must take it.
    pub(crate) async fn mark(&self, address: &str, node: &str, mark: NodeMark) {
        let address: Address = address.parse().expect("a well-formed address");
        let connected = transport::connect(&address, self.credential.clone()).await;
        let mut nodes = NodesClient::new(connected.expect("a scheduler"));
        let name = node.to_owned();
        let request = MarkNodeRequest { name, mark: mark.into(), ..MarkNodeRequest::default() };
        nodes.mark(request).await.expect("the node is marked");
    }

    async fn call<F>(
        &self,
        address: &str,
        call: Call,
        ask: impl FnOnce(LoopsClient<transport::Connection>) -> F,
    ) -> Answer
    where
        F: Future<Output = Result<LoopObject, Status>>,
    {
        let op = self.operations.fetch_add(1, Ordering::SeqCst);
        self.record.event(Event::Invoke { op, client: self.name.clone(), call });
        let asked = async {
            let address: Address = address.parse().expect("a well-formed address");
            let connected = transport::connect(&address, self.credential.clone()).await;
            let connection = connected.map_err(|error| Status::unavailable(error.to_string()))?;
            ask(LoopsClient::new(connection)).await
        };
        let answer = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(object)) => told(&object),
            Ok(Err(status)) => refused(&status),
            Err(_) => Answer::Unknown { message: format!("no answer in {PATIENCE:?}") },
        };
        self.record.event(Event::Return { op, answer: answer.clone() });
        answer
    }
}

/// What tells one manifest from another. The goal is made different for each.
fn digest(spec: &Value) -> String {
    spec["goal"].as_str().unwrap_or_default().to_owned()
}

fn told(object: &LoopObject) -> Answer {
    let json: Value = serde_json::from_slice(&object.object_json).unwrap_or_default();
    let status: LoopStatus = serde_json::from_value(json["status"].clone()).unwrap_or_default();
    Answer::Object {
        uid: object.uid.clone(),
        generation: object.generation,
        digest: digest(&json["spec"]),
        phase: status.phase.to_string(),
        result: result(&status),
    }
}

fn refused(status: &Status) -> Answer {
    let message = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::NotFound => Answer::NotFound,
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unauthenticated => Answer::Refused { message },
        _ => Answer::Unknown { message },
    }
}
