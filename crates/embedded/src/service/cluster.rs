//! Cluster: a member list of one.

use crate::error::unsupported;
use crate::shared::Shared;
use etcd_client::proto::{
    PbClusterService, PbMember, PbMemberAddRequest, PbMemberAddResponse, PbMemberListRequest,
    PbMemberListResponse, PbMemberPromoteRequest, PbMemberPromoteResponse, PbMemberRemoveRequest,
    PbMemberRemoveResponse, PbMemberUpdateRequest, PbMemberUpdateResponse,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct ClusterService(pub(crate) Arc<Shared>);

type Outcome<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PbClusterService for ClusterService {
    async fn member_list(
        &self,
        _request: Request<PbMemberListRequest>,
    ) -> Outcome<PbMemberListResponse> {
        let member = PbMember {
            id: self.0.member_id,
            name: "flyball-embedded".to_owned(),
            client_ur_ls: self.0.client_urls.clone(),
            ..Default::default()
        };
        // etcd leaves the revision of this header at 0.
        Ok(Response::new(PbMemberListResponse { header: self.0.header(0), members: vec![member] }))
    }

    async fn member_add(&self, _: Request<PbMemberAddRequest>) -> Outcome<PbMemberAddResponse> {
        Err(unsupported("more than one member"))
    }

    async fn member_remove(
        &self,
        _: Request<PbMemberRemoveRequest>,
    ) -> Outcome<PbMemberRemoveResponse> {
        Err(unsupported("more than one member"))
    }

    async fn member_update(
        &self,
        _: Request<PbMemberUpdateRequest>,
    ) -> Outcome<PbMemberUpdateResponse> {
        Err(unsupported("more than one member"))
    }

    async fn member_promote(
        &self,
        _: Request<PbMemberPromoteRequest>,
    ) -> Outcome<PbMemberPromoteResponse> {
        Err(unsupported("more than one member"))
    }
}
