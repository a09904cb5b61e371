//! Ownership as a whole, in one thread and without any input or output: the real lease clock, resource
//! sets and claim index in a model of everything around them, under faults that a seed decides.
//!
//! `cargo test -p flyball-tests --test ownership` plays a bounded share; `-- --handovers 1000000` goes on
//! until there were so many; `-- --seed 7` replays one seed and says all that happens.
#![expect(clippy::print_stdout, reason = "a test program")]

mod dice;
mod judge;
mod node;
mod run;
mod scheduler;
mod sets;
mod store;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use judge::Counts;
use world::World;

/// Without being told otherwise: so many handovers, and no new seed after this time.
const HANDOVERS: u64 = 20_000;
const TIME_MAX: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|word| word == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    if arguments.iter().any(|word| word == "--list") {
        println!("ownership: test");
        return ExitCode::SUCCESS;
    }
    let violation = match number("--seed") {
        Some(seed) => replay(seed),
        None => play(number("--handovers"), number("--from").unwrap_or(1)),
    };
    let verdict = if violation.is_none() { "ok" } else { "FAILED" };
    if let Some(violation) = &violation {
        println!("{violation}");
    }
    let failed = u8::from(violation.is_some());
    println!("test ownership ... {verdict}");
    println!("test result: {verdict}. {} passed; {failed} failed; 0 ignored", 1 - failed);
    ExitCode::from(failed)
}

fn replay(seed: u64) -> Option<String> {
    let mut world = World::new(seed, true);
    world.run();
    println!("{:?}", world.judge.counts);
    world.judge.violation
}

/// Plays seeds until there were enough handovers, or without a wish for so many, enough time.
fn play(handovers: Option<u64>, first: u64) -> Option<String> {
    let (began, mut total, mut seed) = (Instant::now(), Counts::default(), first);
    let violation = loop {
        let mut world = World::new(seed, false);
        world.run();
        total.add(&world.judge.counts);
        if let Some(violation) = world.judge.violation {
            break Some(format!(
                "seed {seed}: {violation}\nreplay: cargo test -p flyball-tests --test ownership -- --seed {seed}"
            ));
        }
        let enough = match handovers {
            Some(wanted) => total.handovers >= wanted && total.faults >= wanted,
            None => total.handovers >= HANDOVERS || began.elapsed() > TIME_MAX,
        };
        if enough {
            break None;
        }
        seed += 1;
    };
    println!("seeds {first} to {seed} in {:.1} s: {total:?}", began.elapsed().as_secs_f64());
    violation
}
