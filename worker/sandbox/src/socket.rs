//! Frames over a Unix seqpacket socket, with file descriptors. A packet arrives whole or not at all,
//! so there is no framing to get wrong.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::own_received;
use crate::wire::FRAME_BYTES_MAX;

/// Most descriptors of a frame: `Spawn` to a step init, with output, input, control group, its events and where
/// listeners go.
const FDS_MAX: usize = 5;

thread_local! {
    /// Room for one frame. Kept, as a fresh one would be mapped and unmapped for every frame; of its
    /// pages only those exist that were ever written.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; FRAME_BYTES_MAX]);
}

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// Why a frame did not go out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The socket's buffer is full. Retryable once the other side reads.
    #[error("the other side does not read")]
    Full,
    /// The frame is larger than [`FRAME_BYTES_MAX`].
    #[error("{bytes} bytes are more than {FRAME_BYTES_MAX}")]
    TooLarge {
        /// Size of the frame.
        bytes: usize,
    },
    /// The other side is gone.
    #[error("the other side is gone: {0}")]
    Gone(Errno),
}

/// What was received.
#[derive(Debug)]
pub(crate) enum Received<T> {
    /// A frame with its descriptors.
    Frame(T, Vec<OwnedFd>),
    /// Nothing is there yet (only without waiting).
    Nothing,
    /// The other side is gone.
    End,
    /// Something that is not a frame.
    Malformed(String),
}

impl Socket {
    /// A connected pair.
    pub(crate) fn pair() -> nix::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(a), Self(b)))
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Sends one frame without ever waiting.
    pub(crate) fn send<T: Serialize>(
        &self,
        frame: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        // These types have no map with odd keys and no failing serializer.
        let bytes = serde_json::to_vec(frame).map_err(|_| SendError::TooLarge { bytes: 0 })?;
        self.send_bytes(&bytes, fds)
    }

    fn send_bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(SendError::TooLarge { bytes: bytes.len() });
        }
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                // Too many descriptors in flight is a full queue in other words.
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ETOOMANYREFS) => {
                    return Err(SendError::Full);
                }
                Err(Errno::EMSGSIZE) => return Err(SendError::TooLarge { bytes: bytes.len() }),
                Err(errno) => return Err(SendError::Gone(errno)),
            }
        }
    }

    /// Receives one frame; waits for it if `wait`.
    pub(crate) fn receive<T: DeserializeOwned>(&self, wait: bool) -> Received<T> {
        BUFFER.with_borrow_mut(|buffer| self.receive_into(buffer, wait))
    }

    fn receive_into<T: DeserializeOwned>(&self, buffer: &mut [u8], wait: bool) -> Received<T> {
        let mut control = cmsg_space!([RawFd; FDS_MAX]);
        let mut flags = MsgFlags::MSG_CMSG_CLOEXEC;
        if !wait {
            flags |= MsgFlags::MSG_DONTWAIT;
        }
        let (length, fds, cut) = loop {
            let mut iov = [IoSliceMut::new(buffer)];
            match recvmsg::<()>(self.0.as_raw_fd(), &mut iov, Some(&mut control), flags) {
                Ok(message) => {
                    let mut fds = Vec::new();
                    for part in message.cmsgs().into_iter().flatten() {
                        if let ControlMessageOwned::ScmRights(raw) = part {
                            fds.extend(own_received(&raw));
                        }
                    }
                    let cut = MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC;
                    break (message.bytes, fds, message.flags.intersects(cut));
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Received::Nothing,
                // A reset socket is one whose other side is gone.
                Err(_) => return Received::End,
            }
        };
        if cut {
            return Received::Malformed("a frame or its descriptors were cut off".into());
        }
        match buffer.get(..length) {
            None | Some([]) => Received::End,
            Some(bytes) => match serde_json::from_slice(bytes) {
                Ok(frame) => Received::Frame(frame, fds),
                Err(error) => Received::Malformed(error.to_string()),
            },
        }
    }

    /// Ends the conversation for both sides, without closing the descriptor under a reader.
    pub(crate) fn shut_down(&self) {
        // An error means that the other side is gone already.
        let _ = nix::sys::socket::shutdown(self.0.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Order;

    #[test]
    fn frames_arrive_whole_with_their_descriptors() {
        let (a, b) = Socket::pair().unwrap();
        let extra = std::fs::File::open("/dev/null").unwrap();
        a.send(&Order::Kill { id: 7 }, &[extra.as_fd()]).unwrap();
        a.send(&Order::KillAll, &[]).unwrap();
        let Received::Frame(Order::Kill { id: 7 }, fds) = b.receive(false) else { panic!() };
        assert_eq!(fds.len(), 1);
        assert!(matches!(b.receive(false), Received::Frame(Order::KillAll, _)));
        assert!(matches!(b.receive::<Order>(false), Received::Nothing));
        drop(a);
        assert!(matches!(b.receive::<Order>(true), Received::End));
    }

    #[test]
    fn what_is_no_frame_is_said_to_be_none() {
        let (a, b) = Socket::pair().unwrap();
        a.send_bytes(b"{\"Spawn\":", &[]).unwrap();
        assert!(matches!(b.receive::<Order>(false), Received::Malformed(_)));
        let huge = vec![b'x'; FRAME_BYTES_MAX + 1];
        assert!(matches!(a.send_bytes(&huge, &[]), Err(SendError::TooLarge { .. })));
    }

    #[test]
    fn a_full_socket_does_not_wait() {
        let (a, _b) = Socket::pair().unwrap();
        let frame = "x".repeat(100_000);
        let full = (0..1000).find_map(|_| a.send(&frame, &[]).err());
        assert!(matches!(full, Some(SendError::Full)));
    }
}
