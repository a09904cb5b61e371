//! Server-sent events, read as they come in: however the bytes are cut, the same events. After the HTML standard's
//! "Server-sent events", section 9.2.6.

use memchr::memchr2;

/// Longest event whose data is kept. What is longer is passed on, but not read: Responses' last event repeats the
/// whole answer, images included, so this is large.
const EVENT_MAX: usize = 16 << 20;
/// A buffer that grew past this is given back after its event, so that one large event does not cost every stream.
const KEPT_MAX: usize = 64 << 10;
const BOM: &[u8] = b"\xef\xbb\xbf";
const DATA: &[u8] = b"data:";

/// Where reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// An event ended; its data is in [`Framer::data`].
    Event,
    /// Nothing is begun: after a blank line without an event, or a comment.
    Pause,
}

/// What the current line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Nothing of it has come.
    Empty,
    /// So many bytes that `data:` begins with.
    Head(usize),
    /// A value for the event.
    Data {
        /// Whether a space would be the one after the colon.
        first: bool,
    },
    /// Some other field.
    Other,
    Comment,
}

/// Cuts a stream into events. Only `data` is kept: every protocol of ours repeats the event's name in it.
#[derive(Debug)]
pub(crate) struct Framer {
    line: Line,
    data: Vec<u8>,
    has_data: bool,
    /// A field, or a part of one, of the current event has come.
    begun: bool,
    too_long: bool,
    /// The last byte was a CR, so that an LF now is a part of the same line end.
    after_cr: bool,
    /// Bytes of a byte order mark that have come; all of them or more once anything else has.
    bom: usize,
    /// The last answer was an event, which the next call clears.
    stale: bool,
}

impl Framer {
    pub(crate) fn new() -> Self {
        Self {
            line: Line::Empty,
            data: Vec::new(),
            has_data: false,
            begun: false,
            too_long: false,
            after_cr: false,
            bom: 0,
            stale: false,
        }
    }

    /// Reads on from `at` to the next mark, and moves `at` behind it; to the end of the chunk if there is none.
    pub(crate) fn next(&mut self, chunk: &[u8], at: &mut usize) -> Option<Mark> {
        self.clear_stale();
        loop {
            if self.after_cr && chunk.get(*at) == Some(&b'\n') {
                // Only one: the next one is a line end of its own, also in another chunk.
                self.after_cr = false;
                *at += 1;
            }
            if *at >= chunk.len() {
                return None;
            }
            self.after_cr = false;
            let rest = &chunk[*at..];
            let end = memchr2(b'\n', b'\r', rest);
            self.take(&rest[..end.unwrap_or(rest.len())]);
            let Some(end) = end else {
                *at = chunk.len();
                return None;
            };
            self.after_cr = rest[end] == b'\r';
            *at += end + 1;
            if let Some(mark) = self.end_line() {
                if self.after_cr && chunk.get(*at) == Some(&b'\n') {
                    self.after_cr = false;
                    *at += 1;
                }
                return Some(mark);
            }
        }
    }

    /// The data of the event that just ended; nothing if it was too long to be kept.
    pub(crate) fn data(&self) -> Option<&[u8]> {
        (!self.too_long).then_some(&self.data)
    }

    /// Ends the stream. An event without its blank line counts as well: its bytes were paid for.
    pub(crate) fn finish(&mut self) -> bool {
        self.clear_stale();
        if self.line != Line::Empty {
            self.end_line();
        }
        self.has_data
    }

    /// Whether nothing is begun, so that an event of ours may be put in here.
    pub(crate) fn is_between(&self) -> bool {
        self.line == Line::Empty && (self.stale || !self.begun)
    }

    /// Whether an LF at the start of the next chunk belongs to the line that has ended.
    pub(crate) fn is_after_cr(&self) -> bool {
        self.after_cr
    }

    fn clear_stale(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        self.begun = false;
        self.has_data = false;
        self.too_long = false;
        self.data.clear();
        if self.data.capacity() > KEPT_MAX {
            self.data = Vec::new();
        }
    }

    /// Bytes of the current line.
    fn take(&mut self, mut bytes: &[u8]) {
        while self.bom < BOM.len() && !bytes.is_empty() {
            if bytes[0] == BOM[self.bom] {
                self.bom += 1;
                bytes = &bytes[1..];
            } else {
                self.bom = BOM.len();
            }
        }
        while !bytes.is_empty() {
            match self.line {
                Line::Empty if bytes[0] == b':' => self.line = Line::Comment,
                Line::Empty => self.line = Line::Head(0),
                Line::Head(count) if bytes[0] != DATA[count] => self.line = Line::Other,
                Line::Head(count) => {
                    bytes = &bytes[1..];
                    self.begun = true;
                    self.line = Line::Head(count + 1);
                    if count + 1 == DATA.len() {
                        self.begin_value();
                    }
                }
                Line::Data { first } => {
                    self.line = Line::Data { first: false };
                    let value = if first { bytes.strip_prefix(b" ") } else { None };
                    return self.keep(value.unwrap_or(bytes));
                }
                Line::Other => {
                    self.begun = true;
                    return;
                }
                Line::Comment => return,
            }
        }
    }

    fn begin_value(&mut self) {
        if self.has_data {
            self.keep(b"\n");
        }
        self.has_data = true;
        self.line = Line::Data { first: true };
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.data.len() + bytes.len() > EVENT_MAX {
            self.too_long = true;
            self.data = Vec::new();
        }
        if !self.too_long {
            self.data.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self) -> Option<Mark> {
        self.bom = BOM.len();
        match std::mem::replace(&mut self.line, Line::Empty) {
            Line::Empty => {
                self.stale = true;
                Some(if self.has_data { Mark::Event } else { Mark::Pause })
            }
            Line::Comment if !self.begun => Some(Mark::Pause),
            // A field without a colon has an empty value.
            Line::Head(count) if count + 1 == DATA.len() => {
                self.begin_value();
                self.line = Line::Empty;
                None
            }
            _ => None,
        }
    }
}
