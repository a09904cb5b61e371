//! A connection whose incoming header blocks are made acceptable on the way (see `authority`).

use super::authority;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::Connected;

/// Bytes of the client's connection preface.
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// Largest header frame that is looked into: the largest frame that we allow clients (HTTP/2's
/// default). The HTTP/2 library refuses larger ones.
const HEADERS_BYTES_MAX: usize = 16 << 10;

/// Bytes taken from the socket at a time.
const READ_BYTES: usize = 16 << 10;

/// A Unix connection.
#[derive(Debug)]
pub(super) struct Filtered {
    inner: UnixStream,
    frames: Frames,
}

impl Filtered {
    pub(super) fn new(inner: UnixStream) -> Self {
        Self { inner, frames: Frames { pass: PREFACE, ..Frames::default() } }
    }
}

/// Splits what arrives into frames.
#[derive(Debug, Default)]
struct Frames {
    /// Bytes that pass unseen before the next frame begins.
    pass: usize,
    /// A frame header, or a header frame, that is not complete yet.
    held: Vec<u8>,
    /// Ready for the HTTP/2 library.
    ready: Vec<u8>,
    taken: usize,
}

impl Frames {
    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.pass > 0 {
                let (passing, rest) = bytes.split_at(self.pass.min(bytes.len()));
                self.ready.extend_from_slice(passing);
                self.pass -= passing.len();
                bytes = rest;
                continue;
            }
            let wanted = self.wanted();
            let (more, rest) = bytes.split_at((wanted - self.held.len()).min(bytes.len()));
            self.held.extend_from_slice(more);
            bytes = rest;
            if self.held.len() == FRAME_HEADER && self.wanted() == FRAME_HEADER {
                self.pass = payload_len(&self.held);
                self.ready.append(&mut self.held);
            } else if self.held.len() > FRAME_HEADER && self.held.len() == self.wanted() {
                rewrite_frame(&mut self.held);
                self.ready.append(&mut self.held);
            }
        }
    }

    /// Bytes to hold before anything is decided: a frame header, with the payload of header frames.
    fn wanted(&self) -> usize {
        if self.held.len() < FRAME_HEADER {
            return FRAME_HEADER;
        }
        let len = payload_len(&self.held);
        let look = self.held[3] == HEADERS && len <= HEADERS_BYTES_MAX;
        if look { FRAME_HEADER + len } else { FRAME_HEADER }
    }

    fn take(&mut self, out: &mut ReadBuf<'_>) {
        let left = &self.ready[self.taken..];
        let part = &left[..left.len().min(out.remaining())];
        out.put_slice(part);
        self.taken += part.len();
        if self.taken == self.ready.len() {
            self.ready.clear();
            self.taken = 0;
        }
    }
}

fn payload_len(frame: &[u8]) -> usize {
    usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2])
}

fn rewrite_frame(frame: &mut [u8]) {
    let flags = frame[4];
    let payload = &mut frame[FRAME_HEADER..];
    let padding = if flags & PADDED != 0 { usize::from(payload[0]) } else { 0 };
    let start = usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
    let end = payload.len().saturating_sub(padding);
    if let Some(block) = payload.get_mut(start..end) {
        authority::rewrite(block);
    }
}

impl AsyncRead for Filtered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.frames.ready.is_empty() {
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                // The end; a frame that is not complete is of no use to anybody.
                return Poll::Ready(Ok(()));
            }
            this.frames.push(read.filled());
        }
        this.frames.take(out);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Filtered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl Connected for Filtered {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u8::try_from(payload.len()).unwrap();
        let mut frame = vec![0, 0, len, kind, flags, 0, 0, 0, 1];
        frame.extend(payload);
        frame
    }

    proptest! {
        /// However the bytes arrive, only header frames change, and only their authority.
        #[test]
        fn only_the_authority_changes(cuts in prop::collection::vec(1_usize..40, 1..60)) {
            let stream = |path: &[u8]| {
                let mut headers = vec![0x83, 0x41, u8::try_from(path.len()).unwrap()];
                headers.extend(path);
                let padded = [&[2][..], &[0, 0, 0, 0, 9], &headers, &[0, 0]].concat();
                let parts = [
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
                    frame(4, 0, b""),
                    frame(HEADERS, 4, &headers),
                    frame(0, 0, b"\x41\x03/a/"),
                    frame(HEADERS, 4 | PADDED | PRIORITY, &padded),
                    frame(HEADERS, 4, b""),
                    frame(6, 0, b"12345678"),
                ];
                parts.concat()
            };
            let (input, expected) = (stream(b"/a/b"), stream(b"-a-b"));
            let mut frames = Frames { pass: PREFACE, ..Frames::default() };
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(input.len());
                frames.push(&input[at..end]);
                at = end;
                if at == input.len() {
                    break;
                }
            }
            prop_assert_eq!(&frames.ready, &expected);
        }
    }
}
