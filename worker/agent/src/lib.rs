//! The built-in agent: a small loop in which a model calls tools (shell, read, edit, write, report) until it has
//! made its one change. It runs inside the sandbox like any other agent, speaks to the run's gateway only, and knows
//! nothing of the rest of Flyball but the brief.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod config;
mod events;
mod http;
mod shell;
mod speak;
mod sse;
mod talk;
mod tools;
mod work;

use std::io::Write;
use std::process::ExitCode;

pub use config::Bounds;
use events::Events;

/// Runs the agent to its end. `variable` looks its settings up, `out` takes its events, one JSON document a line.
/// Success means that it ended as it should, not that its change is any good.
pub fn run(
    bounds: Bounds,
    variable: impl Fn(&str) -> Option<String>,
    out: &mut dyn Write,
) -> ExitCode {
    let mut events = Events::new(out);
    let config = match config::Config::of(bounds, variable) {
        Ok(config) => config,
        Err(why) => {
            events.ended(
                &work::Ended::failed("setting", why),
                0,
                &flyball_core::model::Usage::default(),
            );
            return ExitCode::from(2);
        }
    };
    if work::Work::new(&config, &mut events).run() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
