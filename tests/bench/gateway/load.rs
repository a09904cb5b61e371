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
    path: String,
    model: String,
}

/// What the stand-in is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Plain,
    /// 17 events at once.
    Stream,
    /// An event every 50 ms on average, each stream in its own time.
    Slow,
    /// An event every 50 ms, all streams at the same moments.
    InStep,
}

impl Target {
    pub(crate) fn new(name: &str, address: SocketAddr, key: &str) -> Self {
        let (path, model) = ("/v1/chat/completions".to_owned(), "bench".to_owned());
        Self { name: name.to_owned(), address, key: key.to_owned(), path, model }
    }

    /// One that wants another path and model.
    pub(crate) fn asking(self, path: &str, model: &str) -> Self {
        Self { path: path.to_owned(), model: model.to_owned(), ..self }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn request(&self, wanted: Wanted) -> Vec<u8> {
        let options = if wanted != Wanted::Plain {
            ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"
        } else {
            ""
        };
        let user = match wanted {
            Wanted::Plain | Wanted::Stream => "hello",
            Wanted::Slow => "slowly",
            Wanted::InStep => "slowly, in step",
        };
        let body = format!(
            "{{\"model\":\"{}\",\"max_tokens\":64{options},\"messages\":[{{\"role\":\"system\",\"content\":\
             \"{}\"}},{{\"role\":\"user\",\"content\":\"{user}\"}}]}}",
            self.model,
            "You are a careful engineer. ".repeat(30)
        );
        format!(
            "POST {} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
             authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.path,
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
    wire.call(&target.request(Wanted::Plain)).await.is_some()
}

/// Calls on so many connections for so long; the first fifth is not counted.
pub(crate) async fn run(target: &Target, connections: usize, stream: bool, time: Duration) -> Cell {
    let request = target.request(if stream { Wanted::Stream } else { Wanted::Plain });
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

/// What slow streams delivered.
#[derive(Debug, Default)]
pub(crate) struct Slow {
    /// How late each event was, in microseconds.
    pub(crate) delays: Samples,
    /// Streams that did not begin, or ended early.
    pub(crate) failed: usize,
}

/// So many slow streams for so long. The first fifth is not counted.
pub(crate) async fn slow(target: &Target, streams: usize, wanted: Wanted, time: Duration) -> Slow {
    let request = target.request(wanted);
    let begun = Instant::now();
    let (from, to) = (begun + time / 5, begun + time);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..streams {
        let (target, request) = (target.clone(), request.clone());
        tasks.spawn(async move {
            let mut delays = Samples::default();
            let read = tokio::time::timeout_at(
                to.into(),
                listen(&target, &request, |delay| {
                    if Instant::now() >= from {
                        delays.add(delay);
                    }
                }),
            );
            // A stream that is still open at the end is as it should be.
            let failed = read.await.is_ok();
            (delays, failed)
        });
    }
    let mut all = Slow::default();
    while let Some(done) = tasks.join_next().await {
        let (delays, failed) = done.unwrap();
        all.failed += usize::from(failed || delays.is_empty());
        all.delays.extend(delays);
    }
    all
}

/// Reads a slow stream until it ends or fails.
async fn listen(target: &Target, request: &[u8], mut late: impl FnMut(f64)) {
    let Ok(mut wire) = Wire::open(target).await else { return };
    if wire.stream.write_all(request).await.is_err() {
        return;
    }
    while matches!(wire.stream.read_buf(&mut wire.read).await, Ok(count) if count > 0) {
        let now = monotonic_ns();
        let text = String::from_utf8_lossy(&wire.read);
        for sent in text.split("at=").skip(1) {
            let digits = sent.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            // A number that was cut by the end of a read is left out.
            if let (true, Ok(sent)) = (digits.len() < sent.len(), digits.parse::<i128>()) {
                late((now - sent) as f64 / 1000.0);
            }
        }
        wire.read.clear();
    }
}
