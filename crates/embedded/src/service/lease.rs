//! Leases: grant, revoke, keep alive, time to live, list. Everything goes through the writer, so
//! that an answer never depends on a grant or an end that is not durable.

use super::mismatch;
use crate::engine::{Answer, Request as Ask};
use crate::error::{STOPPED, status};
use crate::shared::Shared;
use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse,
    PbLeaseService, PbLeaseStatus, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct LeaseService(pub(crate) Arc<Shared>);

type Outcome<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PbLeaseService for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Outcome<PbLeaseGrantResponse> {
        let PbLeaseGrantRequest { ttl, id } = request.into_inner();
        match self.0.ask(Ask::Grant { id, ttl_seconds: ttl }).await? {
            Answer::Granted { id, ttl_seconds, revision } => {
                Ok(Response::new(PbLeaseGrantResponse {
                    header: self.0.header(revision),
                    id,
                    ttl: ttl_seconds,
                    error: String::new(),
                }))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Outcome<PbLeaseRevokeResponse> {
        match self.0.ask(Ask::Revoke(request.into_inner().id)).await? {
            Answer::Revision(revision) => {
                Ok(Response::new(PbLeaseRevokeResponse { header: self.0.header(revision) }))
            }
            other => Err(mismatch(&other)),
        }
    }

    type LeaseKeepAliveStream = KeepAlives;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Outcome<Self::LeaseKeepAliveStream> {
        let shared = Arc::clone(&self.0);
        Ok(Response::new(KeepAlives { shared, requests: request.into_inner(), waiting: None }))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Outcome<PbLeaseTimeToLiveResponse> {
        let PbLeaseTimeToLiveRequest { id, keys } = request.into_inner();
        match self.0.ask(Ask::TimeToLive { id, with_keys: keys }).await? {
            Answer::TimeToLive { found, revision } => {
                let header = self.0.header(revision);
                Ok(Response::new(match found {
                    Some(found) => PbLeaseTimeToLiveResponse {
                        header,
                        id,
                        ttl: found.left_seconds,
                        granted_ttl: found.granted_seconds,
                        keys: found.keys,
                    },
                    None => PbLeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
                }))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn lease_leases(
        &self,
        _request: Request<PbLeaseLeasesRequest>,
    ) -> Outcome<PbLeaseLeasesResponse> {
        match self.0.ask(Ask::Leases).await? {
            Answer::Leases { ids, revision } => Ok(Response::new(PbLeaseLeasesResponse {
                header: self.0.header(revision),
                leases: ids.into_iter().map(|id| PbLeaseStatus { id }).collect(),
            })),
            other => Err(mismatch(&other)),
        }
    }
}

/// Answers of one keep-alive stream: one per request, in order. Each is a renewal that the writer
/// made after the request arrived.
pub(crate) struct KeepAlives {
    shared: Arc<Shared>,
    requests: Streaming<PbLeaseKeepAliveRequest>,
    waiting: Option<(i64, oneshot::Receiver<Result<Answer, Status>>)>,
}

impl Stream for KeepAlives {
    type Item = Result<PbLeaseKeepAliveResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.waiting.is_none() {
            let request = match ready!(Pin::new(&mut this.requests).poll_next(context)) {
                Some(Ok(request)) => request,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
            match this.shared.submit(Ask::KeepAlive(request.id)) {
                Ok(answered) => this.waiting = Some((request.id, answered)),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        let Some((id, answered)) = &mut this.waiting else { return Poll::Ready(None) };
        let (id, answer) = (*id, ready!(Pin::new(answered).poll(context)));
        this.waiting = None;
        Poll::Ready(Some(match answer.unwrap_or_else(|_| Err(status(STOPPED))) {
            Ok(Answer::Renewed { ttl_seconds, revision }) => Ok(PbLeaseKeepAliveResponse {
                header: this.shared.header(revision),
                id,
                ttl: ttl_seconds,
            }),
            Ok(other) => Err(mismatch(&other)),
            Err(error) => Err(error),
        }))
    }
}
