//! KV: range, put, delete, transactions, compaction.

use super::mismatch;
use crate::engine::{Answer, Request as Ask};
use crate::error::{REQUEST_TOO_LARGE, status, unsupported};
use crate::mvcc::{check, range, txn};
use crate::options::REQUEST_BYTES_MAX;
use crate::shared::Shared;
use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvService,
    PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse,
    PbTxnRequest, PbTxnResponse,
};
use prost::Message;
use std::sync::Arc;
use tokio_stream::Empty;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct KvService(pub(crate) Arc<Shared>);

type Outcome<T> = Result<Response<T>, Status>;

fn bounded(request: &impl Message) -> Result<(), Status> {
    if request.encoded_len() > REQUEST_BYTES_MAX { Err(status(REQUEST_TOO_LARGE)) } else { Ok(()) }
}

#[tonic::async_trait]
impl PbKvService for KvService {
    async fn range(&self, request: Request<PbRangeRequest>) -> Outcome<PbRangeResponse> {
        let request = request.into_inner();
        check::key(&request.key).map_err(status)?;
        let state = self.0.read().map_err(status)?;
        let mut answer = range::range(&state, &request, state.published).map_err(status)?;
        drop(state);
        self.0.complete(&mut answer.header);
        Ok(Response::new(answer))
    }

    type RangeStreamStream = Empty<Result<PbRangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        _request: Request<PbRangeRequest>,
    ) -> Outcome<Self::RangeStreamStream> {
        Err(unsupported("streamed ranges"))
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Outcome<PbPutResponse> {
        let request = request.into_inner();
        check::put(&request).map_err(status)?;
        bounded(&request)?;
        match self.0.ask(Ask::Put(request)).await? {
            Answer::Put(mut answer) => {
                self.0.complete(&mut answer.header);
                Ok(Response::new(answer))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn delete_range(&self, request: Request<PbDeleteRequest>) -> Outcome<PbDeleteResponse> {
        let request = request.into_inner();
        check::key(&request.key).map_err(status)?;
        bounded(&request)?;
        match self.0.ask(Ask::Delete(request)).await? {
            Answer::Delete(mut answer) => {
                self.0.complete(&mut answer.header);
                Ok(Response::new(answer))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Outcome<PbTxnResponse> {
        let request = request.into_inner();
        check::txn(&request).map_err(status)?;
        if txn::is_read_only(&request) {
            let state = self.0.read().map_err(status)?;
            let mut answer = txn::read(&state, &request, state.published).map_err(status)?;
            drop(state);
            self.0.complete(&mut answer.header);
            return Ok(Response::new(answer));
        }
        bounded(&request)?;
        match self.0.ask(Ask::Txn(request)).await? {
            Answer::Txn(mut answer) => {
                self.0.complete(&mut answer.header);
                Ok(Response::new(answer))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn compact(
        &self,
        request: Request<PbCompactionRequest>,
    ) -> Outcome<PbCompactionResponse> {
        match self.0.ask(Ask::Compact(request.into_inner().revision)).await? {
            Answer::Revision(revision) => {
                Ok(Response::new(PbCompactionResponse { header: self.0.header(revision) }))
            }
            other => Err(mismatch(&other)),
        }
    }
}
