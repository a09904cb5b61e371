//! The load: clients by hand that keep their connections and call in a closed loop.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use flyball_tests::measure::{Samples, monotonic_ns};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Who is called.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: String,
    address: SocketAddr,
    key: String,
}

impl Target {
    pub(crate) fn new(name: &str, address: SocketAddr, key: &str) -> Self {
        Self { name: name.to_owned(), address, key: key.to_owned() }
    }

    fn request(&self, stream: bool, slow: bool) -> Vec<u8> {
        let options = if stream {
            ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"
        } else {
            ""
        };
        let user = if slow { "slowly" } else { "hello" };
        let body = format!(
            "{{\"model\":\"bench\",\"max_tokens\":64{options},\"messages\":[{{\"role\":\"system\",\"content\":\
             \"{}\"}},{{\"role\":\"user\",\"content\":\"{user}\"}}]}}",
            "You are a careful engineer. ".repeat(30)
        );
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
             authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.key,
            body.len()
        )
        .into_bytes()
    }
}

/// What one cell measured, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    pub(crate) whole: Samples,
    pub(crate) first: Samples,
    pub(crate) failed: usize,
    counted: Duration,
}

impl Cell {
    pub(crate) fn rate(&self) -> f64 {
        self.whole.len() as f64 / self.counted.as_secs_f64()
    }

    /// Calls of the whole cell, by what was counted of it.
    pub(crate) fn total(&self) -> usize {
        self.whole.len()
    }
}

/// A connection, and what was read of it.
struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    async fn open(target: &Target) -> std::io::Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(64 * 1024) })
    }

    /// One call; the time to its first byte, or nothing if it failed.
    async fn call(&mut self, request: &[u8]) -> Option<Duration> {
        let begun = Instant::now();
        self.read.clear();
        self.stream.write_all(request).await.ok()?;
        let mut first = None;
        loop {
            if self.stream.read_buf(&mut self.read).await.ok()? == 0 {
                return None;
            }
            first.get_or_insert_with(|| begun.elapsed());
            if is_whole(&self.read) {
                return first.filter(|_| self.read.starts_with(b"HTTP/1.1 200"));
            }
        }
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let text = std::str::from_utf8(&answer[..head]).unwrap_or_default();
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) => answer.len() >= head + 4 + length,
        None => answer.ends_with(b"\r\n0\r\n\r\n"),
    }
}

/// Whether a call is answered.
pub(crate) async fn answers(target: &Target) -> bool {
    let Ok(mut wire) = Wire::open(target).await else { return false };
    wire.call(&target.request(false, false)).await.is_some()
}

/// Calls on so many connections for so long; the first fifth is not counted.
pub(crate) async fn run(target: &Target, connections: usize, stream: bool, time: Duration) -> Cell {
    let request = target.request(stream, false);
    let begun = Instant::now();
    let (from, to) = (begun + time / 5, begun + time);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (target, request) = (target.clone(), request.clone());
        tasks.spawn(async move {
            let mut cell = Cell::default();
            let mut wire = Wire::open(&target).await.ok();
            while Instant::now() < to {
                let Some(open) = &mut wire else {
                    cell.failed += 1;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    wire = Wire::open(&target).await.ok();
                    continue;
                };
                let begun = Instant::now();
                match open.call(&request).await {
                    Some(first) if begun >= from => {
                        cell.whole.add(begun.elapsed().as_secs_f64() * 1e6);
                        cell.first.add(first.as_secs_f64() * 1e6);
                    }
                    Some(_) => {}
                    None => wire = None,
                }
            }
            cell
        });
    }
    let mut all = Cell { counted: to - from, ..Cell::default() };
    while let Some(cell) = tasks.join_next().await {
        let cell = cell.unwrap();
        all.whole.extend(cell.whole);
        all.first.extend(cell.first);
        all.failed += cell.failed;
    }
    all
}

/// So many slow streams for so long: how late each event was, in microseconds.
pub(crate) async fn slow(target: &Target, streams: usize, time: Duration) -> Samples {
    let request = target.request(true, true);
    let to = Instant::now() + time;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..streams {
        let (target, request) = (target.clone(), request.clone());
        tasks.spawn(async move {
            let mut delays = Samples::default();
            let mut wire = Wire::open(&target).await.unwrap();
            wire.stream.write_all(&request).await.unwrap();
            while Instant::now() < to {
                wire.read.clear();
                if wire.stream.read_buf(&mut wire.read).await.unwrap() == 0 {
                    break;
                }
                let now = monotonic_ns();
                let text = String::from_utf8_lossy(&wire.read);
                for sent in text.split("at=").skip(1) {
                    let digits: String = sent.chars().take_while(char::is_ascii_digit).collect();
                    // A number that was cut by the end of a read is left out.
                    if let (true, Ok(sent)) =
                        (digits.len() + 1 < sent.len(), digits.parse::<i128>())
                    {
                        delays.add((now - sent) as f64 / 1000.0);
                    }
                }
            }
            delays
        });
    }
    let mut all = Samples::default();
    while let Some(delays) = tasks.join_next().await {
        all.extend(delays.unwrap());
    }
    all
}
