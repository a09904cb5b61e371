//! Looks at the first message of a request and leaves the request whole.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tonic::Status;
use tonic::body::Body;

/// Compression flag and length in front of each message.
const HEADER_BYTES: usize = 5;

/// The first message, and the body as it was.
pub(super) struct Peeked {
    pub(super) message: Bytes,
    pub(super) body: Body,
}

/// Reads up to the end of the first message.
///
/// # Errors
/// The status to answer with: the message is compressed, larger than `bytes_max`, or incomplete.
pub(super) async fn first_message(mut body: Body, bytes_max: usize) -> Result<Peeked, Status> {
    let mut read = BytesMut::new();
    loop {
        if let Some(length) = length(&read, bytes_max)?
            && read.len() >= HEADER_BYTES + length
        {
            let read = read.freeze();
            let message = read.slice(HEADER_BYTES..HEADER_BYTES + length);
            return Ok(Peeked { message, body: Body::new(Replay { read, rest: body }) });
        }
        let Some(frame) = body.frame().await else {
            return Err(Status::invalid_argument("the request ended before its first message"));
        };
        let frame =
            frame.map_err(|error| Status::unknown(format!("the request broke: {error}")))?;
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
    }
}

/// The length of the first message, once it is known.
fn length(read: &[u8], bytes_max: usize) -> Result<Option<usize>, Status> {
    let Some(mut header) = read.get(..HEADER_BYTES) else { return Ok(None) };
    if header.get_u8() != 0 {
        return Err(Status::unimplemented("compressed messages are not supported"));
    }
    let length = usize::try_from(header.get_u32()).unwrap_or(usize::MAX);
    if length > bytes_max {
        let message = format!("a message of {length} bytes; at most {bytes_max} are allowed here");
        return Err(Status::out_of_range(message));
    }
    Ok(Some(length))
}

/// What was read, then the rest.
struct Replay {
    read: Bytes,
    rest: Body,
}

impl http_body::Body for Replay {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.read.is_empty() {
            let read = std::mem::take(&mut self.read);
            return Poll::Ready(Some(Ok(Frame::data(read))));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use tokio_stream::StreamExt;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0][..], &length[..], message].concat()
    }

    /// A body that arrives in pieces of `size` bytes.
    fn body(bytes: &[u8], size: usize) -> Body {
        let pieces: Vec<_> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
        let frames = tokio_stream::iter(pieces).map(|piece| Ok::<_, Status>(Frame::data(piece)));
        Body::new(StreamBody::new(frames))
    }

    #[tokio::test]
    async fn the_first_message_is_seen_and_everything_is_passed_on() {
        let whole = [framed(b"first"), framed(b""), framed(b"third")].concat();
        for size in 1..=whole.len() {
            let peeked = first_message(body(&whole, size), 100).await.unwrap();
            assert_eq!(&peeked.message[..], b"first");
            assert_eq!(&peeked.body.collect().await.unwrap().to_bytes()[..], &whole[..]);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_looked_at_is_refused() {
        let code = async |bytes: &[u8]| {
            let body = Body::new(Full::new(Bytes::copy_from_slice(bytes)));
            first_message(body, 4).await.err().map(|status| status.code())
        };
        assert_eq!(code(b"").await, Some(tonic::Code::InvalidArgument));
        assert_eq!(code(&framed(b"abcd")[..7]).await, Some(tonic::Code::InvalidArgument));
        assert_eq!(code(&framed(b"abcde")).await, Some(tonic::Code::OutOfRange));
        assert_eq!(code(&[1, 0, 0, 0, 0]).await, Some(tonic::Code::Unimplemented));
        assert_eq!(code(&framed(b"abcd")).await, None);
    }
}
