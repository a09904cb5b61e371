//! The worker of a trial, and what its guard becomes after it.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flyball_sandbox::{Guard, GuardConfig, Reporter, Step, boottime};

use crate::agent::SCRIPT;
use crate::mark::{Lives, VARIABLE, marked};
use crate::trial::{KILL_BUDGET, Means, this_program};

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Stopped,
    Killed,
    /// It has the run killed itself and looks for survivors when it is told that there are none.
    Asks,
}

impl Fate {
    /// Time from an extension to the deadline. Short where the trial waits for it, but long enough that the
    /// extending thread gets its turn on a loaded machine. Far away where the worker dies: who acts on the
    /// deadline only is late.
    pub(crate) const fn lease(self) -> Duration {
        match self {
            Self::Stopped | Self::Asks => Duration::from_millis(800),
            Self::Killed => Duration::from_secs(20),
        }
    }
}

/// Pause between extensions.
const EXTEND_EVERY: Duration = Duration::from_millis(20);
/// Where the reporter says what it found.
pub(crate) const WORD_OF_REPORTER: &str = "gone";

/// `<dir> <means> <milliseconds of its lease>`: starts a guard and the agent. Told `hold` it stops extending and says the last
/// deadline; told `kill` it has all killed and says who is alive.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let [dir, means, lease] = arguments else { return ExitCode::FAILURE };
    let lease = Duration::from_millis(lease.parse().unwrap());
    let dir = PathBuf::from(dir);
    let means = Means::ALL.into_iter().find(|known| known.name() == means).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut config = GuardConfig::new(this_program("guard"), dir.join("state"));
    config.isolation = means.isolation();
    config.kill_budget = KILL_BUDGET;
    let guard = runtime.block_on(Guard::start(config)).unwrap();
    let note = dir.display().to_string().into_bytes();
    guard.report_with(Reporter { arguments: vec!["report-gone".into()], note }).unwrap();
    let (hold, deadline) = (AtomicBool::new(false), AtomicU64::new(0));
    let extend = || {
        let until = boottime() + lease;
        if guard.extender().extend(until) {
            deadline.store(until.0, Ordering::Release);
        }
    };
    extend();
    let mut handle = guard.spawn(step(&dir)).unwrap();
    println!("ready {:?} {}", guard.abilities().containment, guard.abilities().cgroup);
    std::thread::scope(|scope| {
        let keeper = scope.spawn(|| {
            while !hold.load(Ordering::Acquire) {
                extend();
                std::thread::sleep(EXTEND_EVERY);
            }
        });
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match line.as_str() {
                "hold" => {
                    hold.store(true, Ordering::Release);
                    while !keeper.is_finished() {
                        std::thread::yield_now();
                    }
                    println!("deadline {}", deadline.load(Ordering::Acquire));
                }
                "kill" => {
                    let mut lives = Lives::open(&dir);
                    let proven = runtime.block_on(guard.kill_all_and_prove()).is_ok();
                    let over = lives.are_over();
                    let left = if over { marked(&dir).len() } else { usize::MAX };
                    println!("killed {proven} {over} {left}");
                    hold.store(true, Ordering::Release);
                }
                _ => break,
            }
        }
        hold.store(true, Ordering::Release);
    });
    runtime.block_on(handle.wait());
    ExitCode::SUCCESS
}

fn step(dir: &Path) -> Step {
    let program = this_program("no-file").swap_remove(0);
    Step {
        argv: ["/bin/sh", "-c", SCRIPT, "agent", &program].map(str::to_owned).to_vec(),
        cwd: dir.to_owned(),
        env: vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            (VARIABLE.into(), dir.display().to_string()),
        ],
        output: dir.join("out"),
        stdin: None,
        output_bytes_max: 10_000,
        timeout: Duration::from_secs(600),
        label: "agent".into(),
        confinement: None,
    }
}

/// What the guard becomes: the first to be told that nothing is left, and the first to look.
pub(crate) fn reporter() -> ExitCode {
    let mut dir = String::new();
    std::io::stdin().read_to_string(&mut dir).unwrap();
    let dir = PathBuf::from(dir);
    // The trial may be over.
    let Ok(mut lives) = Lives::try_open(&dir) else { return ExitCode::FAILURE };
    let word = format!("{} {}", lives.are_over(), marked(&dir).len());
    let file = dir.join("word");
    // Whole or not at all.
    let written = std::fs::write(&file, word);
    match written.and_then(|()| std::fs::rename(&file, dir.join(WORD_OF_REPORTER))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
