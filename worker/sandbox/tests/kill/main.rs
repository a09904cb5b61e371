//! The kill proof: whatever becomes of a worker, nothing of its runs is alive after the deadline and
//! the kill budget, nor that time after its death, and nothing at all once somebody has been told that nothing is.
//!
//! Real processes: a worker that holds a real guard and a lease of some hundred milliseconds (far longer ones
//! where it is killed, so that a guard that does nothing before the deadline is late), and an agent that
//! double-forks, daemonises, leaves its session, ignores every signal that can be ignored and runs a program
//! that is no file. The worker is stopped, killed, or asks for the kill itself.
//!
//! `FLYBALL_KILL_TRIALS` sets the number of trials with a stopped or killed worker (200), `--list`
//! and filters work as in other tests. Judged is the kill budget that the workers are configured with. The delays are
//! printed, and how they stand to the budgets that are shipped and to the goal.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test program"
)]

mod agent;
mod figures;
mod mark;
mod trial;
mod worker;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use figures::Figures;
use trial::{Means, Plan};
use worker::Fate;

/// Trials with a stopped or a killed worker, half each.
const TRIALS: usize = 200;
/// One more in so many trials: the worker asks for the kill and looks at once.
const ASKED_EVERY: usize = 4;
/// Trials at a time: each waits most of its time.
const AT_A_TIME: usize = 8;
/// So many failures say enough.
const FAILURES_MAX: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("guard") => flyball_sandbox::guard_main(),
        Some("worker") => worker::main(&arguments[1..]),
        Some("report-gone") => worker::reporter(),
        Some("no-file") => agent::become_no_file(),
        _ => run(&arguments),
    }
}

/// All trials of one run of this program.
fn plans() -> Vec<Plan> {
    let wanted = std::env::var("FLYBALL_KILL_TRIALS").ok();
    let trials = wanted.map_or(TRIALS, |text| text.parse().expect("FLYBALL_KILL_TRIALS: a number"));
    let fates = |number: usize| match number % 2 {
        0 => Fate::Stopped,
        _ => Fate::Killed,
    };
    let asked = trials.div_ceil(ASKED_EVERY);
    let fates = (0..trials).map(fates).chain((0..asked).map(|_| Fate::Asks));
    // Every fate goes round all means.
    fates
        .enumerate()
        .map(|(n, fate)| Plan { number: n, fate, means: Means::ALL[n / 2 % 4] })
        .collect()
}

fn run(arguments: &[String]) -> ExitCode {
    let filters: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let name = "nothing_is_alive_after_the_deadline";
    if !filters.is_empty() && !filters.iter().any(|filter| name.contains(*filter)) {
        println!("test result: ok. 0 passed; 0 failed; 0 ignored");
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|word| word == "--list") {
        println!("{name}: test");
        return ExitCode::SUCCESS;
    }
    let plans = plans();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let figures = Mutex::new(Figures::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) < FAILURES_MAX {
                    let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        return;
                    };
                    match trial::run(plan) {
                        Ok(outcome) => figures.lock().unwrap().add(plan, &outcome),
                        Err(why) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!("trial {}, {}: {why}", plan.number, plan.name());
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    figures.into_inner().unwrap().print();
    let (verdict, passed) = if failed == 0 { ("ok", 1) } else { ("FAILED", 0) };
    println!("test {name} ... {verdict}");
    println!("test result: {verdict}. {passed} passed; {} failed; 0 ignored", 1 - passed);
    ExitCode::from(u8::from(failed > 0))
}
