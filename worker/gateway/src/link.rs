//! Connections to providers that are driven by the call that uses them: no task of their own, so a stream's pieces go
//! from one socket to the other without waking anybody. (With a task per connection 17 pieces that came together cost
//! 17 changes of thread.) Idle ones are kept per host.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};

/// Most connections to one host that are kept without use: as many as a run's calls.
const IDLE_MAX: usize = 64;

/// How long they are kept. Servers close idle connections after 60 to 75 s mostly; being earlier avoids the race.
const IDLE_TIME_MAX: Duration = Duration::from_secs(50);

/// What moves a connection's bytes; it ends with the connection.
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// An open connection.
struct Link {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
}

/// Idle connections by scheme, host and port.
#[derive(Default)]
pub(crate) struct Idle(Mutex<HashMap<String, Vec<(Instant, Link)>>>);

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Idle").finish_non_exhaustive()
    }
}

/// An answer's body, with the connection it comes on. Dropped before its end, it closes the connection.
pub(crate) struct Upstream {
    body: Incoming,
    link: Option<Link>,
    home: Option<(Arc<Idle>, String)>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").finish_non_exhaustive()
    }
}

/// Why a request got no answer.
pub(crate) enum Unsent {
    /// Nothing of it was sent: the connection had ended before.
    Before(Box<Request<Full<Bytes>>>),
    /// What became of it is not known.
    Gone(hyper::Error),
}

impl Idle {
    /// Sends a request on an idle connection, if there is one that lives.
    pub(crate) async fn send(
        self: &Arc<Self>,
        host: &str,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Upstream>, Unsent> {
        while let Some(mut link) = self.take(host) {
            if !link.is_ready().await {
                continue;
            }
            match self.send_on(link, host, request).await {
                Err(Unsent::Before(back)) => request = *back,
                answered => return answered,
            }
        }
        Err(Unsent::Before(Box::new(request)))
    }

    /// Sends it on a new connection.
    pub(crate) async fn send_new<T>(
        self: &Arc<Self>,
        stream: T,
        host: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Upstream>, Unsent>
    where
        T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let (sender, connection) = handshake(stream).await.map_err(Unsent::Gone)?;
        let link = Link { sender, driver: Box::pin(connection) };
        self.send_on(link, host, request).await
    }

    async fn send_on(
        self: &Arc<Self>,
        mut link: Link,
        host: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Upstream>, Unsent> {
        let mut sent = std::pin::pin!(link.sender.try_send_request(request));
        let mut ended = false;
        let answer = std::future::poll_fn(|cx| {
            if let Poll::Ready(answer) = sent.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            if !ended {
                ended = link.driver.as_mut().poll(cx).is_ready();
            }
            // What the driver brought is there at once.
            sent.as_mut().poll(cx)
        })
        .await;
        let answer = answer.map_err(|mut error| match error.take_message() {
            Some(request) => Unsent::Before(Box::new(request)),
            None => Unsent::Gone(error.into_error()),
        })?;
        let (head, body) = answer.into_parts();
        let home = Some((Arc::clone(self), host.to_owned()));
        let upstream = Upstream { body, link: (!ended).then_some(link), home };
        Ok(Response::from_parts(head, upstream))
    }

    fn take(&self, host: &str) -> Option<Link> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let links = idle.get_mut(host)?;
        links.retain(|(since, _)| since.elapsed() < IDLE_TIME_MAX);
        // The last one used is the likeliest to live.
        links.pop().map(|(_, link)| link)
    }

    fn put(&self, host: String, link: Link) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let links = idle.entry(host).or_default();
        if links.len() < IDLE_MAX {
            links.push((Instant::now(), link));
        }
    }
}

impl Link {
    /// Whether it takes a request. Nobody has looked at it since it became idle, so it may have been closed.
    async fn is_ready(&mut self) -> bool {
        std::future::poll_fn(|cx| {
            let lives = self.driver.as_mut().poll(cx).is_pending();
            Poll::Ready(lives && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(()))))
        })
        .await
    }
}

impl Upstream {
    /// The next frame.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending()
            && let Some(link) = &mut self.link
        {
            if link.driver.as_mut().poll(cx).is_ready() {
                self.link = None;
            }
            frame = Pin::new(&mut self.body).poll_frame(cx);
        }
        let over = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if over {
            self.go_home(cx);
        }
        frame
    }

    /// The answer was read to its end: the connection can carry another one.
    fn go_home(&mut self, cx: &mut Context<'_>) {
        let (Some(mut link), Some((idle, host))) = (self.link.take(), self.home.take()) else {
            return;
        };
        if link.driver.as_mut().poll(cx).is_pending() && !link.sender.is_closed() {
            idle.put(host, link);
        }
    }

    pub(crate) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        std::future::poll_fn(|cx| self.poll_frame(cx)).await
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
