//! The service `Server`: who answers here.

use flyball_proto::v1::server_server::Server;
use flyball_proto::v1::{InfoRequest, InfoResponse};
use tonic::{Request, Response, Status};

use super::Api;

#[tonic::async_trait]
impl Server for Api {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let leader = self
            .core
            .ask(|reactor, _| {
                let id = reactor.leader().map(|leader| leader.id.clone());
                (reactor.is_leading(), id.unwrap_or_default())
            })
            .await?;
        Ok(Response::new(InfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            installation: self.about.installation.to_string(),
            leader: leader.0,
            store: self.about.store.clone(),
            leader_id: if leader.0 { self.about.id.clone() } else { leader.1 },
        }))
    }
}
