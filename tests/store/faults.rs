//! A channel that can lose answers, hold requests back, refuse connections and go silent.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use etcd_client::Channel;
use tokio::sync::oneshot;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service};

type Request = http::Request<Body>;
type Response = http::Response<Body>;
type Answer = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

/// What happens to the next request whose path ends in the given text.
enum Fault {
    /// It is carried out and its answer is lost.
    LoseAnswer,
    /// The caller hears of a failure at once; the request is carried out when released.
    HoldBack(oneshot::Receiver<()>, oneshot::Sender<()>),
    /// No connection.
    Refuse,
    /// The answer begins and then nothing comes.
    Silence,
}

/// Faults to inject, and the channel they are injected into.
#[derive(Clone)]
pub(crate) struct Faulty {
    inner: Channel,
    next: Arc<Mutex<Option<(&'static str, Fault)>>>,
}

/// A request that is held back.
pub(crate) struct Held {
    release: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

impl Held {
    /// Lets the request go and waits until the server has answered it.
    pub(crate) async fn release(self) {
        self.release.send(()).expect("nobody holds the request");
        self.done.await.expect("the request was dropped");
    }
}

impl Faulty {
    pub(crate) fn new(inner: Channel) -> Self {
        Self { inner, next: Arc::default() }
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::Custom(BoxCloneSyncService::new(self.clone()))
    }

    fn arm(&self, path: &'static str, fault: Fault) {
        *self.next.lock().expect("lock") = Some((path, fault));
    }

    pub(crate) fn lose_answer_of(&self, path: &'static str) {
        self.arm(path, Fault::LoseAnswer);
    }

    pub(crate) fn refuse(&self, path: &'static str) {
        self.arm(path, Fault::Refuse);
    }

    pub(crate) fn silence(&self, path: &'static str) {
        self.arm(path, Fault::Silence);
    }

    pub(crate) fn hold_back(&self, path: &'static str) -> Held {
        let (release, released) = oneshot::channel();
        let (done, is_done) = oneshot::channel();
        self.arm(path, Fault::HoldBack(released, done));
        Held { release, done: is_done }
    }

    fn fault_for(&self, request: &Request) -> Option<Fault> {
        let mut next = self.next.lock().expect("lock");
        match next.take() {
            Some((path, fault)) if request.uri().path().ends_with(path) => Some(fault),
            other => {
                *next = other;
                None
            }
        }
    }
}

impl Service<Request> for Faulty {
    type Response = Response;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Answer {
        let fault = self.fault_for(&request);
        let mut inner = self.inner.clone();
        std::mem::swap(&mut inner, &mut self.inner); // the one that is ready
        match fault {
            None => Box::pin(inner.call(request)),
            Some(Fault::LoseAnswer) => Box::pin(async move {
                let answer = inner.call(request).await?;
                // To the end: the server may not be done at the first byte.
                let _ = http_body_util::BodyExt::collect(answer.into_body()).await;
                Err("connection reset".into())
            }),
            Some(Fault::HoldBack(released, done)) => {
                tokio::spawn(async move {
                    let _ = released.await;
                    if let Ok(answer) = inner.call(request).await {
                        let _ = http_body_util::BodyExt::collect(answer.into_body()).await;
                    }
                    let _ = done.send(());
                });
                Box::pin(async { Err("connection reset".into()) })
            }
            Some(Fault::Refuse) => Box::pin(async {
                let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                Err(Box::new(tonic::ConnectError(Box::new(refused))) as BoxError)
            }),
            Some(Fault::Silence) => Box::pin(async move {
                let answer = inner.call(request).await?;
                let (head, _) = answer.into_parts();
                let nothing =
                    tokio_stream::pending::<Result<http_body::Frame<bytes::Bytes>, BoxError>>();
                let body = Body::new(http_body_util::StreamBody::new(nothing));
                Ok(Response::from_parts(head, body))
            }),
        }
    }
}
