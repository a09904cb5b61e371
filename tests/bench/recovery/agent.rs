//! The agent and the check of the benches, played by the bench's own program: it stamps a file with
//! the moment it began, which other processes of this machine can compare.

use std::io::Write;
use std::path::{Path, PathBuf};

use flyball_tests::measure::monotonic_ns;

/// The first argument of the agent; the next one is the file of its starts.
const AGENT: &str = "--agent";
/// The first argument of a check that only stamps its start.
const STAMP: &str = "--stamp";

/// Whether this process was started as an agent or check.
pub(crate) fn is_asked() -> bool {
    std::env::args().nth(1).is_some_and(|first| first == AGENT || first == STAMP)
}

/// Plays the agent or the check.
///
/// Every other run of the agent finishes one item and ends; the others would never end. So the run
/// after a loss is told by its first stamp, and an accepted iteration lies between two losses.
pub(crate) fn act() {
    let now = monotonic_ns();
    let file = PathBuf::from(std::env::args().nth(2).unwrap());
    let mut starts = std::fs::File::options().create(true).append(true).open(&file).unwrap();
    starts.write_all(format!("{now}\n").as_bytes()).unwrap();
    if std::env::args().nth(1).is_some_and(|first| first == STAMP) {
        return;
    }
    if stamps(&file).len().is_multiple_of(2) {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
    let list = std::fs::read_to_string("list.txt").unwrap();
    std::fs::write("list.txt", list.replacen(" open", " done", 1)).unwrap();
}

/// When the agent has started so far, nanoseconds of the monotonic clock.
pub(crate) fn stamps(file: &Path) -> Vec<i128> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| line.parse().unwrap()).collect()
}

/// The program and arguments of the agent.
pub(crate) fn agent(file: &Path) -> Vec<String> {
    command(AGENT, file)
}

/// The program and arguments of the stamping check.
pub(crate) fn stamp(file: &Path) -> Vec<String> {
    command(STAMP, file)
}

fn command(what: &str, file: &Path) -> Vec<String> {
    let own = std::env::current_exe().unwrap();
    vec![own.display().to_string(), what.to_owned(), file.display().to_string()]
}
