//! The output of a step: one pipe for both streams, copied into a file up to a bound, read on and
//! dropped after it, so that a flood does not fill the disk. It is read no faster than a step may write: one that
//! writes faster finds the pipe full and waits, and takes nobody's processor but its own.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use flyball_core::redact::Redactor;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read};

use super::pace::{CHUNK_BYTES, Pace};

/// The reading end and the file.
pub(super) struct Output {
    pipe: Option<OwnedFd>,
    file: File,
    /// Bytes read.
    seen: u64,
    kept: u64,
    limit: u64,
    truncated: bool,
    trouble: Option<io::Error>,
    chunk: Vec<u8>,
    /// Takes secrets out before anything is written.
    redactor: Redactor,
    pace: Pace,
}

impl Output {
    /// An output that keeps at most `limit` bytes in `file`, and the end for the command.
    pub(super) fn new(
        file: File,
        limit: u64,
        redactor: Redactor,
        pace: Pace,
    ) -> nix::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        // Of the reading end only: the command must find an ordinary blocking pipe.
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let output = Self {
            pipe: Some(reader),
            file,
            seen: 0,
            kept: 0,
            limit,
            truncated: false,
            trouble: None,
            chunk: vec![0; CHUNK_BYTES],
            redactor,
            pace,
        };
        Ok((output, writer))
    }

    /// The end to wait on; none once all writers are gone.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// How long nothing is to be read, as the step writes faster than it may; none: what is there can be read.
    pub(super) fn pause(&mut self, now: Instant) -> Option<Duration> {
        self.pipe.as_ref()?;
        self.pace.pause(now)
    }

    /// Takes what is there and may be taken by now, one chunk at most; false when there is nothing.
    pub(super) fn on_readable(&mut self, now: Instant) -> bool {
        let most = self.pace.room(now).min(self.chunk.len());
        let before = self.seen;
        let more = most > 0 && self.take(most);
        self.pace.took(self.seen - before);
        more
    }

    /// Takes what is there, up to `most` bytes; false when there is nothing.
    fn take(&mut self, most: usize) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        match read(pipe, &mut self.chunk[..most]) {
            Ok(0) => {
                self.close();
                false
            }
            Ok(length) => {
                self.seen += length as u64;
                let clean = self.redactor.push(&self.chunk[..length]);
                self.keep(&clean);
                true
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => false,
            Err(_) => {
                self.close();
                false
            }
        }
    }

    /// Nothing more comes: what was held back as the beginning of a secret was none.
    fn close(&mut self) {
        self.pipe = None;
        let rest = self.redactor.finish();
        self.keep(&rest);
    }

    fn keep(&mut self, clean: &[u8]) {
        let length = clean.len();
        let room = usize::try_from(self.limit - self.kept).unwrap_or(usize::MAX);
        let take = if self.trouble.is_some() { 0 } else { length.min(room) };
        self.truncated |= take < length;
        match self.file.write_all(&clean[..take]) {
            Ok(()) => self.kept += take as u64,
            Err(error) => {
                self.truncated = true;
                self.trouble = Some(error);
            }
        }
    }

    /// Takes the rest after all writers of the step are dead. Does not wait: somebody outside the
    /// step who was handed the pipe may hold it open for ever.
    pub(super) fn drain(&mut self) {
        // What a pipe can hold at its largest for an ordinary user, with room to spare.
        for _ in 0..1024 {
            if !self.take(CHUNK_BYTES) {
                break;
            }
        }
        self.close();
    }

    /// Bytes in the file.
    pub(super) fn kept(&self) -> u64 {
        self.kept
    }

    /// Whether bytes were dropped.
    pub(super) fn truncated(&self) -> bool {
        self.truncated
    }

    /// Why the file could not be written, or nothing.
    pub(super) fn trouble(&self) -> String {
        self.trouble.as_ref().map(|error| format!("output file: {error}")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use flyball_core::redact::Patterns;

    use super::*;

    fn unbounded() -> Pace {
        Pace::new(None, Instant::now())
    }

    /// Writes without waiting until the pipe is full; how many bytes went in.
    fn fill(writer: &mut File) -> u64 {
        let mut written = 0;
        while let Ok(length) = writer.write(&[b'x'; 4096]) {
            written += length as u64;
        }
        written
    }

    #[test]
    fn a_flood_is_held_back_by_its_own_pipe() {
        const RATE: u64 = 1024 * 1024;
        let file = tempfile::tempfile().unwrap();
        let none = Redactor::new(Patterns::default());
        let begin = Instant::now();
        let made = Output::new(file, u64::MAX, none, Pace::new(Some(RATE), begin));
        let (mut output, writer) = made.unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut writer = File::from(writer);
        let may = RATE * 10 + Pace::burst(RATE);
        let mut written = 0;
        // Ten seconds of a clock that this test has; the writer never stops for anything but the pipe.
        for millis in 0..10_000_u64 {
            let now = begin + Duration::from_millis(millis);
            written += fill(&mut writer);
            while output.pause(now).is_none() && output.on_readable(now) {
                assert!(output.seen <= may, "after {millis} ms: {}", output.seen);
                written += fill(&mut writer);
            }
        }
        // What it may, but for the last chunk; and no more was written than was read and fits the pipe.
        assert!((may - 2 * CHUNK_BYTES as u64..=may).contains(&output.seen), "{}", output.seen);
        assert!(written <= may + CHUNK_BYTES as u64, "{written}");
        // Without a bound the same writer would have gone on for ever.
        output.pace = unbounded();
        for _ in 0..1000 {
            assert!(output.on_readable(begin));
            written += fill(&mut writer);
        }
        assert!(written > may + 500 * CHUNK_BYTES as u64 / 2, "{written}");
    }

    #[test]
    fn a_secret_never_reaches_the_file_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let patterns = Patterns::of([("token", &b"hunter2-hunter2"[..])]);
        let file = File::create(&path).unwrap();
        let (mut output, writer) =
            Output::new(file, 1000, Redactor::new(patterns), unbounded()).unwrap();
        let mut writer = File::from(writer);
        for byte in b"a hunter2-hunter2 b hunter2-hun" {
            writer.write_all(&[*byte]).unwrap();
            output.on_readable(Instant::now());
            assert!(!String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains("hunter2-h"));
        }
        drop(writer);
        output.drain();
        assert_eq!(std::fs::read(&path).unwrap(), b"a [redacted:token] b hunter2-hun");
    }

    #[test]
    fn keeps_up_to_the_limit_and_reads_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let none = Redactor::new(Patterns::default());
        let (mut output, writer) =
            Output::new(File::create(&path).unwrap(), 10, none, unbounded()).unwrap();
        let mut writer = File::from(writer);
        assert!(!output.on_readable(Instant::now()));
        writer.write_all(b"1234567").unwrap();
        assert!(output.on_readable(Instant::now()));
        assert!(!output.truncated());
        writer.write_all(b"89abcdef").unwrap();
        output.on_readable(Instant::now());
        writer.write_all(&vec![b'x'; 60_000]).unwrap();
        output.drain();
        assert!(output.pipe().is_none());
        assert_eq!((output.kept(), output.truncated()), (10, true));
        assert_eq!(std::fs::read(&path).unwrap(), b"123456789a");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_said() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let none = Redactor::new(Patterns::default());
        let (mut output, writer) = Output::new(full, 10, none, unbounded()).unwrap();
        File::from(writer).write_all(b"1").unwrap();
        output.drain();
        assert!(output.truncated());
        assert!(output.trouble().contains("output file"));
    }
}
