//! As much of an HTTP/1.1 client as is needed to ask a gateway on the loopback: one POST on a connection of its
//! own, and the answer's body as a stream.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest silence in an answer. A gateway sends something every few minutes also when a model thinks.
const SILENCE_MAX: Duration = Duration::from_secs(600);
/// Longest line of a head, and of a chunk's size.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// Most header lines.
const HEADERS_MAX: usize = 200;

/// The beginning of an answer; its body is read from it.
pub(crate) struct Answer {
    pub(crate) status: u16,
    body: Body,
}

/// How the end of a body is known.
enum Left {
    /// So many bytes are left.
    Bytes(u64),
    /// So many bytes of a chunk are left, and then there is another.
    Chunk(u64),
    /// It ends with the connection.
    Open,
    /// It has ended.
    None,
}

struct Body {
    from: BufReader<TcpStream>,
    left: Left,
}

/// Sends a JSON document and waits for the head of the answer. `url` is `http://HOST:PORT`.
pub(crate) fn post(
    url: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let host = host.filter(|host| !host.contains('/'));
    let host = host.ok_or_else(|| wrong(&format!("{url} is not of the form http://HOST:PORT")))?;
    let mut stream = TcpStream::connect(host)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         content-type: application/json\r\naccept: text/event-stream\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        if value.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(wrong(&format!("a control character in the value of {name}")));
        }
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    let mut all = head.into_bytes();
    all.extend_from_slice(body);
    stream.write_all(&all)?;
    read_head(BufReader::new(stream))
}

fn read_head(mut from: BufReader<TcpStream>) -> io::Result<Answer> {
    loop {
        let first = line(&mut from)?;
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let status: u16 = status.ok_or_else(|| wrong(&format!("no HTTP answer: {first:?}")))?;
        let mut left = Left::Open;
        for number in 0.. {
            let header = line(&mut from)?;
            if header.is_empty() {
                break;
            }
            if number >= HEADERS_MAX {
                return Err(wrong("too many headers"));
            }
            let (name, value) = header.split_once(':').unwrap_or((&header, ""));
            let value = value.trim();
            if name.eq_ignore_ascii_case("transfer-encoding") && value.ends_with("chunked") {
                left = Left::Chunk(0);
            } else if name.eq_ignore_ascii_case("content-length") && matches!(left, Left::Open) {
                left = Left::Bytes(value.parse().map_err(|_| wrong("a length that is no number"))?);
            }
        }
        // What comes before the answer is of no interest.
        if status >= 200 {
            return Ok(Answer { status, body: Body { from, left } });
        }
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the answer broke off in its head",
        ));
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

impl Answer {
    /// The body as text, at most so many bytes of it.
    pub(crate) fn text(self, bytes_max: u64) -> io::Result<String> {
        let mut bytes = Vec::new();
        self.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Left::Chunk(0) = self.left {
            self.next_chunk()?;
        }
        let most = match self.left {
            Left::None | Left::Bytes(0) => return Ok(0),
            Left::Open => return self.from.read(buffer),
            Left::Bytes(left) | Left::Chunk(left) => left,
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.from.read(&mut buffer[..most])?;
        if length == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer broke off"));
        }
        match &mut self.left {
            Left::Bytes(left) => *left -= length as u64,
            Left::Chunk(left) => {
                *left -= length as u64;
                if *left == 0 && !line(&mut self.from)?.is_empty() {
                    return Err(wrong("a chunk without its end"));
                }
            }
            Left::Open | Left::None => {}
        }
        Ok(length)
    }
}

impl Body {
    fn next_chunk(&mut self) -> io::Result<()> {
        let size = line(&mut self.from)?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| wrong("a chunk without a size"))?;
        self.left = if size == 0 { Left::None } else { Left::Chunk(size) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes; returns the status and the body, or why there is none.
    fn ask(answer: &[u8]) -> io::Result<(u16, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = answer.to_vec();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).unwrap();
            // The client may hang up on what it does not like.
            let _ = stream.write_all(&answer);
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let found = post(&url, "/v1/x", &[("x-api-key", "k")], b"{}").and_then(|answer| {
            let status = answer.status;
            Ok((status, answer.text(1000)?))
        });
        let request = server.join().unwrap();
        assert!(request.starts_with("POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
        assert!(request.contains("\r\nx-api-key: k\r\n") && request.ends_with("\r\n\r\n{}"));
        found
    }

    #[test]
    fn bodies_of_every_form() {
        for (answer, expected) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef"[..], (200, "abc")),
            (b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", (429, "")),
            (b"HTTP/1.0 200 OK\r\n\r\nabc", (200, "abc")),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", (200, "a")),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n",
                (200, "ab0123456789"),
            ),
        ] {
            let found = ask(answer).unwrap();
            assert_eq!((found.0, found.1.as_str()), expected);
        }
    }

    #[test]
    fn what_breaks_off_or_is_no_http_is_an_error() {
        for answer in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\ncontent-",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc",
            b"SSH-2.0-x\r\n\r\n",
        ] {
            assert!(ask(answer).is_err(), "{}", String::from_utf8_lossy(answer));
        }
        assert!(post("https://127.0.0.1:1", "/", &[], b"").is_err());
        assert!(post("http://127.0.0.1:1", "/", &[("a", "b\r\nc: d")], b"").is_err());
    }
}
