//! Trusted helper programs of the worker itself, e.g. git. They do not run under the guard, as they
//! must never be what an agent wrote.

use std::process::Stdio;

use tokio::process::Command;

use crate::step::NICE;
use crate::sys;

/// What a helper is given of the worker's environment: where programs and temporary files are, and
/// how the user wants texts. No HOME, no credentials; the caller adds what a program needs.
const INHERITED: [&str; 5] = ["PATH", "TMPDIR", "LANG", "LC_ALL", "TZ"];

/// A command with an environment of a few known variables, nothing on its input, and killed when
/// its handle is dropped.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(INHERITED.iter().filter_map(|key| std::env::var_os(key).map(|value| (key, value))))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Has the calling thread scheduled before ordinary ones, as the guard is, if the host allows it. For
/// threads that keep time and start no process, as those would take it over.
pub fn raise_priority() -> bool {
    sys::set_nice(NICE).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_environment_is_a_known_list() {
        let output = command("env").env("EXTRA", "1").output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("EXTRA=1"));
        assert!(text.lines().all(|line| {
            let key = line.split('=').next().unwrap();
            key == "EXTRA" || INHERITED.contains(&key)
        }));
    }
}
