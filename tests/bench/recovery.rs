//! How long it takes until work goes on: after a worker was killed, after one stood still, after the
//! leading scheduler was killed or asked to end, and after everything was restarted over many live
//! loops. All with the binary as it is shipped, every fence and every sync in place.
//!
//! `cargo bench -p flyball-tests --bench recovery -- [killed] [frozen] [leader] [restart] [--trials=N]
//! [--loops=N]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first fault")]

#[path = "recovery/agent.rs"]
mod agent;
#[path = "recovery/leader.rs"]
mod leader;
#[path = "recovery/reader.rs"]
mod reader;
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
    if asked.wants("leader") {
        leader::killed(asked.trials);
        leader::ended(asked.trials);
    }
    if asked.wants("restart") {
        restart::measure(asked.loops);
    }
}
