//! The end of an incarnation of which nothing is left, said by its guard or by itself: its lease is
//! revoked at once, so that nobody waits for the time to live. Every scheduler does it, leading or
//! not, as the leader learns of it from the store like of any other end of a lease.
//!
//! Whoever says it has to know incarnation and lease. The incarnation is a random number of 122 bits,
//! so nobody guesses it; who may read nodes knows both, and may as well drain the node. A lie ends a
//! lease that is alive, which costs work and is safe, like every early end of a lease: the node is
//! told at its next heartbeat, and its pushes are refused from the next owner's seal on.

use flyball_core::ids::{Incarnation, NodeName};
use flyball_proto::v1::{ReportGoneRequest, ReportGoneResponse};
use flyball_store::EndSession;
use tonic::{Code, Response, Status};

use super::Api;
use super::error::{invalid_field, of_store, status};

impl Api {
    pub(super) async fn end_gone(
        &self,
        request: ReportGoneRequest,
    ) -> Result<Response<ReportGoneResponse>, Status> {
        if let Err(error) = flyball_core::ids::check_name(&request.node) {
            return Err(invalid_field("node", error.to_string()));
        }
        if request.incarnation.is_empty() || request.lease_id == 0 {
            return Err(invalid_field("incarnation", "needs an incarnation and its lease"));
        }
        let (node, incarnation) = (NodeName(request.node), Incarnation(request.incarnation));
        // Its runs are not taken as proven to have stopped: no process of theirs is left, but a push
        // that one of them sent may still be on its way, and only a seal keeps that out.
        let ended = self.store.end_session(&node, &incarnation, request.lease_id).await;
        match ended.map_err(|error| of_store(&error))? {
            EndSession::Ended => {
                tracing::info!(%node, %incarnation, "nothing is left of this incarnation");
                Ok(Response::new(ReportGoneResponse { ended: true }))
            }
            EndSession::Gone => Ok(Response::new(ReportGoneResponse { ended: false })),
            EndSession::Other(found) => {
                let message = format!("the session of node {node} is another one; it goes on");
                let of = &found.value.incarnation;
                tracing::warn!(%node, %incarnation, %of, "refused a report of an end: {message}");
                Err(status(Code::FailedPrecondition, "OTHER_INCARNATION", message))
            }
        }
    }
}
