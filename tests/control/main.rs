//! Control runs: every bug that can be planted is planted once, and a test has to notice. The suites run
//! in child processes, with the bug and without it; what catches each bug is listed at the end.
//!
//! `cargo test -p flyball-tests --test control [BUG…]`, after `cargo test --workspace --no-run`: the
//! children are the test programs that lie in the target directory.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]

mod catchers;
mod child;
mod keepalive;

use std::collections::BTreeMap;
use std::process::ExitCode;

use catchers::{CONTROLS, Catcher};
use child::Suite;
use flyball_core::planted::Bug;
use flyball_tests::etcd;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("guard") => return flyball_sandbox::guard_main(),
        Some("keepalive") => return keepalive::main(),
        Some(flyball_worker::REPORTER_ARGUMENT) => return flyball_worker::report_gone(),
        _ => {}
    }
    let wanted: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |bug: &Bug| wanted.is_empty() || wanted.iter().any(|it| **it == bug.name());
    if arguments.iter().any(|word| word == "--list") {
        CONTROLS.iter().for_each(|(bug, _)| println!("{bug}: test"));
        return ExitCode::SUCCESS;
    }
    let mut controls = Controls::default();
    // Built before a child needs it, which has only so much time.
    flyball_tests::binary::flyball();
    let bugs: Vec<Bug> = Bug::ALL.into_iter().filter(is_wanted).collect();
    bugs.iter().for_each(|bug| controls.run(*bug));
    controls.sum_up()
}

#[derive(Default)]
struct Controls {
    /// What came of a catcher without any bug; each runs once.
    clean: BTreeMap<(Suite, &'static str, Option<Bug>), Result<(), String>>,
    caught: Vec<(Bug, Vec<String>)>,
    missed: Vec<(Bug, String)>,
}

impl Controls {
    fn run(&mut self, bug: Bug) {
        let catchers = CONTROLS.iter().filter(|(it, _)| *it == bug).flat_map(|(_, list)| *list);
        let caught: Result<Vec<String>, String> =
            catchers.map(|catcher| self.catches(bug, catcher)).collect();
        match caught {
            Ok(by) if !by.is_empty() => {
                println!("test {bug} ... ok");
                self.caught.push((bug, by));
            }
            caught => {
                println!("test {bug} ... FAILED");
                let why = caught.err().unwrap_or_else(|| "nothing is said to catch it".to_owned());
                self.missed.push((bug, why));
            }
        }
    }

    /// It passes without the bug, and with it fails for the right reason; answers what it said.
    fn catches(&mut self, bug: Bug, catcher: &Catcher) -> Result<String, String> {
        if catcher.suite == Suite::Faults && etcd::is_skipped() {
            return Ok(format!("SKIPPED {} {}: no etcd", catcher.suite.name(), catcher.test));
        }
        let clean = self.clean.entry((catcher.suite, catcher.test, catcher.behind));
        clean.or_insert_with(|| child::passes(catcher)).clone()?;
        let words = child::notices(catcher, bug)?;
        let behind = catcher.behind.map_or_else(String::new, |bug| format!(", with {bug}"));
        Ok(format!("{} {}{behind}{words}", catcher.suite.name(), catcher.test))
    }

    fn sum_up(self) -> ExitCode {
        println!();
        for (bug, by) in &self.caught {
            for (index, by) in by.iter().enumerate() {
                println!("{:<24} {by}", if index == 0 { bug.name() } else { "" });
            }
        }
        for (bug, why) in &self.missed {
            println!("{:<24} NOT CAUGHT: {why}", bug.name());
        }
        let verdict = if self.missed.is_empty() { "ok" } else { "FAILED" };
        let (passed, failed) = (self.caught.len(), self.missed.len());
        println!("test result: {verdict}. {passed} passed; {failed} failed; 0 ignored");
        ExitCode::from(u8::from(failed > 0))
    }
}
