//! Heartbeats: each is answered only with the result of a renewal that was sent to the store after
//! it arrived, never with an earlier one; otherwise a worker's deadline would rest on a renewal that
//! may be older than its heartbeat. Every scheduler answers, leading or not.
//!
//! A lease is renewed for nobody but the incarnation that it was granted to: a worker whose node has
//! been taken over, or one that was told a wrong lease, must not keep claims alive. Nor for one that was
//! given a token that the store has not reached: what it owns is not known there (see [`super::marks`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flyball_core::ids::NodeName;
use flyball_core::planted::{self, Bug};
use flyball_proto::v1::{HeartbeatRequest, HeartbeatResponse};
use flyball_store::{KeepAlive, Store, StoreError};
use tokio::time::Instant;
use tonic::{Code, Response, Status};

use super::Api;
use super::error::{of_store, status};
use crate::findings::STORE_BEHIND;

/// Whose a lease is.
enum Owner {
    /// The incarnation's that asks.
    Its,
    /// The lease is gone, says the store.
    Gone,
    /// Not the asking one's, as far as the store shows.
    Not(String),
}

impl Api {
    pub(super) async fn renew(
        &self,
        request: HeartbeatRequest,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let (lease, node) = (request.lease_id, &request.node);
        match self.owner_of(&request).await.map_err(|error| unknown(&error))? {
            Owner::Its => {}
            Owner::Gone => return Err(gone(lease, node)),
            // Unknown to the worker, not lost: its old deadline keeps running. What the store shows
            // may be old, and only a lease that is gone is proof.
            Owner::Not(why) => {
                let message = format!("lease {lease:x} is not renewed for {node}: {why}");
                tracing::warn!(%node, incarnation = %request.incarnation, "{message}");
                return Err(status(Code::FailedPrecondition, "NOT_ITS_LEASE", message));
            }
        }
        if let Some(why) = self.is_behind(node, request.token_mark).await? {
            return Err(status(Code::Unavailable, "STORE_BEHIND", why));
        }
        self.findings.clear(STORE_BEHIND, node);
        let begun = Instant::now();
        let renewed = self.renewal(lease).await;
        let granted = match &renewed {
            Ok(KeepAlive::Renewed { ttl }) => Some(*ttl),
            _ => None,
        };
        self.doctor.renewals.record(begun.elapsed(), granted);
        match renewed {
            Ok(KeepAlive::Renewed { ttl }) => {
                self.answer_for(NodeName(node.clone()), lease);
                let ttl_seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
                Ok(Response::new(HeartbeatResponse { ttl_seconds }))
            }
            Ok(KeepAlive::Lost) => Err(gone(lease, node)),
            // Unknown or unavailable: the worker's old deadline keeps running.
            Err(error) => Err(unknown(&error)),
        }
    }

    async fn renewal(&self, lease: i64) -> Result<KeepAlive, StoreError> {
        if planted::is(Bug::RenewalFromCache) {
            return renewal_from_cache(&self.store, lease).await;
        }
        self.store.keep_alive(lease).await
    }

    /// Takes the leader's question about this node away, if one stands: somebody hears from it. The heartbeat's answer
    /// does not wait for it; if it fails, the next renewal does it.
    fn answer_for(&self, node: NodeName, lease: i64) {
        let Some(asked) = self.sessions.heard().renewed(&node, lease) else { return };
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.answer_for_node(&node, asked).await {
                tracing::debug!(%node, %error, "the leader cannot be told that the node is heard");
            }
        });
    }

    /// Looks the session up in what the watch tells, and in the store if it is not there.
    async fn owner_of(&self, request: &HeartbeatRequest) -> Result<Owner, StoreError> {
        let HeartbeatRequest { node, incarnation, lease_id, .. } = request;
        if self.sessions.is_of(node, incarnation, *lease_id) {
            return Ok(Owner::Its);
        }
        let why = match self.store.session(&NodeName(node.clone())).await {
            Ok(Some(found)) => {
                let session = &found.value;
                if session.incarnation.as_str() == incarnation && session.lease == *lease_id {
                    return Ok(Owner::Its);
                }
                let (other, its) = (&session.incarnation, session.lease);
                format!("the node's session is of incarnation {other} under lease {its:x}")
            }
            Ok(None) => "the node has no session".to_owned(),
            Err(StoreError::Undecodable { why, .. }) => {
                format!("the node's session cannot be read: {why}")
            }
            Err(error) => return Err(error),
        };
        let lives = self.store.time_to_live(*lease_id).await?.is_some();
        Ok(if lives { Owner::Not(why) } else { Owner::Gone })
    }
}

/// Only the store's own word that the lease is gone is told as NOT_FOUND.
fn gone(lease: i64, node: &str) -> Status {
    status(Code::NotFound, "LEASE_LOST", format!("lease {lease:x} of {node} is gone"))
}

fn unknown(error: &StoreError) -> Status {
    status(Code::Unavailable, "RENEWAL_UNKNOWN", of_store(error).message())
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
