//! The bodies of the gateway's answers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flyball_core::model::Protocol;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::call::Outcome;
use crate::relay::Relay;
use crate::wire::{self, Refusal};

/// Why an answer ends in the middle; the connection ends with it, so that no client takes it for whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    /// The run's deadline has passed.
    #[error("the run's deadline has passed")]
    Deadline,
    /// The provider's connection ended.
    #[error("the provider's answer was cut off: {0}")]
    Upstream(String),
}

/// Work whose result is not there yet.
pub(crate) type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A body.
#[derive(Debug)]
pub(crate) enum Body {
    /// At hand.
    Whole(Bytes),
    /// From a provider.
    Relay(Box<Relay>),
    /// A stream that has begun before its answer.
    Waiting(Box<Waiting>),
}

/// A stream that gets pings until its answer is there.
pub(crate) struct Waiting {
    work: Work,
    protocol: Protocol,
    id: String,
    ping: Bytes,
    every: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Waiting {
    pub(crate) fn new(
        work: Work,
        protocol: Protocol,
        id: String,
        ping: Bytes,
        every: Duration,
    ) -> Self {
        // The first one at once: it tells the client that its call was taken.
        let alarm = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { work, protocol, id, ping, every, alarm }
    }

    /// A ping, or what the body becomes.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Body>> {
        if let Poll::Ready(outcome) = self.work.as_mut().poll(cx) {
            return Poll::Ready(Err(match outcome {
                Outcome::Answer(answer) if answer.relay.is_stream() => Body::Relay(answer.relay),
                // A plain answer cannot be put into a stream; dropped, it is settled.
                Outcome::Answer(answer) => {
                    answer.relay.not_streamed();
                    let why =
                        Refusal::UpstreamGone("the provider did not stream its answer".to_owned());
                    Body::Whole(wire::refusal_event(self.protocol, &why, &self.id))
                }
                Outcome::Error(error) => {
                    let status = error.status.as_u16();
                    Body::Whole(wire::error_event(self.protocol, status, &error.body, &self.id))
                }
                Outcome::Refused(refusal) => {
                    Body::Whole(wire::refusal_event(self.protocol, &refusal, &self.id))
                }
            }));
        }
        std::task::ready!(self.alarm.as_mut().poll(cx));
        self.alarm.as_mut().reset(Instant::now() + self.every);
        // Arms the alarm that was just set.
        let _ = self.alarm.as_mut().poll(cx);
        Poll::Ready(Ok(self.ping.clone()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        loop {
            match this {
                Self::Whole(bytes) => {
                    let bytes = std::mem::take(bytes);
                    return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
                }
                Self::Relay(relay) => {
                    return relay.poll(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)));
                }
                Self::Waiting(waiting) => match std::task::ready!(waiting.poll(cx)) {
                    Ok(ping) => return Poll::Ready(Some(Ok(Frame::data(ping)))),
                    Err(next) => *this = next,
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Relay(relay) => relay.size_hint(),
            Self::Waiting(_) => SizeHint::default(),
        }
    }
}
