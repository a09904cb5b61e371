//! The one place that starts git. Every call has a cleared environment, a configuration that no
//! repository can extend with programs, a time limit and bounded output.
//!
//! The repository is hostile input. Programs that git may start by itself are named in
//! configuration (hooks, filters, text conversion, diff and merge drivers, fsmonitor, ssh
//! command, credential helpers) and configuration is read from these places only: the system
//! and user files (switched off), `-c` (ours) and the `config` of the GIT_DIR, which is a private
//! directory written by this module. `.gitattributes` can only name drivers; none is configured.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{AccessFlags, Pid, access};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::error::{GitError, message_of};
use super::oid::Oid;

/// Name of author and committer of every commit that Flyball makes.
pub const IDENTITY_NAME: &str = "Flyball";
/// Mail address of author and committer; deliberately not one that anybody can receive.
pub const IDENTITY_EMAIL: &str = "flyball@localhost";

/// Most bytes kept of stderr: enough for any message, while a hostile server may send for ever.
const STDERR_BYTES_MAX: usize = 64 * 1024;
/// Default bound of stdout: object ids and short lists. Calls that list paths raise it.
const STDOUT_BYTES_MAX: usize = 1024 * 1024;

/// Passed to every call; the repository's own configuration cannot override `-c`.
const CONFIG: &[&str] = &[
    "core.fsmonitor=false",
    "core.symlinks=true",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.quotePath=false",
    "core.sparseCheckout=false",
    "core.splitIndex=false",
    "credential.helper=",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "push.gpgSign=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.unpackLimit=1",
    "protocol.version=2",
    "advice.detachedHead=false",
    "merge.directoryRenames=false",
];

/// Where git runs and within which limits.
#[derive(Debug, Clone)]
pub struct GitSettings {
    /// The program; `git` is looked up in `PATH`.
    pub program: PathBuf,
    /// An empty directory of the worker: the `HOME` of git and of what it starts (ssh).
    pub home: PathBuf,
    /// `GIT_SSH_COMMAND`; without one ssh never asks (`-oBatchMode=yes`).
    pub ssh_command: Option<String>,
    /// Further environment for reaching remotes: proxies, `SSH_AUTH_SOCK`, `GIT_SSL_CAINFO`.
    pub extra_env: Vec<(String, String)>,
    /// Longest time of a call that touches only this machine's private directories.
    pub local_timeout: Duration,
    /// Longest time of a call that talks to a remote.
    pub network_timeout: Duration,
    /// Hooks are off. Tests set this to stop a push between advertisement and send.
    #[doc(hidden)]
    pub hooks_path: Option<PathBuf>,
}

impl GitSettings {
    /// Defaults: git from `PATH`, five minutes locally (a first checkout of a large tree), ten
    /// minutes to a remote (a first fetch).
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            program: PathBuf::from("git"),
            home: home.into(),
            ssh_command: None,
            extra_env: Vec::new(),
            local_timeout: Duration::from_secs(300),
            network_timeout: Duration::from_secs(600),
            hooks_path: None,
        }
    }
}

/// Starts git. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Git {
    settings: Arc<GitSettings>,
}

impl Git {
    /// A runner with these settings; makes its empty home directory.
    ///
    /// # Errors
    /// [`GitError::Local`] if the home directory cannot be made.
    pub fn new(mut settings: GitSettings) -> Result<Self, GitError> {
        settings.program = located(settings.program, std::env::var_os("PATH").as_deref());
        std::fs::create_dir_all(&settings.home)
            .map_err(|error| GitError::local("create home", error))?;
        Ok(Self { settings: Arc::new(settings) })
    }

    /// True when hooks run, which only tests ask for.
    pub(super) fn runs_hooks(&self) -> bool {
        self.settings.hooks_path.is_some()
    }

    pub(super) fn call<I, S>(&self, git_dir: &Path, args: I) -> Call<'_>
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        Call {
            git: self,
            git_dir: git_dir.to_owned(),
            args: args.into_iter().map(Into::into).collect(),
            work_tree: None,
            env: Vec::new(),
            stdin: Vec::new(),
            timeout: self.settings.local_timeout,
            stdout_bytes_max: STDOUT_BYTES_MAX,
        }
    }
}

/// Where a program of the search path is. By its path it is started without a copy of this process, which of a worker with
/// much memory takes longer than many a call of git. One that is not there is looked for again at each start.
fn located(program: PathBuf, path: Option<&OsStr>) -> PathBuf {
    if program.components().count() != 1 {
        return program;
    }
    let places = path.map(std::env::split_paths).into_iter().flatten();
    let mut found = places.filter(|place| place.is_absolute()).map(|place| place.join(&program));
    found
        .find(|place| access(place, AccessFlags::X_OK).is_ok() && place.is_file())
        .unwrap_or(program)
}

/// One call of git, to be completed and run.
#[derive(Debug)]
pub(super) struct Call<'a> {
    git: &'a Git,
    git_dir: PathBuf,
    args: Vec<OsString>,
    work_tree: Option<PathBuf>,
    env: Vec<(&'static str, OsString)>,
    stdin: Vec<u8>,
    timeout: Duration,
    stdout_bytes_max: usize,
}

/// What a git process left behind.
#[derive(Debug)]
pub(super) struct Output {
    /// Exit code; `None` if a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Output {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Call<'_> {
    /// Adds an argument.
    pub(super) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Works on this worktree with this index; the process stands in the worktree.
    pub(super) fn work_tree(mut self, path: &Path, index: &Path) -> Self {
        self.work_tree = Some(path.to_owned());
        self.index(index)
    }

    /// Works on this index.
    pub(super) fn index(self, index: &Path) -> Self {
        self.env("GIT_INDEX_FILE", index)
    }

    pub(super) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    pub(super) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Talks to a remote: the longer time limit applies.
    pub(super) fn network(mut self) -> Self {
        self.timeout = self.git.settings.network_timeout;
        self
    }

    pub(super) fn stdout_bytes_max(mut self, bytes: usize) -> Self {
        self.stdout_bytes_max = bytes;
        self
    }

    /// Runs it; a non-zero exit is an error.
    pub(super) async fn ok(self) -> Result<Output, GitError> {
        let operation = self.operation();
        let output = self.output().await?;
        if output.code == Some(0) {
            Ok(output)
        } else {
            Err(GitError::local(operation, message_of(&output.stderr)))
        }
    }

    /// Runs it and reads one object id from its output.
    pub(super) async fn oid(self) -> Result<Oid, GitError> {
        self.ok().await?.text().trim().parse()
    }

    fn operation(&self) -> String {
        self.args.first().map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Runs it, whatever its exit code.
    ///
    /// # Errors
    /// `Local` if it cannot be started, `TimedOut`, `TooLarge`.
    pub(super) async fn output(self) -> Result<Output, GitError> {
        let operation = self.operation();
        let started = Instant::now();
        let mut command = self.command();
        let child = command.spawn().map_err(|error| GitError::local(&*operation, error))?;
        let mut running = Running { child };
        let talk = running.talk(&self.stdin, self.stdout_bytes_max);
        let output = match tokio::time::timeout(self.timeout, talk).await {
            Ok(Ok(Some(output))) => output,
            Ok(Ok(None)) => {
                return Err(GitError::TooLarge { operation, bytes_max: self.stdout_bytes_max });
            }
            Ok(Err(error)) => return Err(GitError::local(operation, error)),
            Err(_) => {
                return Err(GitError::TimedOut { operation, seconds: self.timeout.as_secs() });
            }
        };
        tracing::debug!(
            operation,
            code = output.code,
            elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "git"
        );
        Ok(output)
    }

    /// The process, to be started by somebody who talks to it for longer.
    pub(super) fn command(&self) -> Command {
        let settings = &self.git.settings;
        let mut command = Command::new(&settings.program);
        command.env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
            .env("HOME", &settings.home)
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS", "/bin/false")
            .env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env(
                "GIT_SSH_COMMAND",
                settings.ssh_command.as_deref().unwrap_or("ssh -oBatchMode=yes"),
            )
            .env("GIT_AUTHOR_NAME", IDENTITY_NAME)
            .env("GIT_AUTHOR_EMAIL", IDENTITY_EMAIL)
            .env("GIT_COMMITTER_NAME", IDENTITY_NAME)
            .env("GIT_COMMITTER_EMAIL", IDENTITY_EMAIL)
            .env("GIT_DIR", &self.git_dir)
            .envs(settings.extra_env.iter().map(|(name, value)| (name, value)))
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(path) = &self.work_tree {
            command.env("GIT_WORK_TREE", path);
        }
        command.current_dir(self.work_tree.as_deref().unwrap_or(&self.git_dir));
        let mut hooks = OsString::from("core.hooksPath=");
        hooks.push(settings.hooks_path.as_deref().unwrap_or_else(|| Path::new("/dev/null")));
        command.arg("-c").arg(hooks);
        for setting in CONFIG {
            command.arg("-c").arg(setting);
        }
        command
            .args(&self.args)
            .stdin(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// A started git, in a process group of its own. Dropped before it was waited for (time limit, too
/// much output, cancelled caller) the whole group is killed: git starts helpers for transports.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
}

impl Running {
    /// Feeds stdin, reads both outputs and waits. `None` if stdout is over its bound.
    async fn talk(&mut self, stdin: &[u8], stdout_max: usize) -> std::io::Result<Option<Output>> {
        let pipe = self.child.stdin.take();
        let out = self.child.stdout.take();
        let err = self.child.stderr.take();
        let feed = async {
            if let Some(mut pipe) = pipe {
                // A process that ends early closes the pipe; its exit code says why.
                let _ = pipe.write_all(stdin).await;
                let _ = pipe.shutdown().await;
            }
            Ok(())
        };
        let read_out = read_bounded(out, stdout_max, false);
        let read_err = read_bounded(err, STDERR_BYTES_MAX, true);
        let ((), stdout, stderr) = tokio::try_join!(feed, read_out, read_err)?;
        let Some(stdout) = stdout else { return Ok(None) };
        let status = self.child.wait().await?;
        let stderr = String::from_utf8_lossy(&stderr.unwrap_or_default()).into_owned();
        Ok(Some(Output { code: status.code(), stdout, stderr }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // `id` is `None` once the child was reaped, so the group id cannot be somebody else's.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Reads to the end. Over the bound it gives `None` or, with `discard`, drops what is beyond.
async fn read_bounded(
    pipe: Option<impl AsyncRead + Unpin>,
    bytes_max: usize,
    discard: bool,
) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let Some(mut pipe) = pipe else { return Ok(Some(bytes)) };
    let mut chunk = vec![0_u8; 16 * 1024];
    loop {
        let count = pipe.read(&mut chunk).await?;
        if count == 0 {
            return Ok(Some(bytes));
        }
        let room = bytes_max.saturating_sub(bytes.len());
        if count > room && !discard {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk[..count.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_of_the_search_path_is_named_by_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        for (name, mode) in [("plain", 0o644), ("first", 0o755), ("second", 0o755)] {
            std::fs::create_dir(place(name)).unwrap();
            let program = place(name).join("git");
            std::fs::write(&program, "").unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::create_dir_all(place("directory/git")).unwrap();
        let before = ["relative".into(), place("absent"), place("directory"), place("first")];
        let path = std::env::join_paths(before.into_iter().chain([place("second")])).unwrap();
        let of = |name: &str| located(PathBuf::from(name), Some(&path));
        assert_eq!(of("git"), place("first").join("git"));
        assert_eq!(of("./git"), PathBuf::from("./git"), "a path stays what it is");
        assert_eq!(of("other"), PathBuf::from("other"), "looked for again at each start");
        assert_eq!(located(PathBuf::from("git"), None), PathBuf::from("git"));
    }
}
