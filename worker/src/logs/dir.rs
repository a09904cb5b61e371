//! The files of output on a node: where each is, which run wrote it, and what is removed when there is too much.
//!
//! `<data>/logs/<loop uid>/<iteration>/<token>/<stream>.log`. The token is in the path, so a node that takes a
//! loop again never writes over what a run that was lost has left of the same iteration. Versions before this had
//! no token there (`<iteration>/<stream>.log`): what they wrote is read as that of a run without a known token, 0.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use flyball_core::ids::Token;

use crate::link::RunId;

/// Iterations whose output is kept per loop; older ones are removed.
const ITERATIONS_KEPT: usize = 50;
/// Runs whose output of one iteration is kept beside that of the run that recorded it: enough to see why they were
/// lost or gave up. A loop that waits for its provider begins an iteration again and again.
const RUNS_KEPT: usize = 4;
/// Most bytes kept per loop, but for the newest part; older ones are removed.
const LOOP_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// File that says that the journal has this iteration of this run. No stream is called so: theirs end with `.log`.
const RECORDED: &str = "recorded";

/// What one run wrote of one iteration. In the order of time: tokens go up from run to run, while a changed spec
/// begins again at the first iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    /// 0 for what versions before this wrote.
    pub(super) token: Token,
    pub(super) iteration: u32,
}

/// The node's log directory.
#[derive(Debug, Clone)]
pub(crate) struct LogDir {
    root: PathBuf,
}

impl LogDir {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { root: data_dir.join("logs") }
    }

    /// The file of a run's stream (`agent`, `check/<name>`), its directory made.
    pub(crate) fn file(&self, run: &RunId, iteration: u32, stream: &str) -> io::Result<PathBuf> {
        let part = Part { token: run.token, iteration };
        let dir = self.part_dir(run.uid.as_str(), part);
        if !dir.exists() {
            fs::create_dir_all(&dir)?;
            self.prune(run.uid.as_str(), part);
        }
        Ok(dir.join(format!("{}.log", stream.replace('/', "@"))))
    }

    /// The journal has this iteration of this run: from now on its output is what is shown of the iteration, and is
    /// kept before that of other runs.
    pub(crate) fn on_recorded(&self, run: &RunId, iteration: u32) {
        let dir = self.part_dir(run.uid.as_str(), Part { token: run.token, iteration });
        // Without it the output is still there and has to be asked for by token.
        let _ = fs::write(dir.join(RECORDED), "");
    }

    /// What there is of a loop, oldest first.
    pub(super) fn parts(&self, uid: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        for (iteration, dir) in numbered::<u32>(&self.loop_dir(uid)) {
            if !streams_in(&dir).is_empty() {
                parts.push(Part { token: Token(0), iteration });
            }
            let runs = numbered::<i64>(&dir).into_iter().filter(|(token, _)| *token > 0);
            parts.extend(runs.map(|(token, _)| Part { token: Token(token), iteration }));
        }
        parts.sort_unstable();
        parts
    }

    pub(super) fn is_recorded(&self, uid: &str, part: Part) -> bool {
        self.part_dir(uid, part).join(RECORDED).exists()
    }

    /// Stream names of a part, checks in name order after the agent.
    pub(super) fn streams(&self, uid: &str, part: Part) -> Vec<(String, PathBuf)> {
        streams_in(&self.part_dir(uid, part))
    }

    fn loop_dir(&self, uid: &str) -> PathBuf {
        // Uids are made by schedulers; a separator in one would leave the directory.
        self.root.join(uid.replace(['/', '.'], "_"))
    }

    fn iteration_dir(&self, uid: &str, iteration: u32) -> PathBuf {
        self.loop_dir(uid).join(format!("{iteration:06}"))
    }

    fn part_dir(&self, uid: &str, part: Part) -> PathBuf {
        let dir = self.iteration_dir(uid, part.iteration);
        if part.token == Token(0) { dir } else { dir.join(part.token.to_string()) }
    }

    /// Removes what is too much beside `begun`, which is about to be written.
    fn prune(&self, uid: &str, begun: Part) {
        let parts = self.parts(uid);
        let (mut runs, mut recorded) = (BTreeMap::<u32, usize>::new(), BTreeSet::new());
        let (mut iterations, mut bytes, mut full) = (BTreeSet::new(), 0, false);
        for part in parts.into_iter().rev().filter(|part| *part != begun) {
            let surplus = if self.is_recorded(uid, part) {
                !recorded.insert(part.iteration)
            } else {
                let runs = runs.entry(part.iteration).or_default();
                *runs += 1;
                *runs > RUNS_KEPT
            };
            if !surplus && !full {
                iterations.insert(part.iteration);
                bytes += self.bytes(uid, part);
                // Everything older goes as well: what is kept has no holes but for surplus runs.
                let many = iterations.len() + usize::from(!iterations.contains(&begun.iteration));
                full = many > ITERATIONS_KEPT || bytes > LOOP_BYTES_MAX;
            }
            if surplus || full {
                self.remove(uid, part);
            }
        }
    }

    fn bytes(&self, uid: &str, part: Part) -> u64 {
        let streams = self.streams(uid, part).into_iter();
        streams.filter_map(|(_, path)| Some(path.metadata().ok()?.len())).sum()
    }

    fn remove(&self, uid: &str, part: Part) {
        // Only output is lost if any of this fails, and only disk if it never succeeds.
        if part.token == Token(0) {
            for (_, path) in self.streams(uid, part) {
                let _ = fs::remove_file(path);
            }
        } else {
            let _ = fs::remove_dir_all(self.part_dir(uid, part));
        }
        // Fails as long as another run's output is there.
        let _ = fs::remove_dir(self.iteration_dir(uid, part.iteration));
    }
}

/// Subdirectories and files that are called by a number.
fn numbered<N: std::str::FromStr>(dir: &Path) -> Vec<(N, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect()
}

fn streams_in(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut streams: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.strip_suffix(".log")?.replace('@', "/");
            Some((name, entry.path()))
        })
        .collect();
    streams.sort();
    streams
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn run(token: i64) -> RunId {
        RunId {
            key: flyball_core::ids::LoopKey::new("default", "a"),
            uid: "u".into(),
            token: Token(token),
        }
    }

    fn part(token: i64, iteration: u32) -> Part {
        Part { token: Token(token), iteration }
    }

    /// A hole takes no room, but counts.
    fn write(logs: &LogDir, token: i64, iteration: u32, bytes: u64) {
        let path = logs.file(&run(token), iteration, "agent").unwrap();
        File::create(path).unwrap().set_len(bytes).unwrap();
    }

    fn iterations(logs: &LogDir) -> Vec<u32> {
        logs.parts("u").iter().map(|part| part.iteration).collect()
    }

    #[test]
    fn every_run_has_files_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let logs = LogDir::new(dir.path());
        let first = logs.file(&run(7), 3, "check/test").unwrap();
        assert_eq!(first, dir.path().join("logs/u/000003/7/check@test.log"));
        fs::write(&first, "lost").unwrap();
        let second = logs.file(&run(12), 3, "check/test").unwrap();
        File::create(&second).unwrap();
        assert_eq!(fs::read_to_string(&first).unwrap(), "lost");
        assert_eq!(logs.parts("u"), [part(7, 3), part(12, 3)]);
        assert_eq!(logs.streams("u", part(12, 3)), [("check/test".to_owned(), second)]);
    }

    #[test]
    fn old_output_goes_by_number_and_by_size() {
        let dir = tempfile::tempdir().unwrap();
        let logs = LogDir::new(dir.path());
        for number in 1..=60 {
            write(&logs, 1, number, 1);
        }
        assert_eq!(iterations(&logs), (11..=60).collect::<Vec<_>>());
        for number in 61..=63 {
            write(&logs, 1, number, LOOP_BYTES_MAX / 2);
        }
        write(&logs, 1, 64, 0);
        assert_eq!(iterations(&logs), [62, 63, 64]);
        // However large it is, the newest stays.
        write(&logs, 1, 65, 3 * LOOP_BYTES_MAX);
        assert_eq!(iterations(&logs), [62, 63, 64, 65]);
        write(&logs, 1, 66, 0);
        assert_eq!(iterations(&logs), [66]);
        let left = fs::read_dir(dir.path().join("logs/u")).unwrap().count();
        assert_eq!(left, 1, "empty directories are removed");
    }

    #[test]
    fn of_many_runs_at_one_iteration_the_one_that_recorded_it_and_the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let logs = LogDir::new(dir.path());
        write(&logs, 1, 1, 1);
        logs.on_recorded(&run(1), 1);
        write(&logs, 1, 2, 1);
        logs.on_recorded(&run(1), 2);
        for token in 2..=90 {
            write(&logs, token, 2, 1);
        }
        let tokens: Vec<Part> = (86..=90).map(|token| part(token, 2)).collect();
        assert_eq!(logs.parts("u"), [&[part(1, 1), part(1, 2)], &tokens[..]].concat());
        // A changed spec begins anew: the newer record of an iteration stands for it.
        write(&logs, 91, 1, 1);
        logs.on_recorded(&run(91), 1);
        write(&logs, 91, 2, 1);
        assert!(!logs.parts("u").contains(&part(1, 1)), "{:?}", logs.parts("u"));
    }

    #[test]
    fn files_of_earlier_versions_are_those_of_a_run_that_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let logs = LogDir::new(dir.path());
        let old = |iteration: u32| dir.path().join(format!("logs/u/{iteration:06}/agent.log"));
        for number in 1..=3 {
            fs::create_dir_all(old(number).parent().unwrap()).unwrap();
            fs::write(old(number), "old").unwrap();
        }
        write(&logs, 9, 3, 1);
        assert_eq!(logs.parts("u"), [part(0, 1), part(0, 2), part(0, 3), part(9, 3)]);
        assert_eq!(logs.streams("u", part(0, 3)), [("agent".to_owned(), old(3))]);
        assert_eq!(fs::read_to_string(old(3)).unwrap(), "old");
        // They go like all others, as the oldest, and leave newer runs' alone.
        for number in 4..=52 {
            write(&logs, 9, number, 1);
        }
        assert!(!old(1).exists() && !old(2).exists() && logs.parts("u").contains(&part(9, 3)));
        write(&logs, 9, 53, 1);
        assert!(!old(3).exists() && !logs.parts("u").contains(&part(9, 3)));
    }
}
