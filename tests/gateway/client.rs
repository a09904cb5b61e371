//! A client by hand: requests as bytes, answers as they come.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for anything.
const BOUND: Duration = Duration::from_secs(30);

/// An answer that is read piece by piece.
pub(crate) struct Answer {
    stream: TcpStream,
    pub(crate) status: u16,
    pub(crate) head: String,
    raw: Vec<u8>,
    /// Whether the connection has ended.
    pub(crate) ended: bool,
}

/// Sends a request with these header lines.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer =
        Answer { stream, status: 0, head: String::new(), raw: Vec::new(), ended: false };
    while !answer.ended && answer.status == 0 {
        answer.more();
        if let Some(at) = answer.raw.windows(4).position(|window| window == b"\r\n\r\n") {
            answer.head = String::from_utf8(answer.raw.drain(..at + 4).collect()).unwrap();
            answer.status = answer.head.split(' ').nth(1).unwrap().parse().unwrap();
        }
    }
    answer
}

impl Answer {
    fn more(&mut self) {
        let mut piece = [0; 64 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => self.ended = true,
            Ok(count) => self.raw.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => self.ended = true,
            Err(error) => panic!("nothing came for {BOUND:?}: {error}"),
        }
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The body so far, and whether it is complete.
    pub(crate) fn body(&self) -> (Vec<u8>, bool) {
        if let Some(length) = self.header("content-length") {
            let length: usize = length.parse().unwrap();
            return (self.raw.clone(), self.raw.len() == length);
        }
        let (mut body, mut rest) = (Vec::new(), self.raw.as_slice());
        while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
            let size =
                usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
            rest = &rest[at + 2..];
            if size == 0 {
                return (body, true);
            }
            body.extend_from_slice(&rest[..size.min(rest.len())]);
            if rest.len() < size + 2 {
                break;
            }
            rest = &rest[size + 2..];
        }
        (body, false)
    }

    /// Reads until the text so far says so.
    pub(crate) fn until(&mut self, what: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.body().0).into_owned();
            if text.contains(what) {
                return text;
            }
            assert!(!self.ended, "the answer ended without {what:?}: {text}");
            self.more();
        }
    }

    /// Reads to the end of the connection: the body, and whether it was whole.
    pub(crate) fn rest(mut self) -> (String, bool) {
        while !self.ended {
            self.more();
        }
        let (body, whole) = self.body();
        (String::from_utf8(body).unwrap(), whole)
    }

    /// The whole body.
    pub(crate) fn text(self) -> String {
        let (text, whole) = self.rest();
        assert!(whole, "the answer was cut: {text}");
        text
    }
}
