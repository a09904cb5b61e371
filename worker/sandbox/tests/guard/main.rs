//! The guard against real processes. One program in three roles, as the guard has to be a process of
//! its own without threads: the tests, the guard, and a worker that can be killed.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]

mod confined;
mod deadline;
mod groups;
mod hardening;
mod harness;
mod leftovers;
mod losses;
mod steps;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("guard") => flyball_sandbox::guard_main(),
        Some("worker") => losses::worker(&arguments[1..]),
        _ => {
            let tests = [
                confined::TESTS,
                steps::TESTS,
                leftovers::TESTS,
                deadline::TESTS,
                losses::TESTS,
                hardening::TESTS,
                groups::TESTS,
            ]
            .concat();
            harness::run(&tests, &arguments)
        }
    }
}
