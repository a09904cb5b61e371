//! Test programs as child processes: where they are, how they are run within a bound, what they said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use flyball_core::planted::Bug;

use crate::catchers::Catcher;

/// Longest run of one child; the longest takes some twenty seconds on a quiet machine.
const TIME_MAX: Duration = Duration::from_secs(180);

/// A program with tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Suite {
    /// Unit tests of crates/core.
    Core,
    Sandbox,
    Worker,
    /// worker/sandbox/tests/kill, with few trials.
    Kill,
    /// tests/store.
    Store,
    /// tests/script.
    Script,
    /// scheduler/tests/services.rs.
    Services,
    /// tests/e2e.
    EndToEnd,
    /// tests/ownership.
    Ownership,
    /// tests/sim.
    Simulation,
    /// tests/faults: real processes, and real etcd.
    Faults,
    /// This program.
    Control,
}

impl Suite {
    pub(crate) fn name(self) -> &'static str {
        self.place().0
    }

    /// What people call it, the program's name, and the directory of its package.
    fn place(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Core => ("core", "flyball_core", "crates/core"),
            Self::Sandbox => ("sandbox", "flyball_sandbox", "worker/sandbox"),
            Self::Worker => ("worker", "flyball_worker", "worker"),
            Self::Kill => ("kill", "kill", "worker/sandbox"),
            Self::Store => ("store", "store", "tests"),
            Self::Script => ("script", "script", "tests"),
            Self::Services => ("services", "services", "scheduler"),
            Self::EndToEnd => ("e2e", "e2e", "tests"),
            Self::Ownership => ("ownership", "ownership", "tests"),
            Self::Simulation => ("sim", "sim", "tests"),
            Self::Faults => ("faults", "faults", "tests"),
            Self::Control => ("control", "control", "tests"),
        }
    }

    /// Their own words for one test's result, unless the program is one test.
    fn is_libtest(self) -> bool {
        use Suite::{Control, Faults, Kill, Ownership, Simulation};
        !matches!(self, Kill | Ownership | Simulation | Faults | Control)
    }
}

/// The program as it was built last. Cargo gives every set of features a file of its own; the newest is
/// that of the run which this suite belongs to.
fn program(suite: Suite) -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    if suite == Suite::Control {
        return Ok(this);
    }
    let (dir, start) = (this.parent().unwrap_or_else(|| Path::new(".")), suite.place().1);
    let entries = std::fs::read_dir(dir).map_err(|error| error.to_string())?;
    let mut found: Option<(SystemTime, PathBuf)> = None;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hash = name.strip_prefix(start).and_then(|rest| rest.strip_prefix('-'));
        if hash
            .is_none_or(|hash| hash.is_empty() || hash.contains(|c: char| !c.is_ascii_hexdigit()))
        {
            continue;
        }
        let Ok(built) = path.metadata().and_then(|data| data.modified()) else { continue };
        if found.as_ref().is_none_or(|(newest, _)| built > *newest) {
            found = Some((built, path));
        }
    }
    let missing = || format!("{start} is not built: cargo test --workspace --no-run");
    found.map(|(_, path)| path).ok_or_else(missing)
}

/// Runs a catcher, with a bug or without; answers whether it succeeded, and all that it said.
fn run(catcher: &Catcher, bug: Option<Bug>) -> Result<(bool, String), String> {
    let suite = catcher.suite;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let package = root.join(suite.place().2);
    let output = tempfile::tempfile().map_err(|error| error.to_string())?;
    let copy = || output.try_clone().map_err(|error| error.to_string());
    let mut command = Command::new(program(suite)?);
    if suite.is_libtest() {
        command.arg("--exact");
    }
    command.args(Some(catcher.test).filter(|test| !test.is_empty()));
    command.current_dir(&package).env("CARGO_MANIFEST_DIR", &package);
    // A test that fails on purpose leaves nothing behind in the tree.
    command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true").env("INSTA_UPDATE", "no");
    command.env("FLYBALL_KILL_TRIALS", "16");
    let planted: Vec<&str> = catcher.behind.into_iter().chain(bug).map(Bug::name).collect();
    command.env("FLYBALL_PLANT", planted.join(","));
    command.stdin(Stdio::null()).stdout(copy()?).stderr(copy()?);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let deadline = Instant::now() + TIME_MAX;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if Instant::now() > deadline {
            // It may have ended by itself just now.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{} {} did not end", suite.name(), catcher.test));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Ok((status.success(), read(output)?))
}

fn read(mut output: std::fs::File) -> Result<String, String> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    output.rewind().and_then(|()| output.read_to_end(&mut bytes)).map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Without a bug it passes, and it really was that test.
pub(crate) fn passes(catcher: &Catcher) -> Result<(), String> {
    let (succeeded, said) = run(catcher, None)?;
    let name = catcher.test;
    let ran = match catcher.suite {
        // A case that this host cannot run passes too.
        Suite::Faults => said.contains(&format!("test {name} (")),
        // Another package may have a program of this name.
        Suite::Kill => said.contains("test nothing_is_alive_after_the_deadline ... ok"),
        Suite::Ownership | Suite::Simulation | Suite::Control => true,
        _ => said.contains(&format!("test {name} ... ok")),
    };
    if succeeded && ran {
        Ok(())
    } else {
        Err(format!("{} {} fails without any bug:\n{said}", catcher.suite.name(), catcher.test))
    }
}

/// With the bug it fails, and says why; answers the line of it.
pub(crate) fn notices(catcher: &Catcher, bug: Bug) -> Result<String, String> {
    let (succeeded, said) = run(catcher, Some(bug))?;
    let failed = format!("test {} ... FAILED", catcher.test);
    let named = !catcher.suite.is_libtest() || said.contains(&failed);
    let line = said.lines().find(|line| line.contains(catcher.says));
    match line {
        Some(line) if !succeeded && named => Ok(format!(" ({})", line.trim())),
        _ => Err(format!(
            "{} {} does not notice (success: {succeeded}, wanted {:?}):\n{said}",
            catcher.suite.name(),
            catcher.test,
            catcher.says
        )),
    }
}
