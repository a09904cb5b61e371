//! An answer on its way to the client: bytes pass as they come, and are metered as they pass.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use flyball_core::model::OnError;
use tokio::time::{Instant, Sleep};

use crate::attempt::{Attempt, Read};
use crate::body::Cut;
use crate::config::ANSWER_MAX;
use crate::gate::Gate;
use crate::health::{Blow, Place};
use crate::link::Upstream;
use crate::log::CallLog;
use crate::upstream::reasons;
use crate::wire::{self, Call, Refusal, Seen, Tap};

/// A stream of which all that had come was looked at so long before its cut was read as it came: no model makes as many
/// tokens in this time as an estimate adds for those on their way (256, which is 2,500 a second).
const BEHIND_MAX: Duration = Duration::from_millis(100);

/// How the answer is read.
#[derive(Debug)]
pub(crate) enum Reading {
    /// A stream, as it passes.
    Stream(Box<Tap>),
    /// A plain answer, at its end.
    Plain(Vec<Bytes>, usize),
}

impl Reading {
    /// Reads a piece, and gives what to pass on.
    pub(crate) fn feed(&mut self, piece: &Bytes) -> Bytes {
        match self {
            Self::Stream(tap) => return tap.feed(piece),
            Self::Plain(pieces, size) => {
                *size = size.saturating_add(piece.len());
                if *size <= ANSWER_MAX {
                    pieces.push(piece.clone());
                }
            }
        }
        piece.clone()
    }

    /// What it told, and bytes that are still to be passed on.
    fn end(self, call: &Call) -> (Seen, Bytes) {
        match self {
            Self::Stream(tap) => {
                let outcome = tap.end();
                (outcome.seen, outcome.rest)
            }
            Self::Plain(_, size) if size > ANSWER_MAX => (Seen::default(), Bytes::new()),
            Self::Plain(pieces, _) => {
                let whole = match <[Bytes; 1]>::try_from(pieces) {
                    Ok([one]) => one,
                    Err(pieces) => Bytes::from(pieces.concat()),
                };
                (wire::read_answer(call, &whole), Bytes::new())
            }
        }
    }
}

/// An answer on its way. Dropped before its end, the provider is cut off and the call settled by estimate.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) gate: Arc<Gate>,
    pub(crate) call: Arc<Call>,
    pub(crate) place: Place,
    pub(crate) on_error: OnError,
    pub(crate) upstream: Upstream,
    /// What was read of it already.
    pub(crate) first: Option<Bytes>,
    pub(crate) reading: Option<Reading>,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) log: CallLog,
    /// What a silent stream's client gets.
    pub(crate) ping: Bytes,
    pub(crate) quiet_since: Instant,
    pub(crate) alarm: Option<Pin<Box<Sleep>>>,
    /// It is over, but what came before has to be written first.
    pub(crate) cut: Option<Cut>,
    pub(crate) flushed: bool,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy)]
enum End<'a> {
    /// The provider ended it.
    Whole,
    /// The provider broke it off.
    Lost(&'a str),
    /// Somebody else did, in a word for metrics.
    Cut(&'static str),
}

impl Relay {
    /// It is no stream, where the client waits for one: it gets nothing of it.
    pub(crate) fn not_streamed(&self) {
        self.log.gone(&format!("{}: it did not stream its answer", self.place));
    }

    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.reading, Some(Reading::Stream(_)))
    }

    /// The next piece; `None` at the end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return self.pass(first);
        }
        if let Some(cut) = &self.cut {
            if std::mem::replace(&mut self.flushed, true) {
                return Poll::Ready(Some(Err(cut.clone())));
            }
            // An error drops what the connection holds and has not written yet: it comes one round later.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if self.reading.is_none() {
                return Poll::Ready(None);
            }
            if self.gate.fence.left().is_none() {
                return self.deadline(cx);
            }
            match self.upstream.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Some(reading) = &mut self.reading else { continue };
                    // Trailers say nothing that a client here looks for.
                    let Ok(mut piece) = frame.into_data() else { continue };
                    if matches!(reading, Reading::Stream(_)) {
                        piece = self.upstream.together(piece, cx);
                    }
                    let piece = reading.feed(&piece);
                    self.quiet_since = Instant::now();
                    if !piece.is_empty() {
                        return self.pass(piece);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let why = reasons(&error);
                    self.lost(&why);
                    return self.cut_off(cx, Cut::Upstream(why));
                }
                Poll::Ready(None) => {
                    let rest = self.finish(End::Whole);
                    return if rest.is_empty() { Poll::Ready(None) } else { self.pass(rest) };
                }
                Poll::Pending => {
                    if ready!(self.watch(cx)) {
                        return self.pass(self.ping.clone());
                    }
                }
            }
        }
    }

    /// Ends it with an error.
    fn cut_off(&mut self, cx: &mut Context<'_>, cut: Cut) -> Poll<Option<Result<Bytes, Cut>>> {
        self.cut = Some(cut);
        self.poll(cx)
    }

    /// The run's time is over: a stream's client is told, so that it does not ask again, and then cut off.
    fn deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let streams = self.is_stream();
        self.finish(End::Cut("deadline"));
        if !streams {
            return self.cut_off(cx, Cut::Deadline);
        }
        self.cut = Some(Cut::Deadline);
        let (protocol, id) = (self.call.protocol, self.log.id.clone());
        self.pass(wire::refusal_event(protocol, &Refusal::Fenced, &id))
    }

    fn pass(&mut self, piece: Bytes) -> Poll<Option<Result<Bytes, Cut>>> {
        self.quiet_since = Instant::now();
        if self.upstream.is_end_stream() && matches!(self.reading, Some(Reading::Plain(..))) {
            // The last piece: of a body whose length is known nobody asks for more.
            self.finish(End::Whole);
        }
        if let Some(capture) = &mut self.log.capture {
            capture.passes(&piece);
        }
        Poll::Ready(Some(Ok(piece)))
    }

    /// While nothing comes: the deadline, and pings. True for a ping that is due; otherwise there is something to be
    /// looked at again.
    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let ping_after = self.gate.shared.config.ping_after;
        let between = match &self.reading {
            Some(Reading::Stream(tap)) => tap.is_between_events(),
            _ => false,
        };
        let quiet = self.quiet_since.elapsed();
        if between && quiet >= ping_after {
            return Poll::Ready(true);
        }
        let Some(left) = self.gate.fence.left() else { return Poll::Ready(false) };
        // A stream that stands still within an event is looked at again after another while.
        let next = if between { ping_after - quiet } else { ping_after };
        let due = Instant::now() + next.min(left);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        // Armed once for many pieces: one that rings early is set anew.
        if alarm.is_elapsed() || alarm.deadline() > due {
            alarm.as_mut().reset(due);
        }
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(self.quiet_since.elapsed() >= ping_after && between)
    }

    /// The provider died in the middle.
    fn lost(&mut self, why: &str) {
        self.finish(End::Lost(why));
        let now = std::time::Instant::now();
        let blow = Blow { why, retry_after: None, limited: false };
        if self.gate.shared.health().failed(&self.place, now, &self.on_error, &blow) {
            self.log.rests();
        }
    }

    /// Settles; returns bytes that are still to be passed on.
    fn finish(&mut self, end: End<'_>) -> Bytes {
        let Some(reading) = self.reading.take() else { return Bytes::new() };
        let read = match &reading {
            Reading::Stream(_) if self.upstream.behind() > BEHIND_MAX => Read::Behind,
            Reading::Stream(_) => Read::AsItCame,
            Reading::Plain(..) => Read::AtItsEnd,
        };
        let (seen, rest) = reading.end(&self.call);
        if let Some(attempt) = self.attempt.take() {
            let used = attempt.answered(&self.call, &seen, read);
            let streamed = read != Read::AtItsEnd;
            let unfinished = (streamed && !seen.finished).then(|| "unfinished".to_owned());
            // What the provider did to a stream that has not ended: the client got no answer.
            let gone = match end {
                End::Whole => seen.error.clone().or_else(|| unfinished.clone()),
                End::Lost(why) => (!seen.finished).then(|| why.to_owned()),
                End::Cut(_) => None,
            };
            if let Some(why) = gone {
                self.log.gone(&format!("{}: {why}", self.place));
            }
            let error = match end {
                End::Whole => None,
                End::Lost(why) => Some(format!("upstream_gone: {why}")),
                End::Cut(why) => Some(why.to_owned()),
            };
            self.log.answered(used, seen, error.or(unfinished));
        }
        rest
    }

    /// How many bytes are still to come, if that is known.
    pub(crate) fn size_hint(&self) -> http_body::SizeHint {
        match (&self.reading, self.upstream.size_hint().exact()) {
            (Some(Reading::Plain(..)), Some(rest)) => {
                let first = self.first.as_ref().map_or(0, Bytes::len) as u64;
                http_body::SizeHint::with_exact(first + rest)
            }
            _ => http_body::SizeHint::default(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The client went away, or the run ended; but some clients do not wait for what follows the last event.
        let whole = match &self.reading {
            Some(Reading::Stream(tap)) => tap.seen().finished,
            Some(Reading::Plain(..)) | None => false,
        };
        self.finish(if whole { End::Whole } else { End::Cut("client_gone") });
    }
}
