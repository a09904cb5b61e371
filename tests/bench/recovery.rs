//! How long it takes until work goes on: after a worker was killed, after one stood still or was cut off, after
//! the leading scheduler was killed or asked to end, and after everything was restarted over many live
//! loops. Every fence and every sync is in place. The program is an optimised build of the tests: it differs from
//! the one that is shipped in that bugs could be planted in it, of which there are none here; each place where one
//! could be costs a look at an empty list.
//!
//! `cargo bench -p flyball-tests --bench recovery -- [killed] [frozen] [cut] [leader] [restart] [--trials=N]
//! [--loops=N]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first fault")]

#[path = "recovery/agent.rs"]
mod agent;
#[path = "recovery/leader.rs"]
mod leader;
#[path = "recovery/reader.rs"]
mod reader;
#[path = "recovery/relay.rs"]
mod relay;
#[path = "recovery/restart.rs"]
mod restart;
#[path = "recovery/simulated.rs"]
mod simulated;
#[path = "recovery/worker.rs"]
mod worker;

use flyball_tests::measure::Samples;

/// What was asked for on the command line.
struct Asked {
    names: Vec<String>,
    trials: usize,
    loops: usize,
}

impl Asked {
    fn read() -> Self {
        let mut asked = Self { names: Vec::new(), trials: 30, loops: 10_000 };
        for argument in std::env::args().skip(1) {
            if let Some(trials) = argument.strip_prefix("--trials=") {
                asked.trials = trials.parse().unwrap();
            } else if let Some(loops) = argument.strip_prefix("--loops=") {
                asked.loops = loops.parse().unwrap();
            } else if !argument.starts_with('-') {
                asked.names.push(argument);
            }
        }
        asked
    }

    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }
}

/// One line of a distribution.
fn show(what: &str, samples: &Samples, unit: &str) {
    let [p50, p90, most] = [0.5, 0.9, 1.0].map(|share| samples.quantile(share));
    println!("  {what}: p50 {p50:.1}, p90 {p90:.1}, max {most:.1} {unit} ({})", samples.len());
}

fn main() {
    if reader::is_asked() {
        return reader::act();
    }
    if agent::is_asked() {
        return agent::act();
    }
    let asked = Asked::read();
    if asked.wants("killed") {
        worker::killed(asked.trials);
    }
    if asked.wants("frozen") {
        worker::frozen(asked.trials);
    }
    if asked.wants("cut") {
        worker::cut(asked.trials);
    }
    if asked.wants("leader") {
        leader::killed(asked.trials);
        leader::ended(asked.trials);
    }
    if asked.wants("restart") {
        restart::measure(asked.loops, asked.trials);
    }
}
