//! Runs the tests, each with every containment, and what they share.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use flyball_core::lease::BootInstant;
use flyball_sandbox::{FAR_AWAY, Guard, GuardConfig, Isolation, Step, StepEnd, boottime};
use tempfile::TempDir;

/// The longest that anything here is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A deadline that a worker is told to have, long enough for it to start: on an emulated machine that takes seconds.
pub(crate) fn soon() -> BootInstant {
    let slow = std::env::var_os("FLYBALL_SLOW_MACHINE").is_some();
    boottime() + Duration::from_secs(if slow { 20 } else { 2 })
}

/// What a test gets.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) isolation: Isolation,
    runtime: tokio::runtime::Runtime,
}

/// A test.
pub(crate) type Test = (&'static str, fn(&Bench));

/// Runs those whose name contains one of the arguments; all of them if there is none.
pub(crate) fn run(tests: &[Test], arguments: &[String]) -> ExitCode {
    let filters: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let mut failed = Vec::new();
    let mut passed = 0;
    for (isolation, kind) in [(Isolation::default(), "full"), (Isolation::PLAIN, "plain")] {
        for (name, test) in tests {
            let name = format!("{name}/{kind}");
            if !filters.is_empty() && !filters.iter().any(|filter| name.contains(*filter)) {
                continue;
            }
            if arguments.iter().any(|word| word == "--list") {
                println!("{name}: test");
                continue;
            }
            let bench = Bench::new(isolation);
            match catch_unwind(AssertUnwindSafe(|| test(&bench))) {
                Ok(()) => {
                    passed += 1;
                    println!("test {name} ... ok");
                }
                Err(_) => {
                    println!("test {name} ... FAILED");
                    failed.push(name);
                }
            }
        }
    }
    // In the words of libtest, for those who add up results.
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("failed: {failed:?}");
    println!("test result: {verdict}. {passed} passed; {} failed; 0 ignored", failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}

impl Bench {
    fn new(isolation: Isolation) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self { dir: tempfile::tempdir().unwrap(), isolation, runtime: runtime.unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Waits for a future, within the test's patience.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(PATIENCE, future).await };
        self.runtime.block_on(bounded).expect("patience ended")
    }

    pub(crate) fn config(&self) -> GuardConfig {
        let mut config = GuardConfig::new(this_as("guard"), self.path().join("state"));
        config.isolation = self.isolation;
        config.lock_timeout = PATIENCE;
        config
    }

    /// A guard without a deadline.
    pub(crate) fn bare_guard(&self) -> Guard {
        self.wait(Guard::start(self.config())).unwrap()
    }

    /// A guard with a deadline that never comes.
    pub(crate) fn guard(&self) -> Guard {
        let guard = self.bare_guard();
        assert!(guard.extender().extend(FAR_AWAY));
        guard
    }

    pub(crate) fn step(&self, argv: &[&str]) -> Step {
        Step {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            cwd: self.path().to_owned(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            output: self.path().join("out"),
            stdin: None,
            output_bytes_max: 100_000,
            timeout: Duration::from_secs(600),
            label: "test".into(),
            confinement: None,
        }
    }

    pub(crate) fn shell(&self, script: &str) -> Step {
        self.step(&["/bin/sh", "-c", script])
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, guard: &Guard, step: Step) -> StepEnd {
        let mut handle = guard.spawn(step).unwrap();
        self.wait(handle.wait())
    }

    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.path().join("out")).unwrap()
    }

    /// A named pipe `lives` in the directory; its reading end tells who has it open for writing.
    pub(crate) fn lives(&self) -> Lives {
        let path = self.path().join("lives");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let flags = nix::libc::O_NONBLOCK;
        Lives(File::options().read(true).custom_flags(flags).open(path).unwrap())
    }

    /// A file in the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

/// Knows whether processes live, whatever namespace they are in: those that have the pipe open.
pub(crate) struct Lives(File);

impl Lives {
    /// Waits until somebody has written `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let mut seen = String::new();
        until("the word of a process", || {
            let mut buffer = [0; 100];
            if let Ok(length) = self.0.read(&mut buffer) {
                seen.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
            seen.contains(text)
        });
    }

    /// Whether anybody lives.
    pub(crate) fn any(&mut self) -> bool {
        let mut buffer = [0; 100];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return false,
                // What the dead have written is still there.
                Ok(_) => {}
                Err(_) => return true,
            }
        }
    }

    /// Waits until nobody is left.
    pub(crate) fn wait_for_none(&mut self) {
        until("the death of all processes", || !self.any());
    }
}

/// Polls a condition within the test's patience.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The command of this program in another role.
pub(crate) fn this_as(role: &str) -> Vec<String> {
    vec![std::env::current_exe().unwrap().to_str().unwrap().to_owned(), role.to_owned()]
}

/// Children of a process, by the process table.
pub(crate) fn children_of(parent: u32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut words = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        if words.nth(1) == Some(parent.to_string().as_str()) {
            found.push(pid);
        }
    }
    found
}
