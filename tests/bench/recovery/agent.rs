//! The agent and the check of the benches, played by the bench's own program: it prints the moment at which it
//! began, which other processes of this machine can compare. It is confined as any agent of a shipped binary is,
//! so what it prints is all that leaves its sandbox; workers keep it in their log directories.

use std::path::{Path, PathBuf};

use flyball_tests::measure::monotonic_ns;

/// The first argument of the agent.
const AGENT: &str = "--agent";
/// The first argument of a check that only prints its start.
const STAMP: &str = "--stamp";
/// What stands before the moment.
const WORD: &str = "began at ";

/// Whether this process was started as an agent or check.
pub(crate) fn is_asked() -> bool {
    std::env::args().nth(1).is_some_and(|first| first == AGENT || first == STAMP)
}

/// Plays the agent or the check.
///
/// The agent's first act in a run finishes one item and ends; its second would never end. So the run after a
/// loss is told by its first stamp, and an accepted iteration lies between two losses.
pub(crate) fn act() {
    println!("{WORD}{}", monotonic_ns());
    if std::env::args().nth(1).is_some_and(|first| first == STAMP) {
        return;
    }
    // The home is the run's own and lasts as long as it does.
    let acted = PathBuf::from(std::env::var_os("HOME").unwrap()).join("acted");
    if acted.exists() {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
    std::fs::write(acted, "").unwrap();
    let list = std::fs::read_to_string("list.txt").unwrap();
    std::fs::write("list.txt", list.replacen(" open", " done", 1)).unwrap();
}

/// The moments in the output of this stream on these nodes, in order; nanoseconds of the monotonic clock.
pub(crate) fn stamps<'a>(nodes: impl Iterator<Item = PathBuf> + 'a, stream: &str) -> Vec<i128> {
    let name = format!("{}.log", stream.replace('/', "@"));
    let below = |dir: &Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut found: Vec<i128> = nodes
        .flat_map(|node| below(&node.join("logs")))
        .flat_map(|of_loop| below(&of_loop))
        .flat_map(|of_iteration| below(&of_iteration))
        .filter_map(|of_run| moment(&of_run.join(&name)))
        .collect();
    found.sort_unstable();
    found
}

/// The moment in one output; the line may not be whole yet.
fn moment(output: &Path) -> Option<i128> {
    let text = std::fs::read_to_string(output).ok()?;
    let (line, _) = text.split_once('\n')?;
    line.strip_prefix(WORD)?.parse().ok()
}

/// The program and arguments of the agent.
pub(crate) fn agent() -> Vec<String> {
    command(AGENT)
}

/// The program and arguments of the stamping check.
pub(crate) fn stamp() -> Vec<String> {
    command(STAMP)
}

fn command(what: &str) -> Vec<String> {
    vec![own().display().to_string(), what.to_owned()]
}

/// What a worker has to show its steps, so that they can start this program.
pub(crate) fn shown() -> Vec<String> {
    vec!["--show".to_owned(), own().parent().unwrap().display().to_string()]
}

fn own() -> PathBuf {
    std::env::current_exe().unwrap()
}
