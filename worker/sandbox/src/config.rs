//! What the worker says to start a guard and a step, and what can go wrong.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::abilities::Isolation;
use crate::confine::Confinement;
use crate::lock::StateLockError;
use crate::wire::FRAME_BYTES_MAX;

/// Output that a step may keep if its spec says nothing: enough for the longest test log that
/// anybody reads, little enough for hundreds of iterations on a laptop.
pub const OUTPUT_BYTES_DEFAULT: u64 = 4 * 1024 * 1024;

/// Most bytes on a step's standard input: what command line agents take at most there (10 MB).
pub const STDIN_BYTES_MAX: usize = 10 * 1000 * 1000;

/// Longest time from a deadline until everything must be dead, if nothing else is said.
pub const KILL_BUDGET_DEFAULT: Duration = Duration::from_millis(500);

/// How to start a guard.
#[derive(Debug, Clone)]
pub struct GuardConfig {
    /// The program that calls [`crate::guard_main`], with its arguments, e.g.
    /// `["/usr/bin/flyball", "guard"]`. Must be of the same build as the caller.
    pub command: Vec<String>,
    /// Directory that at most one worker uses; see [`crate::acquire_state_dir`].
    pub state_dir: PathBuf,
    /// Longest time from the deadline until everything must be dead; the guard's own patience with
    /// a step init is a fifth of it.
    pub kill_budget: Duration,
    /// Longest wait for an earlier worker's guard to be through.
    pub lock_timeout: Duration,
    /// What may be used to contain steps.
    pub isolation: Isolation,
}

impl GuardConfig {
    /// With [`KILL_BUDGET_DEFAULT`], a lock timeout of 10 s and everything the host allows.
    pub fn new(command: Vec<String>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            command,
            state_dir: state_dir.into(),
            kill_budget: KILL_BUDGET_DEFAULT,
            lock_timeout: Duration::from_secs(10),
            isolation: Isolation::default(),
        }
    }
}

/// Why a guard could not be started. Only [`GuardError::Lock`] with a held lock is worth a retry.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The state directory is not free.
    #[error(transparent)]
    Lock(#[from] StateLockError),
    /// The program could not be started, or what it needs could not be made.
    #[error("cannot start the guard: {what}: {source}")]
    Start {
        /// What failed.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The guard started and said that it cannot work.
    #[error("the guard cannot work on this host: {0}")]
    Unable(String),
    /// The guard did not become ready.
    #[error("the guard did not become ready: {0}")]
    NotReady(String),
}

/// What a guard does after its worker is gone, or after the deadline, once nothing is left: it becomes
/// another role of the same program, by exec.
#[derive(Clone)]
pub struct Reporter {
    /// The arguments, e.g. `["report-gone"]`; for everybody to see.
    pub arguments: Vec<String>,
    /// What it finds on its standard input. Kept in sealed memory that no other process can open, so
    /// it may hold a credential.
    pub note: Vec<u8>,
}

/// Why a guard is no more. Everything it had started is dead, or dying without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the guard is gone: {reason}")]
pub struct GuardLoss {
    /// In words.
    pub reason: String,
    /// The guard said itself that nothing it started is left.
    pub proven: bool,
}

/// A command to run.
#[derive(Debug, Clone)]
pub struct Step {
    /// Program and arguments. A program without a slash is looked for in the PATH of `env`.
    pub argv: Vec<String>,
    /// Working directory; absolute.
    pub cwd: PathBuf,
    /// The whole environment; nothing else is inherited.
    pub env: Vec<(String, String)>,
    /// What stands on its standard input, which ends behind it; `None`: nothing, the null device. At most
    /// [`STDIN_BYTES_MAX`].
    pub stdin: Option<Vec<u8>>,
    /// File for standard output and error together; made or emptied.
    pub output: PathBuf,
    /// Most bytes kept in it; what comes after is read and dropped.
    pub output_bytes_max: u64,
    /// Longest run time, counted while the machine is suspended too.
    pub timeout: Duration,
    /// What it is, for logs.
    pub label: String,
    /// What it may see, touch and take. `None`: it is contained, but not confined; for commands that
    /// nobody but us has written.
    pub confinement: Option<Confinement>,
}

/// Why a step was not handed to the guard; nothing of it ran.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No deadline was set yet. Retryable after the first [`crate::Extender::extend`].
    #[error("no deadline was set yet: without a lease nothing may run")]
    NoDeadline,
    /// The deadline has passed. Never retryable with this guard.
    #[error("the deadline has passed: nothing may run under this guard again")]
    DeadlinePassed,
    /// The guard is gone. Never retryable with this guard.
    #[error(transparent)]
    Lost(#[from] GuardLoss),
    /// Arguments and environment are too large. Not retryable.
    #[error("the command with its environment takes {bytes} bytes, more than {limit}")]
    TooLarge {
        /// What it takes.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// The step itself is invalid. Not retryable.
    #[error("invalid step: {0}")]
    Invalid(&'static str),
    /// Too many steps at a time, or the guard is slow. Retryable.
    #[error("the guard is busy: {0}")]
    Busy(&'static str),
    /// The output file could not be made: a fault of this host. Retryable.
    #[error("cannot make the output file {path}: {source}")]
    Output {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Step {
    /// Finds what can be found without the guard.
    pub(crate) fn check(&self) -> Result<(), SpawnError> {
        let env = self.env.iter().flat_map(|(key, value)| [key, value]);
        let bytes: usize = self.argv.iter().chain(env).map(String::len).sum();
        if bytes > FRAME_BYTES_MAX {
            return Err(SpawnError::TooLarge { bytes, limit: FRAME_BYTES_MAX });
        }
        if self.stdin.as_ref().is_some_and(|text| text.len() > STDIN_BYTES_MAX) {
            return Err(SpawnError::Invalid("more than 10 MB on the standard input"));
        }
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(SpawnError::Invalid("the command is empty"));
        }
        if !self.cwd.is_absolute() || self.cwd.to_str().is_none() {
            return Err(SpawnError::Invalid(
                "the working directory must be an absolute UTF-8 path",
            ));
        }
        let mut texts =
            self.argv.iter().chain(self.env.iter().flat_map(|(key, value)| [key, value]));
        if texts.any(|text| text.contains('\0')) {
            return Err(SpawnError::Invalid("a NUL character in the command or its environment"));
        }
        if self.env.iter().any(|(key, _)| key.is_empty() || key.contains('=')) {
            return Err(SpawnError::Invalid("an environment variable with an impossible name"));
        }
        Ok(())
    }
}
