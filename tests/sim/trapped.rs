//! Calls that a script may stop: what stands before the services of hosts in scripted worlds.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;

use crate::surgeon::{Answer, KEEP_ALIVE, RANGE, Surgeon, TXN, WATCH, pack, unpack};
use crate::traps::{Passing, Then, Trap};

/// Frames of a watch that are passed on ahead of their reader, as a connection's buffers are.
const FRAMES: usize = 64;

/// Does what is asked, unless a trap takes it.
pub(crate) async fn call(surgeon: Surgeon, request: Request<Body>) -> Answer {
    let path = request.uri().path().to_owned();
    if path == WATCH {
        let answer = surgeon.clone().pass(request).await?;
        return Ok(relay(answer, surgeon));
    }
    let (request, message) = read(request, &path).await;
    let trap = surgeon.take(&path, &message);
    let Some(trap) = trap else { return surgeon.pass(request).await };
    if trap.then == Then::Lose {
        std::future::pending::<()>().await;
    }
    // What has arrived is done, whether or not its caller still waits.
    let done = tokio::spawn(carry_out(surgeon, request, trap.clone()));
    let answer = done.await.unwrap_or_else(|error| Ok(broken(&error.to_string())));
    match trap.then {
        Then::LoseAnswer => Ok(broken("simulated: the answer was lost")),
        _ => answer,
    }
}

async fn carry_out(surgeon: Surgeon, request: Request<Body>, trap: Arc<Trap>) -> Answer {
    if trap.then == Then::Wait {
        trap.opened().await;
    }
    let answer = surgeon.pass(request).await;
    trap.finish();
    if trap.then != Then::Wait {
        trap.opened().await;
    }
    answer
}

fn broken(why: &str) -> Response<Body> {
    tonic::Status::unavailable(why).into_http()
}

impl Surgeon {
    fn take(&self, what: &str, bytes: &[u8]) -> Option<Arc<Trap>> {
        self.site.traps.take(&Passing { at: self.at, from: &self.from, what, bytes })
    }
}

/// The message of calls that have one and whose content traps look at.
async fn read(request: Request<Body>, path: &str) -> (Request<Body>, Bytes) {
    if ![TXN, RANGE, KEEP_ALIVE].contains(&path) {
        return (request, Bytes::new());
    }
    let (parts, message) = unpack(request).await;
    (Request::from_parts(parts, pack(&message, None)), message)
}

/// Passes a stream on, frame by frame, as long as no trap takes one.
fn relay(answer: Response<Body>, surgeon: Surgeon) -> Response<Body> {
    let (parts, mut body) = answer.into_parts();
    let (sender, frames) = tokio::sync::mpsc::channel(FRAMES);
    tokio::spawn(async move {
        loop {
            let frame = tokio::select! {
                biased;
                () = sender.closed() => return,
                frame = body.frame() => frame,
            };
            let Some(frame) = frame else { return };
            if let Some(trap) = surgeon.take(WATCH, &[]) {
                trap.opened().await;
            }
            if sender.send(frame).await.is_err() {
                return;
            }
        }
    });
    Response::from_parts(parts, Body::new(StreamBody::new(ReceiverStream::new(frames))))
}
