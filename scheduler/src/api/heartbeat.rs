//! Heartbeats: each is answered only with the result of a renewal that was sent to the store after
//! it arrived, never with an earlier one; otherwise a worker's deadline would rest on a renewal that
//! may be older than its heartbeat. Every scheduler answers, leading or not.

use flyball_proto::v1::{HeartbeatRequest, HeartbeatResponse};
use flyball_store::KeepAlive;
use tonic::{Code, Response, Status};

use super::Api;
use super::error::{of_store, status};

impl Api {
    pub(super) async fn renew(
        &self,
        request: HeartbeatRequest,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        // A leader that has stopped must not be kept in office by somebody else's heartbeats.
        let leads_by = self.leadership.borrow().as_ref().map(|leadership| leadership.lease);
        if leads_by == Some(request.lease_id) {
            let message = format!("lease {:x} is not one of a node", request.lease_id);
            return Err(status(Code::NotFound, "LEASE_LOST", message));
        }
        match self.store.keep_alive(request.lease_id).await {
            Ok(KeepAlive::Renewed { ttl }) => {
                let ttl_seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
                Ok(Response::new(HeartbeatResponse { ttl_seconds }))
            }
            Ok(KeepAlive::Lost) => {
                let message = format!("lease {:x} of {} is gone", request.lease_id, request.node);
                Err(status(Code::NotFound, "LEASE_LOST", message))
            }
            // Unknown or unavailable: the worker's old deadline keeps running.
            Err(error) => {
                let of_store = of_store(&error);
                let code = Code::Unavailable;
                Err(status(code, "RENEWAL_UNKNOWN", of_store.message()))
            }
        }
    }
}
