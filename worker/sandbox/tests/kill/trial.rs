//! One trial: a worker with its guard and an agent, what happens to it, and who is alive then.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use flyball_core::lease::BootInstant;
use flyball_sandbox::{Isolation, acquire_state_dir, boottime};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agent::WORDS;
use crate::mark::{Lives, marked};
use crate::worker::{Fate, WORD_OF_REPORTER};

/// Longest wait for an agent to be up, and for what comes after the last process.
const PATIENCE: Duration = Duration::from_secs(30);
/// The kill budget that the trials' workers are configured with, as `flyball worker --kill-budget` does: from when
/// everything was due to die until nothing may be alive. On two cores with a load of 9 the slowest of 1000 kills took
/// 374 ms, and this has to hold on busier machines too; how many would have broken the one that is shipped is printed.
pub(crate) const KILL_BUDGET: Duration = Duration::from_secs(2);
/// The deadline of a worker that was killed is no help to a guard that missed its death.
const _: () = assert!(KILL_BUDGET.as_millis() * 3 < Fate::Killed.lease().as_millis());
/// Tries to get an agent up: on a machine that is busy enough its lease may end before.
const STARTS_MAX: usize = 5;

/// What the guard may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Means {
    /// Whatever the host allows.
    All,
    UserNamespace,
    Cgroup,
    Subreaper,
}

impl Means {
    pub(crate) const ALL: [Self; 4] =
        [Self::All, Self::UserNamespace, Self::Cgroup, Self::Subreaper];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::UserNamespace => "user-namespace",
            Self::Cgroup => "cgroup",
            Self::Subreaper => "subreaper",
        }
    }

    pub(crate) fn isolation(self) -> Isolation {
        match self {
            Self::All => Isolation::default(),
            Self::UserNamespace => Isolation { user_namespace: true, ..Isolation::PLAIN },
            Self::Cgroup => Isolation { cgroup: true, ..Isolation::PLAIN },
            Self::Subreaper => Isolation::PLAIN,
        }
    }
}

/// What is tried.
pub(crate) struct Plan {
    pub(crate) number: usize,
    pub(crate) fate: Fate,
    pub(crate) means: Means,
}

impl Plan {
    pub(crate) fn name(&self) -> String {
        format!("{:?} with {}", self.fate, self.means.name())
    }
}

/// How it went.
pub(crate) struct Outcome {
    /// From the moment when everything was due to die to the death of the last process; none if the
    /// worker was asked to do it.
    pub(crate) delay: Option<Duration>,
    /// What the guard had.
    pub(crate) had: String,
}

/// The command of this program in another role.
pub(crate) fn this_program(role: &str) -> Vec<String> {
    vec![std::env::current_exe().unwrap().to_str().unwrap().to_owned(), role.to_owned()]
}

/// Runs it; the error says what was wrong.
pub(crate) fn run(plan: &Plan) -> Result<Outcome, String> {
    for _ in 0..STARTS_MAX {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        if let Some(mut stage) = Stage::set(dir.path(), plan) {
            let delay = match plan.fate {
                Fate::Asks => stage.ask().map(|()| None),
                fate => stage.strike(fate).map(Some),
            }?;
            return Ok(Outcome { delay, had: stage.had.clone() });
        }
    }
    Err(format!("no agent was up in {STARTS_MAX} tries"))
}

/// A worker whose agent is up.
struct Stage<'a> {
    dir: &'a Path,
    lives: Lives,
    worker: Child,
    orders: ChildStdin,
    words: BufReader<ChildStdout>,
    had: String,
}

impl<'a> Stage<'a> {
    fn set(dir: &'a Path, plan: &Plan) -> Option<Self> {
        let mut lives = Lives::make(dir);
        let command = this_program("worker");
        let mut worker = Command::new(&command[0])
            .arg(&command[1])
            .arg(dir)
            .arg(plan.means.name())
            .arg(plan.fate.lease().as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = worker.stdin.take().unwrap();
        let words = BufReader::new(worker.stdout.take().unwrap());
        let up = lives.wait_for(&WORDS, PATIENCE);
        let mut stage = Self { dir, lives, worker, orders, words, had: String::new() };
        let ready = stage.word("ready ")?;
        up.then_some(())?;
        // What the guard had, so that a figure is never ascribed to what was not there.
        stage.had = ready;
        Some(stage)
    }

    /// The next line of the worker, without its first word; none if that is another.
    fn word(&mut self, first: &str) -> Option<String> {
        let mut line = String::new();
        self.words.read_line(&mut line).ok()?;
        Some(line.trim().strip_prefix(first)?.to_owned())
    }

    /// Stops or kills the worker, and waits for the end of its agent.
    fn strike(&mut self, fate: Fate) -> Result<Duration, String> {
        writeln!(self.orders, "hold").map_err(|error| format!("the worker is gone: {error}"))?;
        let deadline = self.word("deadline ").ok_or("the worker says no deadline")?;
        let deadline = BootInstant(deadline.parse().map_err(|_| "no number")?);
        let pid = Pid::from_raw(i32::try_from(self.worker.id()).unwrap());
        let signal = if fate == Fate::Killed { Signal::SIGKILL } else { Signal::SIGSTOP };
        let struck = Instant::now();
        kill(pid, signal).map_err(|error| error.to_string())?;
        let (due, what) = match fate {
            Fate::Killed => (struck, "its worker's death"),
            _ => (Instant::now() + boottime().until(deadline), "the deadline"),
        };
        let bound = (due + KILL_BUDGET).saturating_duration_since(Instant::now());
        let over = self.lives.wait_for_none(bound);
        let delay = Instant::now().saturating_duration_since(due);
        let left = marked(self.dir);
        if !over || !left.is_empty() {
            return Err(format!("alive after {what} and the kill budget: {left:?}"));
        }
        self.check_what_is_told()?;
        Ok(delay)
    }

    /// Has the worker kill everything; it looks itself, at once.
    fn ask(&mut self) -> Result<(), String> {
        writeln!(self.orders, "kill").map_err(|error| format!("the worker is gone: {error}"))?;
        match self.word("killed ").as_deref() {
            Some("true true 0") => Ok(()),
            other => Err(format!("alive after the kill was reported: {other:?}")),
        }
    }

    /// Who was told that nothing is left saw nothing: the reporter, and who gets the lock.
    fn check_what_is_told(&mut self) -> Result<(), String> {
        let file = self.dir.join(WORD_OF_REPORTER);
        let give_up = Instant::now() + PATIENCE;
        while !file.exists() {
            if Instant::now() >= give_up {
                return Err("nobody reported".to_owned());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let seen = std::fs::read_to_string(file).unwrap_or_default();
        if seen != "true 0" {
            return Err(format!("the reporter saw somebody alive: {seen}"));
        }
        self.end();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lock = runtime.block_on(acquire_state_dir(&self.dir.join("state"), PATIENCE));
        lock.map(drop).map_err(|error| error.to_string())
    }

    fn end(&mut self) {
        // Stopped, dead or idle: nobody needs it any more.
        let _ = self.worker.kill();
        let _ = self.worker.wait();
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.end();
        // What a broken guard left behind is not to outlive the test.
        for pid in marked(self.dir) {
            let _ = kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL);
        }
    }
}
