//! Heartbeats: each is answered only with the result of a renewal that was sent to the store after
//! it arrived, never with an earlier one; otherwise a worker's deadline would rest on a renewal that
//! may be older than its heartbeat. Every scheduler answers, leading or not.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flyball_core::planted::{self, Bug};
use flyball_proto::v1::{HeartbeatRequest, HeartbeatResponse};
use flyball_store::{KeepAlive, Store, StoreError};
use tokio::time::Instant;
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
        match self.renewal(request.lease_id).await {
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

    async fn renewal(&self, lease: i64) -> Result<KeepAlive, StoreError> {
        if planted::is(Bug::RenewalFromCache) {
            return renewal_from_cache(&self.store, lease).await;
        }
        self.store.keep_alive(lease).await
    }
}

/// What [`Bug::RenewalFromCache`] does instead: half a time to live long, the earlier answer again.
async fn renewal_from_cache(store: &Store, lease: i64) -> Result<KeepAlive, StoreError> {
    static CACHE: Mutex<BTreeMap<i64, (Instant, Duration)>> = Mutex::new(BTreeMap::new());
    let lock = || CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let cached = lock().get(&lease).copied();
    if let Some((at, ttl)) = cached.filter(|(at, ttl)| at.elapsed() < *ttl / 2) {
        tracing::trace!(lease, age = ?at.elapsed(), "renewed from the cache");
        return Ok(KeepAlive::Renewed { ttl });
    }
    let renewal = store.keep_alive(lease).await?;
    if let KeepAlive::Renewed { ttl } = renewal {
        lock().insert(lease, (Instant::now(), ttl));
    }
    Ok(renewal)
}
