//! Several schedulers on one store.

use std::time::Duration;

use flyball_embedded::{Options, Server};
use flyball_proto::v1::InfoRequest;
use flyball_proto::v1::server_client::ServerClient;
use flyball_scheduler::StoreChoice;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use super::{PATIENCE, Scheduler};

/// An etcd server that several schedulers can reach.
pub(crate) async fn shared_store() -> (Server, StoreChoice) {
    let server = Server::open(Options::in_memory()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serving = tonic::transport::Server::builder().add_routes(server.routes());
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    (server, StoreChoice::Etcd { endpoints: vec![endpoint], identity: None })
}

pub(crate) async fn leads(scheduler: &Scheduler) -> bool {
    let mut client = ServerClient::new(scheduler.connect().await);
    client.info(InfoRequest {}).await.unwrap().into_inner().leader
}

pub(crate) async fn until_leading(scheduler: &Scheduler) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !leads(scheduler).await {
        assert!(tokio::time::Instant::now() < deadline, "it does not lead");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
