//! The service `Nodes`: what nodes there are, and the operators' marks on them.

use std::sync::Arc;
use std::time::Duration;

use flyball_core::ids::NodeName;
use flyball_core::node;
use flyball_proto::v1::nodes_server::Nodes;
use flyball_proto::v1::{
    ListNodesRequest, ListNodesResponse, MarkNodeRequest, NodeMark, NodeObject,
};
use flyball_store::{Change, Stored, Update};
use jiff::Timestamp;
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::documents::node_object;
use super::error::{contended, invalid_field, of_store, status};
use crate::reactor::{Event, NodeStatus};

/// Tries against others who write the same record.
const TRIES_MAX: u32 = 8;

/// How long runs of a draining node may take to reach their iteration's edge where nobody says. An
/// iteration whose agent (30 min) and checks (5 min each) use all of their default times still fits.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3600);

#[tonic::async_trait]
impl Nodes for Api {
    async fn list(
        &self,
        _: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        let nodes = self.core.ask(|reactor, _| reactor.node_statuses()).await?;
        let left = self.leases_left(nodes.iter().filter_map(|node| node.lease)).await;
        let ttl = |node: &NodeStatus| left.get(&node.lease?).map(|left| left.seconds());
        let nodes = nodes.iter().map(|node| node_object(node, ttl(node))).collect();
        Ok(Response::new(ListNodesResponse { nodes }))
    }

    #[tracing::instrument(name = "node.mark", skip_all, fields(node = request.get_ref().name))]
    async fn mark(
        &self,
        request: Request<MarkNodeRequest>,
    ) -> Result<Response<NodeObject>, Status> {
        let request = request.into_inner();
        let mark = match request.mark() {
            NodeMark::Schedulable => node::NodeMark::Schedulable,
            NodeMark::Cordoned => node::NodeMark::Cordoned,
            NodeMark::Draining => node::NodeMark::Draining,
            NodeMark::Unspecified => return Err(invalid_field("mark", "is missing")),
        };
        let name = NodeName(request.name.clone());
        for _ in 0..TRIES_MAX {
            let found = self.store.get_node(&name).await.map_err(|error| of_store(&error))?;
            let Some(found) = found else {
                let message = format!("there is no node {name}");
                return Err(status(Code::NotFound, "NODE_NOT_FOUND", message));
            };
            let mut record = node::NodeRecord::clone(&found.value);
            remark(&mut record, mark, &request, self.about.ambient.now());
            let put = self.store.put_node(&record, found.mod_revision).await;
            if let Update::Done { revision } = put.map_err(|error| of_store(&error))? {
                let value = Arc::new(record);
                let create_revision = found.create_revision;
                let stored = Stored { value, mod_revision: revision, create_revision, lease: 0 };
                let changes = vec![Change::Node(name.clone(), Some(stored))];
                self.core.tell(Event::Written { revision, changes }).await?;
                let node = self.core.ask(move |reactor, _| reactor.node_status(&name)).await?;
                let object = node.map(|node| node_object(&node, None));
                return Ok(Response::new(object.unwrap_or_default()));
            }
        }
        Err(contended(&format!("node {name}")))
    }
}

/// Writes a mark down. The same mark again without a reason keeps what was said before; a node that
/// takes runs again has nothing to explain.
fn remark(
    record: &mut node::NodeRecord,
    mark: node::NodeMark,
    request: &MarkNodeRequest,
    now: Timestamp,
) {
    let again = record.mark == mark;
    if again && request.reason.is_empty() && request.deadline_ms.is_none() {
        return;
    }
    record.mark = mark;
    record.mark_deadline = None;
    if mark == node::NodeMark::Draining {
        let deadline = request.deadline_ms.map_or(DRAIN_DEADLINE, Duration::from_millis);
        let deadline = now.checked_add(deadline);
        record.mark_deadline = Some(deadline.unwrap_or(Timestamp::MAX));
    }
    if mark == node::NodeMark::Schedulable {
        (record.mark_reason, record.mark_by, record.mark_at) = Default::default();
    } else {
        if !again || !request.reason.is_empty() {
            record.mark_reason.clone_from(&request.reason);
        }
        record.mark_by.clone_from(&request.by);
        record.mark_at = Some(now);
    }
}
