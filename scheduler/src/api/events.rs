//! The service `Events`: what is kept, oldest first, then every new one.

use std::sync::Arc;

use flyball_core::spec::DEFAULT_NAMESPACE;
use flyball_proto::v1::events_server::Events;
use flyball_proto::v1::{Event, ListEventsRequest};
use flyball_store::{EventRecord, EventScope};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Api;
use super::apply::key_of;
use super::error::of_store;
use crate::shell::Handle;

/// Events on their way to one client.
const OUTBOX_MAX: usize = 64;

#[tonic::async_trait]
impl Events for Api {
    type ListStream = ReceiverStream<Result<Event, Status>>;

    async fn list(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let request = request.into_inner();
        let scope = if !request.r#loop.is_empty() {
            EventScope::Loop(key_of(&request.namespace, &request.r#loop)?)
        } else if !request.namespace.is_empty() {
            EventScope::Namespace(request.namespace.clone())
        } else {
            EventScope::All
        };
        let mut news = self.core.watch_events();
        let kept = self.store.list_events(&scope).await.map_err(|error| of_store(&error))?;
        let (sender, receiver) = mpsc::channel(OUTBOX_MAX);
        let core = self.core.clone();
        tokio::spawn(async move {
            let last = kept.last().cloned();
            for record in kept {
                if sender.send(Ok(wire(&record))).await.is_err() {
                    return;
                }
            }
            if request.follow {
                follow(&request, last.as_ref(), &mut news, &sender, &core).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Sends every new event until the client or the scheduler is gone.
async fn follow(
    request: &ListEventsRequest,
    last: Option<&EventRecord>,
    news: &mut broadcast::Receiver<Arc<EventRecord>>,
    sender: &mpsc::Sender<Result<Event, Status>>,
    core: &Handle,
) {
    loop {
        let record = tokio::select! {
            biased;
            record = news.recv() => record,
            () = sender.closed() => return,
            () = core.stopping() => return,
        };
        match record {
            // What was listed may come by the watch as well.
            Ok(record) if is_new(&record, last) && takes(request, &record) => {
                if sender.send(Ok(wire(&record))).await.is_err() {
                    return;
                }
            }
            // Events are for people; those that a slow reader misses are not repeated.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn is_new(record: &EventRecord, last: Option<&EventRecord>) -> bool {
    last.is_none_or(|last| record.at > last.at)
}

fn takes(request: &ListEventsRequest, record: &EventRecord) -> bool {
    let namespace = match (request.namespace.as_str(), request.r#loop.as_str()) {
        ("", "") => return true,
        ("", _) => DEFAULT_NAMESPACE,
        (namespace, _) => namespace,
    };
    namespace == record.namespace && (request.r#loop.is_empty() || request.r#loop == record.name)
}

fn wire(record: &EventRecord) -> Event {
    Event {
        unix_ms: record.at.as_millisecond(),
        namespace: record.namespace.clone(),
        r#loop: record.name.clone(),
        reason: record.reason.clone(),
        message: record.message.clone(),
        node: record.node.clone(),
    }
}
