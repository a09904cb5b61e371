//! Running a command line with a bound on its time and on what is kept of its output.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Bytes kept of the beginning and of the end of an output, each. What is between is mostly repetition.
const KEPT_BYTES: usize = 8 * 1024;
/// How long the output of a command that has ended is waited for, should one of its children still hold it.
const DRAIN_MAX: Duration = Duration::from_millis(500);

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Both outputs, cut in the middle, and how it ended.
    pub(crate) text: String,
    /// Whether it ended with 0.
    pub(crate) ok: bool,
}

/// Runs `sh -c LINE`. When it has ended or its time is up, everything in its process group is killed.
pub(crate) fn run(line: &str, time_max: Duration) -> Ran {
    match start(line, time_max) {
        Ok(ran) => ran,
        Err(error) => Ran { text: format!("cannot run it: {error}"), ok: false },
    }
}

fn start(line: &str, time_max: Duration) -> std::io::Result<Ran> {
    // One pipe for both, so that they come in the order in which they were written.
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).stdin(Stdio::null());
    command.stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut child = command.spawn()?;
    // It holds the writing ends.
    drop(command);
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let kept = Arc::new(Mutex::new(Kept::default()));
    let (told, drained) = mpsc::channel();
    let shared = Arc::clone(&kept);
    // Left behind if something outside the group holds the pipe open; it ends with this process.
    std::thread::spawn(move || {
        drain(reader, &shared);
        let _ = told.send(());
    });
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait()));
    let (status, timed_out) = match end.recv_timeout(time_max) {
        Ok(status) => (Some(status?), false),
        Err(_) => (None, true),
    };
    // An error means that nothing of it is left.
    let _ = killpg(group, Signal::SIGKILL);
    let _ = drained.recv_timeout(DRAIN_MAX);
    let mut text = kept.lock().unwrap_or_else(PoisonError::into_inner).text();
    let how = match status {
        Some(status) => describe(status),
        None => format!("killed after {} s", time_max.as_secs()),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text += &format!("[{how}]");
    Ok(Ran { text, ok: !timed_out && status.is_some_and(|status| status.success()) })
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn drain(mut reader: impl Read, kept: &Mutex<Kept>) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(length) = reader.read(&mut chunk) {
        if length == 0 {
            return;
        }
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(&chunk[..length]);
    }
}

/// Beginning and end of an output.
#[derive(Debug, Default)]
struct Kept {
    head: Vec<u8>,
    tail: Vec<u8>,
    dropped: u64,
}

impl Kept {
    fn push(&mut self, bytes: &[u8]) {
        let room = KEPT_BYTES - self.head.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        self.tail.extend_from_slice(rest);
        // Not at each byte over the bound, which would move all of it each time.
        if self.tail.len() > 2 * KEPT_BYTES {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let over = self.tail.len().saturating_sub(KEPT_BYTES);
        self.tail.drain(..over);
        self.dropped += over as u64;
    }

    fn text(&mut self) -> String {
        self.trim();
        let head = String::from_utf8_lossy(&self.head);
        let tail = String::from_utf8_lossy(&self.tail);
        match self.dropped {
            0 => format!("{head}{tail}"),
            dropped => format!("{head}\n[{dropped} bytes left out]\n{tail}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn output_and_end_are_told() {
        let ran = run("echo out; echo err >&2; exit 3", LONG);
        assert_eq!(ran, Ran { text: "out\nerr\n[exit 3]".to_owned(), ok: false });
        assert_eq!(run("true", LONG), Ran { text: "[exit 0]".to_owned(), ok: true });
        assert_eq!(run("printf x; kill -9 $$", LONG).text, "x\n[signal 9]");
    }

    #[test]
    fn a_long_output_is_cut_in_the_middle() {
        let ran = run("echo begin; yes | head -c 3000000; echo end", LONG);
        assert!(ran.text.len() < 3 * KEPT_BYTES, "{}", ran.text.len());
        assert!(ran.text.starts_with("begin\ny\n") && ran.text.ends_with("end\n[exit 0]"));
        assert!(ran.text.contains(" bytes left out]"));
    }

    #[test]
    fn time_and_children_are_bounded() {
        let ran = run("echo one; sleep 1000", Duration::from_millis(200));
        assert_eq!((ran.text.as_str(), ran.ok), ("one\n[killed after 0 s]", false));
        // What it left behind holds the pipe, and is killed with its group.
        let ran = run("sleep 1000 & echo $!", LONG);
        let pid: i32 = ran.text.lines().next().unwrap().parse().unwrap();
        let gone = || nix::sys::signal::kill(Pid::from_raw(pid), None).is_err() || is_zombie(pid);
        let begun = std::time::Instant::now();
        while !gone() {
            assert!(begun.elapsed() < LONG, "{pid} is still there");
            std::thread::yield_now();
        }
    }

    fn is_zombie(pid: i32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        status.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
    }
}
