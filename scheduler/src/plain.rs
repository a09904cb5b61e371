//! TCP connections without TLS, with the address that they came from as it was when they were accepted: a peer
//! that is gone before its request is looked at has none to ask for any more.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// The connections of a listener.
pub(crate) struct Incoming(pub(crate) TcpListener);

/// A connection.
pub(crate) struct Plain {
    stream: TcpStream,
    from: SocketAddr,
}

impl Stream for Incoming {
    type Item = io::Result<Plain>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_accept(context).map(|accepted| {
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => return Some(Err(error)),
            };
            // Small messages must not wait for more: every assignment is one.
            Some(stream.set_nodelay(true).map(|()| Plain { stream, from }))
        })
    }
}

impl Connected for Plain {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        let local_addr = self.stream.local_addr().ok();
        TcpConnectInfo { local_addr, remote_addr: Some(self.from) }
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_is_gone_again_is_still_known() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let from = client.local_addr().unwrap();
        // With nothing to linger for, its end is a reset, as of somebody who does not want to be seen.
        let client = TcpStream::from_std({
            client.set_nonblocking(true).unwrap();
            client
        })
        .unwrap();
        client.set_zero_linger().unwrap();
        drop(client);
        let mut incoming = Incoming(listener);
        let next = tokio::time::timeout(Duration::from_secs(30), incoming.next()).await.unwrap();
        let plain = next.unwrap().unwrap();
        assert!(plain.stream.peer_addr().is_err(), "the kernel has forgotten it");
        assert_eq!(plain.connect_info().remote_addr(), Some(from));
    }
}
