//! Objects as users see them, as JSON documents.

use flyball_core::spec::{API_VERSION, KIND_LOOP, LoopSpec};
use flyball_core::status::LoopStatus;
use flyball_proto::v1::{LoopObject, NodeObject};
use flyball_store::LoopRecord;
use serde::Serialize;
use serde_json::json;

use crate::reactor::{LoopView, NodeStatus};

/// What users see of a loop; written without a copy, as every change of one is told to its watchers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LoopDocument<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: serde_json::Value,
    spec: &'a LoopSpec,
    status: &'a LoopStatus,
}

/// A loop's document.
pub(super) fn loop_object(view: &LoopView) -> LoopObject {
    object(&view.record, &view.status)
}

/// A loop's document from its parts.
pub(super) fn object(record: &LoopRecord, status: &LoopStatus) -> LoopObject {
    let mut metadata = json!({
        "name": record.key.name,
        "namespace": record.key.namespace,
        "uid": record.uid,
        "generation": record.generation,
        "creationTimestamp": record.created_at,
    });
    if !record.labels.is_empty() {
        metadata["labels"] = json!(record.labels);
    }
    if record.delete {
        metadata["deleting"] = json!(true);
    }
    let document = LoopDocument {
        api_version: API_VERSION,
        kind: KIND_LOOP,
        metadata,
        spec: &record.spec,
        status,
    };
    LoopObject {
        namespace: record.key.namespace.clone(),
        name: record.key.name.clone(),
        uid: record.uid.to_string(),
        generation: record.generation,
        object_json: bytes(&document),
    }
}

/// An object that says that a loop is gone.
pub(super) fn gone_object(key: &flyball_core::ids::LoopKey) -> LoopObject {
    LoopObject { namespace: key.namespace.clone(), name: key.name.clone(), ..LoopObject::default() }
}

/// A node's document.
pub(super) fn node_object(node: &NodeStatus, lease_ttl: Option<i64>) -> NodeObject {
    let capacity = &node.record.facts.capacity;
    let mut free = capacity.clone();
    free.cpu.0 = free.cpu.0.saturating_sub(node.used.cpu.0);
    free.memory.0 = free.memory.0.saturating_sub(node.used.memory.0);
    free.disk.0 = free.disk.0.saturating_sub(node.used.disk.0);
    for (name, count) in &mut free.custom {
        let used = node.used.custom.get(name).copied().unwrap_or_default();
        *count = count.saturating_sub(used);
    }
    let document = json!({
        "apiVersion": API_VERSION,
        "kind": "Node",
        "metadata": { "name": node.record.name, "labels": node.record.facts.labels },
        "node": node.record,
        "status": {
            "online": node.session.is_some(),
            "attached": node.attached,
            "runs": node.runs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "used": node.used,
            "free": free,
            "incarnation": node.session,
            "leaseTtl": lease_ttl,
        },
    });
    NodeObject { name: node.record.name.to_string(), object_json: bytes(&document) }
}

fn bytes(document: &impl Serialize) -> bytes::Bytes {
    // Plain data with text keys always serialises.
    serde_json::to_vec(document).unwrap_or_default().into()
}
