//! Output of agents and checks in bounded files of the node, and its streaming to clients: always that of one run,
//! by its token. A later worker of the same node serves what an earlier one wrote.

mod dir;

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flyball_core::ids::Token;
use flyball_proto::v1::{LogChunk, LogRequest, node_message::Message};

pub(crate) use self::dir::LogDir;
use self::dir::Part;
use crate::link::Link;

/// Most bytes kept of one stream of one iteration: enough for a full test run's output.
pub(crate) const STREAM_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Most bytes kept of what an agent says in one iteration: command line agents print every file that they read and
/// every result, and their end is seen by their last line.
pub(crate) const AGENT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Bytes per message; small against the 4 MiB limit of a gRPC message.
const CHUNK_BYTES: usize = 64 * 1024;
/// How often a followed file is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(150);

/// Most runs that an error names; more than are kept of one iteration.
const NAMED_MAX: usize = 8;

/// Serves one request over the link until it is done, the client is gone or the stream is down.
/// `live` says which run of the loop goes on here, so that following has an end.
pub(crate) async fn serve(
    logs: LogDir,
    link: Arc<Link>,
    request: LogRequest,
    live: impl Fn() -> Option<Token>,
) {
    let part = match choose(&logs, &request, live()) {
        Ok(part) => part,
        Err(error) => {
            link.send(Message::LogChunk(end(&request, error))).await;
            return;
        }
    };
    let mut reader = Reader { logs, link, request, part, offsets: Vec::new(), tail_applied: false };
    loop {
        // Asked before reading, so that what is written until the end is still sent.
        let is_live = live() == Some(reader.part.token);
        if !reader.send_new().await {
            return;
        }
        match reader.newer() {
            Some(next) if reader.request.follow && reader.request.iteration == 0 => {
                reader.offsets.clear();
                reader.part = next;
            }
            None if reader.request.follow && is_live => tokio::time::sleep(FOLLOW_INTERVAL).await,
            _ => break,
        }
    }
    let error = reader.missing_stream();
    let last = end(&reader.request, error);
    reader.link.send(Message::LogChunk(last)).await;
}

/// Which run's output of which iteration is meant, or why there is none.
fn choose(logs: &LogDir, request: &LogRequest, live: Option<Token>) -> Result<Part, String> {
    let parts = logs.parts(&request.uid);
    let (token, iteration) = (request.token.map(Token), request.iteration);
    let of = |token: Token| Part { token, iteration };
    let found = match token {
        None if iteration == 0 => parts.last().copied(),
        None => {
            let recorded = parts.iter().rev().filter(|part| part.iteration == iteration);
            let recorded = recorded.copied().find(|part| logs.is_recorded(&request.uid, *part));
            // Not recorded: under way here, or from a version that did not say so.
            let others = [live.map(of), Some(of(Token(0)))].into_iter().flatten();
            recorded.or_else(|| others.into_iter().find(|part| parts.contains(part)))
        }
        Some(token) if iteration == 0 => parts.iter().rfind(|part| part.token == token).copied(),
        // An iteration that is still to come can be waited for.
        Some(token) if request.follow && live == Some(token) => Some(of(token)),
        Some(token) => Some(of(token)).filter(|part| parts.contains(part)),
    };
    found.ok_or_else(|| nothing(token, iteration, &parts))
}

/// Says what there is instead.
fn nothing(token: Option<Token>, iteration: u32, parts: &[Part]) -> String {
    let wanted = match (token, iteration) {
        (None, 0) => "there is no output yet".to_owned(),
        (None, number) => format!("no run is known here to have finished iteration {number}"),
        (Some(token), 0) => format!("there is no output of token {token} on this node"),
        (Some(token), number) => {
            format!("no output of iteration {number} by token {token} is kept on this node")
        }
    };
    let there = parts.iter().filter(|part| iteration == 0 || part.iteration == iteration);
    let mut tokens: Vec<Token> = there.map(|part| part.token).collect();
    tokens.dedup();
    let tokens: Vec<String> = tokens.iter().rev().take(NAMED_MAX).map(Token::to_string).collect();
    match &tokens[..] {
        [] => wanted,
        [one] => format!("{wanted}; there is that of token {one} (--token {one})"),
        many => format!("{wanted}; there is that of tokens {} (--token N)", many.join(", ")),
    }
}

fn end(request: &LogRequest, error: String) -> LogChunk {
    LogChunk { request: request.request, end: true, error, ..LogChunk::default() }
}

struct Reader {
    logs: LogDir,
    link: Arc<Link>,
    request: LogRequest,
    part: Part,
    offsets: Vec<(String, u64)>,
    tail_applied: bool,
}

impl Reader {
    /// The run's next iteration.
    fn newer(&self) -> Option<Part> {
        let parts = self.logs.parts(&self.request.uid).into_iter();
        parts.filter(|part| part.token == self.part.token).find(|part| *part > self.part)
    }

    /// Empty if the wanted stream was there.
    fn missing_stream(&self) -> String {
        let wanted = &self.request.stream;
        if wanted.is_empty() || self.offsets.iter().any(|(name, _)| name == wanted) {
            return String::new();
        }
        let names = self.logs.streams(&self.request.uid, self.part).into_iter();
        let names: Vec<String> = names.map(|(name, _)| name).collect();
        let iteration = self.part.iteration;
        format!("iteration {iteration} has no stream {wanted:?}; it has {}", names.join(", "))
    }

    /// Sends what is new in every wanted stream; false when nobody can be reached.
    async fn send_new(&mut self) -> bool {
        for (stream, path) in self.logs.streams(&self.request.uid, self.part) {
            if !self.request.stream.is_empty() && self.request.stream != stream {
                continue;
            }
            if !self.send_stream(&stream, &path).await {
                return false;
            }
        }
        self.tail_applied = true;
        true
    }

    async fn send_stream(&mut self, stream: &str, path: &Path) -> bool {
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
                iteration: self.part.iteration,
                token: self.part.token.0,
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
    use super::*;
    use crate::link::RunId;

    fn asked(token: Option<i64>, iteration: u32) -> LogRequest {
        LogRequest { uid: "u".to_owned(), token, iteration, ..LogRequest::default() }
    }

    fn part(token: i64, iteration: u32) -> Part {
        Part { token: Token(token), iteration }
    }

    /// Iterations 1 and 2 are recorded of the run with token 7, which was lost in the third; the one with token 12
    /// goes on from there. It measured the checkpoint first, which counts as the second iteration's.
    fn taken_over(dir: &Path) -> LogDir {
        let logs = LogDir::new(dir);
        let write = |token: i64, iteration, recorded: bool| {
            let key = flyball_core::ids::LoopKey::new("default", "a");
            let run = RunId { key, uid: "u".into(), token: Token(token) };
            std::fs::write(logs.file(&run, iteration, "agent").unwrap(), "x").unwrap();
            if recorded {
                logs.on_recorded(&run, iteration);
            }
        };
        write(7, 1, true);
        write(7, 2, true);
        write(7, 3, false);
        write(12, 2, false);
        write(12, 3, false);
        logs
    }

    #[test]
    fn output_is_that_of_the_run_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let logs = taken_over(dir.path());
        let chosen = |token, iteration| choose(&logs, &asked(token, iteration), Some(Token(12)));
        assert_eq!(chosen(Some(12), 3), Ok(part(12, 3)));
        assert_eq!(chosen(Some(7), 3), Ok(part(7, 3)));
        assert_eq!(chosen(Some(7), 0), Ok(part(7, 3)));
        assert_eq!(chosen(Some(12), 0), Ok(part(12, 3)));
        // One that is not there is no other's.
        let error = chosen(Some(12), 1).unwrap_err();
        assert_eq!(
            error,
            "no output of iteration 1 by token 12 is kept on this node; there is that of token 7 (--token 7)"
        );
        let error = chosen(Some(9), 0).unwrap_err();
        assert_eq!(
            error,
            "there is no output of token 9 on this node; there is that of tokens 12, 7 (--token N)"
        );
        assert!(chosen(Some(0), 3).is_err(), "nothing is from an earlier version");
        let waited = LogRequest { follow: true, ..asked(Some(12), 4) };
        assert_eq!(choose(&logs, &waited, Some(Token(12))), Ok(part(12, 4)));
        assert!(choose(&logs, &waited, Some(Token(13))).is_err());
    }

    #[test]
    fn without_a_token_it_is_that_of_the_run_that_recorded_the_iteration() {
        let dir = tempfile::tempdir().unwrap();
        let logs = taken_over(dir.path());
        let chosen =
            |iteration, live: Option<i64>| choose(&logs, &asked(None, iteration), live.map(Token));
        assert_eq!(chosen(2, None), Ok(part(7, 2)));
        assert_eq!(chosen(3, Some(12)), Ok(part(12, 3)));
        assert_eq!(
            chosen(3, None).unwrap_err(),
            "no run is known here to have finished iteration 3; there is that of tokens 12, 7 (--token N)"
        );
        assert_eq!(chosen(0, None), Ok(part(12, 3)));
        // From a version that knew no tokens.
        let old = dir.path().join("logs/u/000004");
        std::fs::create_dir_all(&old).unwrap();
        std::fs::write(old.join("agent.log"), "old").unwrap();
        assert_eq!(chosen(4, Some(12)), Ok(part(0, 4)));
        assert_eq!(choose(&logs, &asked(Some(0), 0), None), Ok(part(0, 4)));
        assert_eq!(chosen(0, None), Ok(part(12, 3)), "newer runs are known");
    }
}
