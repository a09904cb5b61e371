//! gRPC over the simulated network.

use std::io;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tonic::transport::{Channel, Endpoint, Error};
use turmoil::net::{TcpListener, TcpStream};

use crate::surgeon::Surgeon;

/// A cut connection of the simulated network never recovers, as real TCP would after a short cut: it has
/// to be found out by pings and replaced, and rather soon.
const PING: Duration = Duration::from_secs(1);

fn endpoint() -> Endpoint {
    Endpoint::from_static("http://simulated")
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true)
}

async fn dial(host: String, port: u16) -> io::Result<TokioIo<TcpStream>> {
    TcpStream::connect((host.as_str(), port)).await.map(TokioIo::new)
}

/// A channel that connects when it is used.
pub(crate) fn lazy(host: &str, port: u16) -> Channel {
    let host = host.to_owned();
    let dial = tower::service_fn(move |_| dial(host.clone(), port));
    endpoint().connect_with_connector_lazy(dial)
}

/// Connects now.
pub(crate) async fn connect(host: &str, port: u16) -> Result<Channel, Error> {
    let host = host.to_owned();
    let dial = tower::service_fn(move |_| dial(host.clone(), port));
    endpoint().connect_with_connector(dial).await
}

/// Serves until it is dropped.
pub(crate) async fn serve(service: Surgeon, port: u16) {
    let listener = TcpListener::bind(("0.0.0.0", port)).await.expect("a port of this host");
    loop {
        let (stream, peer) = listener.accept().await.expect("a connection");
        let peer = turmoil::reverse_lookup(peer.ip()).unwrap_or_default();
        let service = TowerToHyperService::new(service.asked_by(peer));
        tokio::spawn(async move {
            let mut server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let mut http2 = server.http2();
            // A date would be the wall clock's.
            http2.auto_date_header(false).timer(TokioTimer::new());
            http2.keep_alive_interval(PING * 2).keep_alive_timeout(PING);
            // A broken connection is the client's to tell.
            let _ = http2.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
