//! Runs the built binary in a directory of its own, with nothing of the caller's environment.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

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

    /// Runs it to its end.
    pub(crate) fn output(mut self) -> Output {
        let pipes = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
        let [stdin, stdout, stderr] = pipes;
        let mut child = self.command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
        // A child that does not read its input has closed it; that is no failure.
        let _ = child.stdin.take().unwrap().write_all(self.stdin.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Exit code, stdout and stderr as one text for snapshots.
    pub(crate) fn transcript(self) -> String {
        let output = self.output();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut transcript = format!("exit {}\n", output.status.code().unwrap_or(-1));
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if !bytes.is_empty() {
                transcript.push_str(&format!("--- {name}\n{}", text(bytes)));
            }
        }
        transcript
    }
}
