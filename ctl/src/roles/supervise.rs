//! Child processes of `up` and `demo`: started, watched, restarted and ended.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin, Command};

/// Longest wait for a child to end by itself before it is killed.
const STOP_MAX: Duration = Duration::from_secs(25);

/// How a child is started.
#[derive(Debug, Clone)]
pub(super) struct ChildSpec {
    /// For messages and the name of its log file.
    pub(super) name: String,
    /// Arguments after the program.
    pub(super) args: Vec<String>,
}

/// A running child: this program in another role.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) spec: ChildSpec,
    child: Child,
    /// The child ends when this closes, also when we die.
    stdin: Option<ChildStdin>,
}

impl Role {
    /// Starts the child with its output in `<log dir>/<name>.log`.
    pub(super) fn start(spec: ChildSpec, log_dir: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let log = log_file(log_dir, &spec.name);
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = Command::new(program)
            .args(&spec.args)
            .arg("--until-stdin-closes")
            // What it shows is said in its arguments; this one is for whoever calls the scheduler.
            .env_remove("FLYBALL_IDENTITY")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file)
            // A Ctrl-C at the terminal is ours to handle, in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", spec.name))?;
        let stdin = child.stdin.take();
        Ok(Self { spec, child, stdin })
    }

    /// Its process id while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Returns when it has ended.
    pub(super) async fn wait(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// SIGKILL, as a crash would be.
    pub(super) async fn crash(&mut self) {
        // Killing a child that has just ended by itself is no error for anyone.
        let _ = self.child.kill().await;
    }

    /// Asks it to end and waits; kills it when it does not.
    pub(super) async fn stop(&mut self) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        self.stdin = None;
        if tokio::time::timeout(STOP_MAX, self.child.wait()).await.is_err() {
            self.crash().await;
        }
    }
}

/// Where a child's log is.
pub(super) fn log_file(log_dir: &Path, name: &str) -> PathBuf {
    log_dir.join(format!("{name}.log"))
}

/// The last lines of a child's log, for an error message.
pub(super) fn log_tail(log_dir: &Path, name: &str) -> String {
    const LINES: usize = 6;
    let text = std::fs::read_to_string(log_file(log_dir, name)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
