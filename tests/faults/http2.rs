//! As much of HTTP/2 as a proxy has to know to count what is asked, and to silence one stream of a
//! connection while the others go on.

use std::collections::BTreeSet;

/// What a client says first.
const PREFACE_BYTES: usize = 24;
/// Length, kind, flags and stream of a frame.
const HEADER_BYTES: usize = 9;
/// The kind of frames that carry messages.
const DATA: u8 = 0;

/// One frame with its header.
pub(crate) struct Frame(Vec<u8>);

impl Frame {
    /// The bytes behind its header; none where it carries no message.
    fn message(&self) -> &[u8] {
        if self.0[3] == DATA { &self.0[HEADER_BYTES..] } else { &[] }
    }

    /// Whether it carries a message, or a part of one.
    pub(crate) fn is_message(&self) -> bool {
        !self.message().is_empty()
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.0[5] & 0x7f, self.0[6], self.0[7], self.0[8]])
    }

    /// Whether it asks etcd for a watch of our keys: behind the five bytes in front of every message a
    /// field with a request, whose own first field is the key. Of other requests the key itself is first.
    fn begins_watch(&self) -> bool {
        let message = self.message();
        let tags = (message.get(5), message.get(7));
        let key = message.get(9..).unwrap_or_default();
        tags == (Some(&0x0a), Some(&0x0a)) && key.starts_with(b"/flyball/")
    }
}

/// Cuts one direction of a connection into frames.
pub(crate) struct Frames {
    /// Bytes to come that are no frame.
    preface: usize,
    rest: Vec<u8>,
}

impl Frames {
    /// What a client says.
    pub(crate) const fn of_client() -> Self {
        Self { preface: PREFACE_BYTES, rest: Vec::new() }
    }

    /// What a server says.
    pub(crate) const fn of_server() -> Self {
        Self { preface: 0, rest: Vec::new() }
    }

    /// The frames that are complete with these bytes.
    pub(crate) fn cut(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        self.rest.extend_from_slice(&bytes[skipped..]);
        let mut frames = Vec::new();
        while let Some([high, middle, low]) = self.rest.first_chunk::<3>() {
            let length = u32::from_be_bytes([0, *high, *middle, *low]);
            let end = HEADER_BYTES + usize::try_from(length).expect("it is short");
            if self.rest.len() < end {
                break;
            }
            frames.push(Frame(self.rest.drain(..end).collect()));
        }
        frames
    }
}

/// The watches of one connection.
#[derive(Default)]
pub(crate) struct Watches {
    /// Streams of those that were there before any silence.
    old: BTreeSet<u32>,
    /// What they would have heard.
    held: Vec<u8>,
}

impl Watches {
    /// Notes a frame of the client's; watches that begin while others are silenced are heard.
    pub(crate) fn note(&mut self, frame: &Frame, silent: bool) {
        if !silent && frame.begins_watch() {
            self.old.insert(frame.stream());
        }
    }

    /// What the client hears of these frames of the server's, and of all before that were held if there
    /// is no silence any more.
    pub(crate) fn heard(&mut self, frames: Vec<Frame>, silent: bool) -> Vec<u8> {
        let mut heard = if silent { Vec::new() } else { std::mem::take(&mut self.held) };
        for frame in frames {
            let held = silent && frame.is_message() && self.old.contains(&frame.stream());
            if held { &mut self.held } else { &mut heard }.extend(frame.0);
        }
        heard
    }
}
