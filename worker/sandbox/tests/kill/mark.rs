//! How the living are told from the dead, from outside and whatever namespace they are in: every
//! process of a run holds a named pipe open for writing, which the kernel ends with the last of them,
//! and has a variable in its environment that nobody else has.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Name of the pipe in the trial's directory.
pub(crate) const PIPE: &str = "lives";
/// Name of the variable; its value is the trial's directory, which is new for every trial.
pub(crate) const VARIABLE: &str = "FLYBALL_KILL_PROOF";

/// The reading end of the pipe.
pub(crate) struct Lives {
    pipe: File,
    said: String,
}

impl Lives {
    /// Makes the pipe.
    pub(crate) fn make(dir: &Path) -> Self {
        nix::unistd::mkfifo(&dir.join(PIPE), nix::sys::stat::Mode::S_IRWXU).unwrap();
        Self::open(dir)
    }

    /// Another reading end.
    pub(crate) fn open(dir: &Path) -> Self {
        Self::try_open(dir).unwrap()
    }

    /// The same, also after the trial.
    pub(crate) fn try_open(dir: &Path) -> std::io::Result<Self> {
        let mut options = File::options();
        let pipe = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(dir.join(PIPE))?;
        Ok(Self { pipe, said: String::new() })
    }

    /// Waits until all these words were written; false if they were not in time.
    pub(crate) fn wait_for(&mut self, words: &[&str], bound: Duration) -> bool {
        let give_up = Instant::now() + bound;
        loop {
            let ended = self.read();
            if words.iter().all(|word| self.said.contains(word)) {
                return true;
            }
            if Instant::now() >= give_up {
                return false;
            }
            if ended {
                // Nobody has opened it yet, which cannot be waited for.
                std::thread::sleep(Duration::from_millis(2));
            } else {
                self.poll(Duration::from_millis(50));
            }
        }
    }

    /// Whether nobody is left.
    pub(crate) fn are_over(&mut self) -> bool {
        self.read()
    }

    /// Waits until nobody is left; false if somebody still is.
    pub(crate) fn wait_for_none(&mut self, bound: Duration) -> bool {
        let give_up = Instant::now() + bound;
        while !self.read() {
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.poll(left);
        }
        true
    }

    fn poll(&self, bound: Duration) {
        let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::try_from(bound).unwrap_or(PollTimeout::MAX));
    }

    /// Reads what is there; true at the end, when nobody has the other side.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 256];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return true,
                Ok(length) => self.said.push_str(&String::from_utf8_lossy(&buffer[..length])),
                Err(_) => return false,
            }
        }
    }
}

/// Processes with the trial's variable in their environment. Dead ones that wait for their parent
/// have none any more.
pub(crate) fn marked(dir: &Path) -> Vec<String> {
    let mark = format!("{VARIABLE}={}", dir.display());
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .collect()
}
