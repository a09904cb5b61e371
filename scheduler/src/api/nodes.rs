//! The service `Nodes`: what nodes there are, and the operators' marks on them.

use std::sync::Arc;

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
use crate::reactor::Event;

/// Tries against others who write the same record.
const TRIES_MAX: u32 = 8;

#[tonic::async_trait]
impl Nodes for Api {
    async fn list(
        &self,
        _: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        let nodes = self.core.ask(|reactor, _| reactor.node_statuses()).await?;
        let mut objects = Vec::with_capacity(nodes.len());
        for node in &nodes {
            let ttl = match node.lease {
                Some(lease) => self.store.time_to_live(lease).await.ok().flatten(),
                None => None,
            };
            let ttl = ttl.and_then(|ttl| i64::try_from(ttl.as_secs()).ok());
            objects.push(node_object(node, ttl));
        }
        Ok(Response::new(ListNodesResponse { nodes: objects }))
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
    if record.mark == mark && request.reason.is_empty() {
        return;
    }
    record.mark = mark;
    if mark == node::NodeMark::Schedulable {
        (record.mark_reason, record.mark_by, record.mark_at) = Default::default();
    } else {
        record.mark_reason.clone_from(&request.reason);
        record.mark_by.clone_from(&request.by);
        record.mark_at = Some(now);
    }
}
