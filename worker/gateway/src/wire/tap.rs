//! The ear on a streamed answer: bytes pass unchanged, and what they say is noted. Only the one chunk that a client
//! did not ask for is taken out.

use bytes::Bytes;
use flyball_core::model::Protocol;

use super::call::Call;
use super::json::{self, Value};
use super::seen::Seen;
use super::sse::{Framer, Mark};
use super::{anthropic, chat, responses};

/// Most bytes of an unfinished event that are held back to see whether it is the chunk to take out, which is much
/// smaller.
const HELD_MAX: usize = 16 << 10;

/// Reads a streamed answer while it passes.
#[derive(Debug)]
pub struct Tap {
    reader: Reader,
    framer: Framer,
    seen: Seen,
    sieve: Option<Sieve>,
}

/// What is left when a stream has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the stream told.
    pub seen: Seen,
    /// Bytes that are still to be passed on.
    pub rest: Bytes,
}

/// A reader of one protocol's answers.
#[derive(Debug)]
enum Reader {
    Anthropic(anthropic::Reader),
    Chat(chat::Reader),
    Responses(responses::Reader),
}

/// Takes out the chunk with usage.
#[derive(Debug, Default)]
struct Sieve {
    /// The beginning of an event that is held back.
    held: Vec<u8>,
    /// The current event is too large to be held: it passes.
    passing: bool,
    /// The last event was taken out.
    took: bool,
}

impl Reader {
    fn new(call: &Call) -> Self {
        match call.protocol {
            Protocol::Anthropic => Self::Anthropic(anthropic::Reader::new(call.hour_cache)),
            Protocol::Chat => Self::Chat(chat::Reader::new(call.searches > 0, call.choices)),
            Protocol::Responses => Self::Responses(responses::Reader::default()),
        }
    }

    /// Notes what an event says; returns whether it is one that only whoever asked for usage should get.
    fn event(&mut self, data: Option<&[u8]>, seen: &mut Seen) -> bool {
        let is_chat = matches!(self, Self::Chat(_));
        if is_chat && data.is_some_and(|data| data.trim_ascii() == chat::DONE) {
            seen.finished = true;
            return false;
        }
        let Some(event) = data.and_then(|data| json::document(data).ok()) else {
            seen.unread = seen.unread.saturating_add(1);
            return false;
        };
        match self {
            Self::Anthropic(reader) => reader.event(event, seen),
            Self::Chat(reader) => return reader.event(event, seen),
            Self::Responses(reader) => reader.event(event, seen),
        }
        false
    }

    fn answer(&mut self, answer: Value<'_>, seen: &mut Seen) {
        match self {
            Self::Anthropic(reader) => reader.answer(answer, seen),
            Self::Chat(reader) => reader.answer(answer, seen),
            Self::Responses(reader) => reader.answer(answer, seen),
        }
    }
}

impl Tap {
    /// A tap for the answer to `call`. `strip_usage`: the chunk with usage was not asked for by the client.
    pub fn new(call: &Call, strip_usage: bool) -> Self {
        let strip = strip_usage && call.protocol == Protocol::Chat;
        Self {
            reader: Reader::new(call),
            framer: Framer::new(),
            seen: Seen::default(),
            sieve: strip.then(Sieve::default),
        }
    }

    /// Reads a chunk, and gives the bytes to pass on now: the same ones, unless something is taken out or held back
    /// until its event has ended.
    pub fn feed(&mut self, chunk: &Bytes) -> Bytes {
        if self.sieve.is_some() {
            return self.sift(chunk);
        }
        let mut at = 0;
        while let Some(mark) = self.framer.next(chunk, &mut at) {
            self.note(mark);
        }
        chunk.clone()
    }

    /// What the stream has told so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Whether the bytes passed on so far end where an event ends, so that others may be put in.
    pub fn is_between_events(&self) -> bool {
        let holds = self.sieve.as_ref().is_some_and(|sieve| !sieve.held.is_empty());
        holds || self.framer.is_between()
    }

    /// Ends the stream, wherever it was cut.
    pub fn end(mut self) -> Outcome {
        let took = self.framer.finish() && self.note_last();
        let held = self.sieve.map(|sieve| sieve.held).unwrap_or_default();
        let rest = if took { Bytes::new() } else { Bytes::from(held) };
        self.seen.end();
        Outcome { seen: self.seen, rest }
    }

    fn note(&mut self, mark: Mark) -> bool {
        mark == Mark::Event && self.reader.event(self.framer.data(), &mut self.seen)
    }

    /// The event in which the stream ended. One that was cut in two says no more than it has bytes.
    fn note_last(&mut self) -> bool {
        let unread = self.seen.unread;
        let took = self.note(Mark::Event);
        if let Some(data) = self.framer.data().filter(|_| self.seen.unread > unread) {
            let shown = self.seen.output_bytes.saturating_add(data.len() as u64);
            (self.seen.unread, self.seen.output_bytes) = (unread, shown);
        }
        took
    }

    /// Like a plain reading, but what may have to be taken out is held back until its event has ended.
    fn sift(&mut self, chunk: &Bytes) -> Bytes {
        let Some(mut sieve) = self.sieve.take() else { return chunk.clone() };
        let mut out = Pieces { chunk, ahead: Vec::new(), plain: 0..0 };
        let (mut at, mut from) = (0, 0);
        if self.framer.is_after_cr() && chunk.first() == Some(&b'\n') && sieve.is_idle() {
            // The other half of the last event's end shares its fate.
            from = 1;
            if !sieve.took {
                out.pass(0..1);
            }
        }
        while let Some(mark) = self.framer.next(chunk, &mut at) {
            let small = sieve.held.len() + at - from <= HELD_MAX;
            let take = self.note(mark) && small && !sieve.passing;
            if !take {
                out.held(&mut sieve.held);
                out.pass(from..at);
            }
            sieve = Sieve { took: take, ..Sieve::default() };
            from = at;
        }
        if sieve.passing || sieve.held.len() + chunk.len() - from > HELD_MAX {
            out.held(&mut sieve.held);
            out.pass(from..chunk.len());
            sieve.passing = true;
        } else {
            sieve.held.extend_from_slice(&chunk[from..]);
        }
        self.sieve = Some(sieve);
        out.done()
    }
}

impl Sieve {
    fn is_idle(&self) -> bool {
        self.held.is_empty() && !self.passing
    }
}

/// Pieces of a chunk that pass: one range of it as long as that will do, else a copy.
struct Pieces<'a> {
    chunk: &'a Bytes,
    /// What goes before the range.
    ahead: Vec<u8>,
    plain: std::ops::Range<usize>,
}

impl Pieces<'_> {
    /// What was held back goes first.
    fn held(&mut self, held: &mut Vec<u8>) {
        if !held.is_empty() {
            self.flush();
            self.ahead.append(held);
        }
    }

    fn pass(&mut self, range: std::ops::Range<usize>) {
        if range.is_empty() {
            return;
        }
        if self.plain.is_empty() {
            self.plain = range;
        } else if self.plain.end == range.start {
            self.plain.end = range.end;
        } else {
            self.flush();
            self.plain = range;
        }
    }

    fn flush(&mut self) {
        self.ahead.extend_from_slice(&self.chunk[self.plain.clone()]);
        self.plain = 0..0;
    }

    fn done(mut self) -> Bytes {
        if self.ahead.is_empty() {
            return self.chunk.slice(self.plain);
        }
        self.flush();
        Bytes::from(self.ahead)
    }
}

/// Reads a plain (not streamed) answer.
pub fn read_answer(call: &Call, body: &[u8]) -> Seen {
    let mut seen = Seen::default();
    match json::document(body) {
        Ok(answer) => Reader::new(call).answer(answer, &mut seen),
        Err(_) => seen.unread = 1,
    }
    seen.end();
    seen
}
