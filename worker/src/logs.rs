//! Output of agents and checks in bounded files of the node, and its streaming to clients.
//!
//! `<data>/logs/<loop uid>/<iteration>/<stream>.log`. A later worker of the same node serves what
//! an earlier one wrote.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flyball_proto::v1::{LogChunk, LogRequest, node_message::Message};

use crate::link::Link;

/// Most bytes kept of one stream of one iteration: enough for a full test run's output.
pub(crate) const STREAM_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Most bytes kept of what an agent says in one iteration: command line agents print every file that they read and
/// every result, and their end is seen by their last line.
pub(crate) const AGENT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Iterations whose output is kept per loop; older ones are removed.
const ITERATIONS_KEPT: usize = 50;
/// Most bytes kept per loop, but for the newest iteration; older ones are removed.
const LOOP_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes per message; small against the 4 MiB limit of a gRPC message.
const CHUNK_BYTES: usize = 64 * 1024;
/// How often a followed file is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(150);

/// The node's log directory.
#[derive(Debug, Clone)]
pub(crate) struct LogDir {
    root: PathBuf,
}

impl LogDir {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { root: data_dir.join("logs") }
    }

    fn loop_dir(&self, uid: &str) -> PathBuf {
        // Uids are made by schedulers; a separator in one would leave the directory.
        self.root.join(uid.replace(['/', '.'], "_"))
    }

    /// The file of a stream (`agent`, `check/<name>`), its directory made.
    pub(crate) fn file(&self, uid: &str, iteration: u32, stream: &str) -> std::io::Result<PathBuf> {
        let dir = self.loop_dir(uid).join(format!("{iteration:06}"));
        if !dir.exists() {
            std::fs::create_dir_all(&dir)?;
            self.prune(uid);
        }
        Ok(dir.join(format!("{}.log", stream.replace('/', "@"))))
    }

    /// Iterations of a loop that have output here, in order.
    fn iterations(&self, uid: &str) -> Vec<u32> {
        let entries = std::fs::read_dir(self.loop_dir(uid)).into_iter().flatten().flatten();
        let mut numbers: Vec<u32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Stream names of an iteration, checks in name order after the agent.
    fn streams(&self, uid: &str, iteration: u32) -> Vec<(String, PathBuf)> {
        let dir = self.loop_dir(uid).join(format!("{iteration:06}"));
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut streams: Vec<_> = entries
            .filter_map(|entry| {
                let name = entry.file_name().to_str()?.strip_suffix(".log")?.replace('@', "/");
                Some((name, entry.path()))
            })
            .collect();
        streams.sort();
        streams
    }

    fn prune(&self, uid: &str) {
        let numbers = self.iterations(uid);
        // From the newest, which has begun just now, back to where there are too many of them or of their bytes.
        let mut bytes = 0;
        let kept = numbers.iter().rev().take(ITERATIONS_KEPT).take_while(|number| {
            let streams = self.streams(uid, **number).into_iter();
            bytes += streams.filter_map(|(_, path)| Some(path.metadata().ok()?.len())).sum::<u64>();
            bytes <= LOOP_BYTES_MAX
        });
        let excess = numbers.len() - kept.count();
        for number in &numbers[..excess] {
            // Only output is lost if this fails, and only disk if it never succeeds.
            let _ = std::fs::remove_dir_all(self.loop_dir(uid).join(format!("{number:06}")));
        }
    }
}

/// Serves one request over the link until it is done, the client is gone or the stream is down.
/// `is_live` says whether the loop still runs here, so that following has an end.
pub(crate) async fn serve(
    logs: LogDir,
    link: Arc<Link>,
    request: LogRequest,
    is_live: impl Fn() -> bool,
) {
    let numbers = logs.iterations(&request.uid);
    let first =
        if request.iteration == 0 { numbers.last().copied() } else { Some(request.iteration) };
    let Some(first) = first.filter(|first| numbers.contains(first) || is_live()) else {
        let error = match request.iteration {
            0 => "there is no output yet".to_owned(),
            number => format!("no output of iteration {number} is kept on this node"),
        };
        link.send(Message::LogChunk(end(&request, error))).await;
        return;
    };
    let mut reader = Reader { logs, link, request, offsets: Vec::new(), tail_applied: false };
    let mut iteration = first;
    loop {
        // Asked before reading, so that what is written until the end is still sent.
        let live = is_live();
        if !reader.send_new(iteration).await {
            return;
        }
        let newer =
            reader.logs.iterations(&reader.request.uid).into_iter().find(|n| *n > iteration);
        match newer {
            Some(next) if reader.request.follow && reader.request.iteration == 0 => {
                reader.offsets.clear();
                iteration = next;
            }
            None if reader.request.follow && live => tokio::time::sleep(FOLLOW_INTERVAL).await,
            _ => break,
        }
    }
    let wanted = &reader.request.stream;
    let error = if wanted.is_empty() || reader.offsets.iter().any(|(name, _)| name == wanted) {
        String::new()
    } else {
        let names = reader.logs.streams(&reader.request.uid, iteration).into_iter();
        let names: Vec<String> = names.map(|(name, _)| name).collect();
        format!("iteration {iteration} has no stream {wanted:?}; it has {}", names.join(", "))
    };
    let last = end(&reader.request, error);
    reader.link.send(Message::LogChunk(last)).await;
}

fn end(request: &LogRequest, error: String) -> LogChunk {
    LogChunk { request: request.request, end: true, error, ..LogChunk::default() }
}

struct Reader {
    logs: LogDir,
    link: Arc<Link>,
    request: LogRequest,
    offsets: Vec<(String, u64)>,
    tail_applied: bool,
}

impl Reader {
    /// Sends what is new in every wanted stream; false when nobody can be reached.
    async fn send_new(&mut self, iteration: u32) -> bool {
        for (stream, path) in self.logs.streams(&self.request.uid, iteration) {
            if !self.request.stream.is_empty() && self.request.stream != stream {
                continue;
            }
            if !self.send_stream(iteration, &stream, &path).await {
                return false;
            }
        }
        self.tail_applied = true;
        true
    }

    async fn send_stream(&mut self, iteration: u32, stream: &str, path: &Path) -> bool {
        let known = self.offsets.iter().find(|(name, _)| name == stream).map(|(_, at)| *at);
        let mut offset = known.unwrap_or_else(|| self.first_offset(path));
        loop {
            let data = read_at(path, offset);
            if data.is_empty() {
                break;
            }
            offset += data.len() as u64;
            let chunk = LogChunk {
                request: self.request.request,
                stream: stream.to_owned(),
                data: data.into(),
                iteration,
                ..LogChunk::default()
            };
            if !self.link.send(Message::LogChunk(chunk)).await {
                return false;
            }
        }
        self.offsets.retain(|(name, _)| name != stream);
        self.offsets.push((stream.to_owned(), offset));
        true
    }

    fn first_offset(&self, path: &Path) -> u64 {
        let length = std::fs::metadata(path).map_or(0, |meta| meta.len());
        match self.request.tail_bytes {
            0 => 0,
            _ if self.tail_applied => 0,
            tail => length.saturating_sub(tail),
        }
    }
}

/// Up to one chunk from `offset`; empty at the end and when the file cannot be read.
fn read_at(path: &Path, offset: u64) -> Vec<u8> {
    let mut data = Vec::new();
    if let Ok(mut file) = std::fs::File::open(path)
        && file.seek(SeekFrom::Start(offset)).is_ok()
    {
        // A read error shows as an early end; the next look tries again.
        let _ = file.take(CHUNK_BYTES as u64).read_to_end(&mut data);
    }
    data
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn old_output_goes_by_number_and_by_size() {
        let dir = tempfile::tempdir().unwrap();
        let logs = LogDir::new(dir.path());
        let write = |number: u32, bytes: u64| {
            let path = logs.file("u", number, "agent").unwrap();
            // A hole takes no room, but counts.
            File::create(path).unwrap().set_len(bytes).unwrap();
        };
        for number in 1..=60 {
            write(number, 1);
        }
        assert_eq!(logs.iterations("u"), (11..=60).collect::<Vec<_>>());
        for number in 61..=63 {
            write(number, LOOP_BYTES_MAX / 2);
        }
        write(64, 0);
        assert_eq!(logs.iterations("u"), [62, 63, 64]);
        // However large it is, the newest stays.
        write(65, 3 * LOOP_BYTES_MAX);
        assert_eq!(logs.iterations("u"), [62, 63, 64, 65]);
        write(66, 0);
        assert_eq!(logs.iterations("u"), [66]);
    }
}
