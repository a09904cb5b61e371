//! Watch: streams that read the event log at their own pace.
//!
//! A watch is a position in the log. Nothing is pushed into queues: a stream is woken when a
//! commit is published and reads from where each of its watches stands, so a slow client costs
//! nothing and a registered watch cannot miss anything. One that lags behind a compaction (by more
//! than the log's grace) is cancelled with the compacted revision, and its client lists again.

mod session;
mod watcher;

use crate::shared::Shared;
use etcd_client::proto::{PbWatchRequest, PbWatchService};
use session::Session;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status, Streaming};

/// How long the answer to opening a stream waits for the stream's first request. Clients send it
/// right away; registering it before the stream counts as open means that a write after
/// `Client::watch()` has returned is never missed. A client that opens a stream for later use is
/// answered after this time.
const FIRST_REQUEST_WAIT: Duration = Duration::from_millis(100);

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct WatchService(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl PbWatchService for WatchService {
    type WatchStream = Session;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(FIRST_REQUEST_WAIT, requests.message()).await;
        let mut session = Session::new(Arc::clone(&self.0), requests);
        match first {
            Ok(Ok(Some(request))) => session.on_request(request)?,
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => return Err(error),
        }
        Ok(Response::new(session))
    }
}
