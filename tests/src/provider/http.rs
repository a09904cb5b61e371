//! As much of HTTP/1.1 as a provider needs, by hand, so that every byte and every fault is under control.

use std::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest head of a request.
const HEAD_MAX: usize = 256 * 1024;

/// Longest body of a request.
const BODY_MAX: usize = 64 * 1024 * 1024;

/// A request as it came.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads the next request of a connection; `None` when it was closed between requests. `rest` keeps what came
/// beyond it.
pub(super) async fn read(
    stream: &mut TcpStream,
    rest: &mut Vec<u8>,
) -> io::Result<Option<Request>> {
    let end = loop {
        if let Some(at) = find(rest, b"\r\n\r\n") {
            break at + 4;
        }
        if rest.len() > HEAD_MAX {
            return Err(bad("the head is too long"));
        }
        if more(stream, rest).await? == 0 {
            return if rest.is_empty() { Ok(None) } else { Err(bad("half a head")) };
        }
    };
    let head = String::from_utf8(rest[..end].to_vec()).map_err(|_| bad("a head in no UTF-8"))?;
    rest.drain(..end);
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let path = first.next().unwrap_or_default().to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    if headers.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let body = match headers.get("transfer-encoding") {
        Some(_) => chunked(stream, rest).await?,
        None => {
            let length = headers.get("content-length").map_or(Ok(0), |text| text.parse());
            exactly(stream, rest, length.map_err(|_| bad("content-length"))?).await?
        }
    };
    Ok(Some(Request { method, path, headers, body }))
}

async fn more(stream: &mut TcpStream, into: &mut Vec<u8>) -> io::Result<usize> {
    into.reserve(16 * 1024);
    stream.read_buf(into).await
}

async fn exactly(stream: &mut TcpStream, rest: &mut Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    if length > BODY_MAX {
        return Err(bad("the body is too long"));
    }
    while rest.len() < length {
        if more(stream, rest).await? == 0 {
            return Err(bad("half a body"));
        }
    }
    Ok(rest.drain(..length).collect())
}

async fn chunked(stream: &mut TcpStream, rest: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let at = loop {
            if let Some(at) = find(rest, b"\r\n") {
                break at;
            }
            if more(stream, rest).await? == 0 {
                return Err(bad("half a chunk"));
            }
        };
        let line: Vec<u8> = rest.drain(..at + 2).collect();
        let size = std::str::from_utf8(&line).unwrap_or_default();
        let size = size.trim().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| bad("the size of a chunk"))?;
        if body.len() + size > BODY_MAX {
            return Err(bad("the body is too long"));
        }
        let chunk = exactly(stream, rest, size + 2).await?;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Ok(body);
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The head of an answer. `length`: of the body; chunked if absent.
pub(super) fn head(status: u16, headers: &[(String, String)], length: Option<usize>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match length {
        Some(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
        None => head.push_str("transfer-encoding: chunked\r\n\r\n"),
    }
    head.into_bytes()
}

/// One chunk of a chunked body.
pub(super) fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// The end of a chunked body.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        429 => "Too Many Requests",
        529 => "Overloaded",
        400..=499 => "Client Error",
        _ => "Server Error",
    }
}
