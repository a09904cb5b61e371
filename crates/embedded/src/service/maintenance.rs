//! Maintenance: status and an empty list of alarms.

use crate::error::{status, unsupported};
use crate::shared::Shared;
use etcd_client::proto::{
    PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse, PbDowngradeRequest,
    PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest, PbHashResponse,
    PbMaintenanceService, PbMoveLeaderRequest, PbMoveLeaderResponse, PbSnapshotRequest,
    PbSnapshotResponse, PbStatusRequest, PbStatusResponse,
};
use std::sync::Arc;
use tokio_stream::Empty;
use tonic::{Request, Response, Status};

/// The etcd version whose behaviour this server has, marked as not being it.
pub(crate) const VERSION: &str = concat!("3.4.23+flyball.", env!("CARGO_PKG_VERSION"));

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct MaintenanceService(pub(crate) Arc<Shared>);

type Outcome<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PbMaintenanceService for MaintenanceService {
    async fn status(&self, _request: Request<PbStatusRequest>) -> Outcome<PbStatusResponse> {
        let file = self.0.file.as_ref().and_then(|file| std::fs::metadata(file).ok());
        let db_size = file.map_or(0, |file| i64::try_from(file.len()).unwrap_or(i64::MAX));
        let revision = self.0.read().map_err(status)?.published;
        // Revisions stand in for the index of a raft log that does not exist.
        let index = u64::try_from(revision).unwrap_or(0);
        Ok(Response::new(PbStatusResponse {
            header: self.0.header(revision),
            version: VERSION.to_owned(),
            db_size,
            db_size_in_use: db_size,
            leader: self.0.member_id,
            raft_index: index,
            raft_applied_index: index,
            raft_term: 1,
            ..Default::default()
        }))
    }

    async fn alarm(&self, _request: Request<PbAlarmRequest>) -> Outcome<PbAlarmResponse> {
        Ok(Response::new(PbAlarmResponse { header: self.0.header(0), alarms: Vec::new() }))
    }

    async fn defragment(&self, _: Request<PbDefragmentRequest>) -> Outcome<PbDefragmentResponse> {
        Err(unsupported("defragmentation"))
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Outcome<PbHashResponse> {
        Err(unsupported("hashes"))
    }

    async fn hash_kv(&self, _: Request<PbHashKvRequest>) -> Outcome<PbHashKvResponse> {
        Err(unsupported("hashes"))
    }

    type SnapshotStream = Empty<Result<PbSnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<PbSnapshotRequest>) -> Outcome<Self::SnapshotStream> {
        Err(unsupported("snapshots"))
    }

    async fn move_leader(&self, _: Request<PbMoveLeaderRequest>) -> Outcome<PbMoveLeaderResponse> {
        Err(unsupported("more than one member"))
    }

    async fn downgrade(&self, _: Request<PbDowngradeRequest>) -> Outcome<PbDowngradeResponse> {
        Err(unsupported("downgrades"))
    }
}
