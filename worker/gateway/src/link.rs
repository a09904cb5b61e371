//! Connections to providers that are driven by the call that uses them: no task of their own, so a stream's pieces go
//! from one socket to the other without waking anybody. (With a task per connection 17 pieces that came together cost
//! 17 changes of thread.) Idle ones are kept per host.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};

/// Most connections to one host that are kept without use: as many as a run's calls.
const IDLE_MAX: usize = 64;

/// How long they are kept. Servers close idle connections after 60 to 75 s mostly; being earlier avoids the race.
const IDLE_TIME_MAX: Duration = Duration::from_secs(50);

/// Pieces that are there at once are put together up to this size; what was read of a socket is mostly less.
const TOGETHER_MAX: usize = 64 << 10;

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
    /// What came behind pieces that were put together, and is none.
    ahead: Option<Option<FrameResult>>,
    /// Since when more may have come than was looked at; `None`: nothing more was there.
    behind: Option<Instant>,
}

/// A frame, or why there is none.
type FrameResult = Result<Frame<Bytes>, hyper::Error>;

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
        let upstream = Upstream {
            body,
            link: (!ended).then_some(link),
            home,
            ahead: None,
            behind: Some(Instant::now()),
        };
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
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<FrameResult>> {
        if let Some(ahead) = self.ahead.take() {
            return Poll::Ready(ahead);
        }
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
        if frame.is_pending() {
            self.behind = None;
        } else {
            self.behind.get_or_insert_with(Instant::now);
        }
        frame
    }

    /// For how long nobody has looked at all that had come.
    pub(crate) fn behind(&self) -> Duration {
        self.behind.map_or(Duration::ZERO, |since| since.elapsed())
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

    /// A piece together with all that is there already: a provider's events mostly come several in one read, and each
    /// that is passed on by itself costs a frame, a chunk and often a write.
    pub(crate) fn together(&mut self, piece: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut whole: Option<BytesMut> = None;
        while whole.as_ref().map_or(piece.len(), BytesMut::len) < TOGETHER_MAX {
            let next = match self.poll_frame(cx) {
                Poll::Pending => {
                    // What comes from now on is looked at when the client wants more.
                    self.behind = Some(Instant::now());
                    break;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(next) => next,
                    // Trailers: nobody here looks for them.
                    Err(_) => continue,
                },
                Poll::Ready(end) => {
                    self.ahead = Some(end);
                    break;
                }
            };
            let whole = whole.get_or_insert_with(|| {
                let mut whole = BytesMut::with_capacity((piece.len() + next.len()).max(4096));
                whole.extend_from_slice(&piece);
                whole
            });
            whole.extend_from_slice(&next);
        }
        whole.map_or(piece, BytesMut::freeze)
    }

    pub(crate) async fn frame(&mut self) -> Option<FrameResult> {
        std::future::poll_fn(|cx| self.poll_frame(cx)).await
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.body.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What an answer's body is passed on as, piece by piece, when all of it is there at once and the connection ends
    /// behind it.
    async fn passed(answer: &'static str) -> Vec<Result<String, ()>> {
        let (near, mut far) = tokio::io::duplex(64 << 10);
        let request = Request::new(Full::new(Bytes::new()));
        let idle = Arc::new(Idle::default());
        let serve = async move {
            let mut asked = [0; 256];
            let _ = far.read(&mut asked).await.unwrap();
            far.write_all(answer.as_bytes()).await.unwrap();
        };
        let (sent, ()) = tokio::join!(idle.send_new(TokioIo::new(near), "host", request), serve);
        let Ok(response) = sent else { panic!("no answer") };
        let mut body = response.into_body();
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                pieces.push(Err(()));
                break;
            };
            let piece = frame.into_data().unwrap();
            let piece =
                std::future::poll_fn(|cx| Poll::Ready(body.together(piece.clone(), cx))).await;
            assert!(!body.is_end_stream(), "what came behind is told by the next frame");
            pieces.push(Ok(String::from_utf8(piece.to_vec()).unwrap()));
        }
        pieces
    }

    #[tokio::test]
    async fn pieces_that_are_there_go_on_together_and_nothing_behind_them_is_lost() {
        let head =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\none, \r\n5\r\ntwo, \r\n";
        let whole = format!("{head}5\r\nthree\r\n0\r\n\r\n").leak();
        assert_eq!(passed(whole).await, [Ok("one, two, three".to_owned())]);
        // Cut off within the third piece: what came is passed on, and then the fault.
        let cut = format!("{head}5\r\nth").leak();
        let found = passed(cut).await;
        assert_eq!(found.last(), Some(&Err(())));
        let text: String = found.iter().flatten().cloned().collect();
        assert_eq!(text, "one, two, th");
    }
}
