//! Following the output of an agent's step while it runs, for the supervisor that may end it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use flyball_core::model::AgentCut;

use crate::agent::Supervisor;

/// How often the output is looked at. What is decided by it takes seconds to minutes.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes read at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Most bytes read in one look, so that one agent's flood does not keep a thread from others.
const LOOK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An agent's supervisor, and how much of the output it has seen.
pub(super) struct Watch {
    supervisor: Supervisor,
    file: Option<File>,
    /// A clock that stands still while the machine does: an agent that was suspended has not stalled.
    began: Instant,
    chunk: Vec<u8>,
    seen: u64,
    bytes_max: u64,
    /// Says when a model call of the agent was under way last, if it is known.
    calls: Option<Calls>,
}

/// When a model call was under way last; `None`: never.
pub(super) type Calls = Box<dyn Fn() -> Option<Instant> + Send>;

impl Watch {
    /// Of an agent that begins now, and of whose output `bytes_max` are kept.
    pub(super) fn new(supervisor: Supervisor, bytes_max: u64, calls: Option<Calls>) -> Self {
        Self {
            supervisor,
            file: None,
            began: Instant::now(),
            chunk: vec![0; CHUNK_BYTES],
            seen: 0,
            bytes_max,
            calls,
        }
    }

    /// How much of the output is kept.
    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Returns when the agent is to be ended.
    pub(super) async fn until_cut(&mut self, output: &Path) -> AgentCut {
        loop {
            self.read(output, LOOK_BYTES_MAX);
            let now = self.began.elapsed();
            let called = self.calls.as_ref().and_then(|calls| calls());
            if let Some(called) = called {
                self.supervisor.on_sign(called.saturating_duration_since(self.began));
            }
            if let Some(cut) = self.supervisor.look(now) {
                return cut;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Reads the rest once the step has ended; `truncated` if some of it was dropped.
    pub(super) fn finish(mut self, output: &Path, truncated: bool) -> Supervisor {
        self.read(output, usize::MAX);
        if truncated {
            self.supervisor.on_blind();
        }
        self.supervisor
    }

    fn read(&mut self, output: &Path, bytes_max: usize) {
        if self.file.is_none() {
            // The guard's client has made it before the step began.
            self.file = File::open(output).ok();
        }
        let Some(file) = &mut self.file else { return };
        let mut left = bytes_max;
        while left > 0 {
            // A read error shows as nothing new; the step's end decides then.
            let length = file.read(&mut self.chunk).unwrap_or(0);
            if length == 0 {
                break;
            }
            self.supervisor.on_output(&self.chunk[..length], self.began.elapsed());
            self.seen += length as u64;
            left = left.saturating_sub(length);
        }
        if self.seen >= self.bytes_max {
            self.supervisor.on_blind();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flyball_core::model::AgentEnding;
    use flyball_core::score::ExitKind;

    use super::*;
    use crate::agent::Rules;

    fn watch(grace: Duration, bytes_max: u64) -> Watch {
        let rules = Rules { grace, stall: None };
        Watch::new(Supervisor::new(rules, "builtin"), bytes_max, None)
    }

    #[tokio::test]
    async fn an_agent_that_does_not_go_is_noticed_through_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut watch = watch(Duration::ZERO, 1000);
        let mut file = File::create(&path).unwrap();
        let (first, second) = br#"{"type":"ended","ok":true,"reason":"report"}"#.split_at(10);
        file.write_all(first).unwrap();
        watch.read(&path, usize::MAX);
        file.write_all(second).unwrap();
        file.write_all(b"\n").unwrap();
        assert!(matches!(watch.until_cut(&path).await, AgentCut::Hung(_)));
    }

    #[test]
    fn the_rest_is_read_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, "{\"type\":\"ended\",\"ok\":true,\"reason\":\"report\"}").unwrap();
        let seen = watch(Duration::ZERO, 1000).finish(&path, false);
        let end = seen.conclude(&ExitKind::Exited(0), None, None);
        assert_eq!(end.account.ending, AgentEnding::Finished);
    }

    #[test]
    fn a_file_that_is_full_tells_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let line = "{\"type\":\"ended\",\"ok\":true,\"reason\":\"report\"}\n";
        std::fs::write(&path, line).unwrap();
        let mut watch = watch(Duration::ZERO, line.len() as u64);
        watch.read(&path, usize::MAX);
        assert_eq!(watch.supervisor.look(Duration::from_secs(9)), None);
    }
}
