//! What a made-up node says: the part of a worker's side of a session that nodes which only talk need, too.

use flyball_proto::v1::{Assign, HeartbeatRequest, LiveRun, NodeMessage, RunUpdate, node_message};

/// The run that an assignment begins, and the report that it has begun, as the node's message of this number.
pub fn begun(assign: Assign, sequence: u64) -> (LiveRun, NodeMessage) {
    let run = LiveRun {
        namespace: assign.namespace.clone(),
        r#loop: assign.name.clone(),
        uid: assign.uid.clone(),
        token: assign.token,
    };
    let update = RunUpdate {
        sequence,
        namespace: assign.namespace,
        r#loop: assign.name,
        uid: assign.uid,
        token: assign.token,
        progress_json: assign.progress_json,
        event: String::new(),
    };
    (run, NodeMessage { message: Some(node_message::Message::RunUpdate(update)) })
}

/// A heartbeat of a node that was given no token yet.
pub fn heartbeat(node: &str, incarnation: String, lease_id: i64) -> HeartbeatRequest {
    HeartbeatRequest { node: node.to_owned(), incarnation, lease_id, token_mark: 0 }
}
