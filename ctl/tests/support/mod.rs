//! Runs the built binary in a directory of its own, with nothing of the caller's environment.

#![allow(dead_code, clippy::allow_attributes, reason = "each suite uses its part")]

pub(crate) mod fake;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// One call of the binary.
pub(crate) struct Call {
    command: Command,
    stdin: String,
}

/// `flyball` with these arguments, in this directory.
pub(crate) fn flyball(directory: &Path, arguments: &[&str]) -> Call {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flyball"));
    command.args(arguments).current_dir(directory).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", directory);
    Call { command, stdin: String::new() }
}

impl Call {
    /// With text on standard input.
    pub(crate) fn stdin(mut self, text: &str) -> Self {
        self.stdin = text.to_owned();
        self
    }

    /// With an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it.
    pub(crate) fn spawn(mut self) -> Running {
        let pipes = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
        let [stdin, stdout, stderr] = pipes;
        let mut child = self.command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
        // A child that does not read its input has closed it; that is no failure.
        let _ = child.stdin.take().unwrap().write_all(self.stdin.as_bytes());
        Running(child)
    }

    /// Runs it to its end.
    pub(crate) fn output(self) -> Output {
        self.spawn().0.wait_with_output().unwrap()
    }

    /// Runs it to its end: exit code, stdout and stderr as one text for snapshots.
    pub(crate) fn transcript(self) -> String {
        transcript(&self.output())
    }
}

/// A call that goes on.
pub(crate) struct Running(Child);

impl Running {
    /// Waits for its end.
    pub(crate) fn transcript(self) -> String {
        transcript(&self.0.wait_with_output().unwrap())
    }

    /// Interrupts it once a text was written to stderr, and waits for its end.
    pub(crate) fn interrupt_after_stderr(mut self, text: &str) -> String {
        let mut seen = String::new();
        let mut stderr = BufReader::new(self.0.stderr.take().unwrap());
        while !seen.contains(text) {
            assert_ne!(stderr.read_line(&mut seen).unwrap(), 0, "{seen}");
        }
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        stderr.read_to_string(&mut seen).unwrap();
        let mut output = self.0.wait_with_output().unwrap();
        output.stderr = seen.into_bytes();
        transcript(&output)
    }
}

fn transcript(output: &Output) -> String {
    let mut transcript = format!("exit {}\n", output.status.code().unwrap_or(-1));
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !bytes.is_empty() {
            transcript.push_str(&format!("--- {name}\n{}", String::from_utf8_lossy(bytes)));
        }
    }
    transcript
}
