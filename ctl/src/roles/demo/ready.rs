//! What must hold before the demo starts: a directory of its own, and a cargo that works.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// Longest wait for `cargo --version`: a toolchain manager may have to look around first.
const CARGO_MAX: Duration = Duration::from_secs(30);

/// Refuses a directory that holds something: the demo makes repositories in it.
pub(super) fn empty(dir: &Path) -> anyhow::Result<()> {
    let mut entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot use {}", dir.display())),
    };
    ensure!(
        entries.next().is_none(),
        "{} is not empty; give --data-dir a new directory, or remove this one",
        dir.display()
    );
    Ok(())
}

/// Asks cargo for its version: the example is a Rust project, and none of its checks could run.
pub(super) async fn cargo() -> anyhow::Result<()> {
    let mut command = tokio::process::Command::new("cargo");
    // Not where the user stands: a toolchain file there is not the demo's.
    command.arg("--version").current_dir(std::env::temp_dir());
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let needed = "the demo's example is a Rust project and needs a cargo that works";
    let output = match tokio::time::timeout(CARGO_MAX, command.output()).await {
        Ok(output) => output.with_context(|| format!("{needed}; cargo cannot be started"))?,
        Err(_) => bail!("{needed}; cargo --version did not answer in {} s", CARGO_MAX.as_secs()),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("no reason given");
    ensure!(output.status.success(), "{needed}; cargo --version said: {said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::empty;

    #[test]
    fn only_an_empty_directory_will_do() {
        let directory = tempfile::tempdir().unwrap();
        assert!(empty(directory.path()).is_ok());
        assert!(empty(&directory.path().join("new")).is_ok());
        std::fs::write(directory.path().join("file"), "").unwrap();
        let refused = empty(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("is not empty"), "{refused}");
    }
}
