//! Real agents in real loops: each mends a failing test in a real repository, through the run's gateway and inside
//! the sandbox, against a provider that speaks the genuine wire protocols by script and counts what it served. The
//! built-in agent always runs. The command line agents run where they are cached:
//! `cargo test -p flyball-tests --test agents -- --install` installs them and runs all. With `--real-model` a real,
//! small model is fetched, and only the tests with it run.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]

mod cases;
mod install;
mod real;
mod scene;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        return ExitCode::SUCCESS;
    }
    if has("--install")
        && let Err(why) = install::install()
    {
        println!("cannot install the agents: {why}");
        return ExitCode::FAILURE;
    }
    if has("--real-model") {
        return real_model(&arguments);
    }
    let filter = arguments.iter().find(|word| !word.starts_with('-'));
    let (mut passed, mut ignored, mut failed) = (0, 0, Vec::new());
    for case in cases::all() {
        if filter.is_some_and(|word| !case.name.contains(word.as_str())) {
            continue;
        }
        let installed = match case.preset {
            Some(preset) => match install::find(preset) {
                Some(installed) => Some(installed),
                None => {
                    println!(
                        "!!! SKIPPED {}: {preset} is not in {}",
                        case.name,
                        install::dir().display()
                    );
                    ignored += 1;
                    continue;
                }
            },
            None => None,
        };
        match catch_unwind(AssertUnwindSafe(|| (case.run)(installed.as_ref()))) {
            Ok(()) => {
                println!("test {} ... ok", case.name);
                passed += 1;
            }
            Err(_) => {
                println!("test {} ... FAILED", case.name);
                failed.push(case.name);
            }
        }
    }
    if ignored > 0 {
        println!(
            "!!! {ignored} tests with real command line agents did not run. To install and run them:"
        );
        println!("!!!     cargo test -p flyball-tests --test agents -- --install");
    }
    println!(
        "!!! {} tests with a real model did not run. To fetch it and run them:",
        real::CASES.len()
    );
    println!("!!!     cargo test -p flyball-tests --test agents -- --real-model");
    ignored += real::CASES.len();
    verdict(passed, &failed, ignored)
}

/// The tests with a real model, and nothing else.
fn real_model(arguments: &[String]) -> ExitCode {
    if let Err(why) = real::install() {
        println!("cannot fetch the model: {why}");
        return ExitCode::FAILURE;
    }
    let filter = arguments.iter().find(|word| !word.starts_with('-'));
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, case) in real::CASES {
        if filter.is_some_and(|word| !name.contains(word.as_str())) {
            continue;
        }
        if catch_unwind(case).is_ok() {
            println!("test {name} ... ok");
            passed += 1;
        } else {
            println!("test {name} ... FAILED");
            failed.push(name);
        }
    }
    verdict(passed, &failed, 0)
}

fn verdict(passed: usize, failed: &[&str], ignored: usize) -> ExitCode {
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("failed: {failed:?}");
    println!("test result: {verdict}. {passed} passed; {} failed; {ignored} ignored", failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}
