//! The delays, by what happened and what the guard had.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_sandbox::KILL_BUDGET_DEFAULT;

use crate::trial::{Outcome, Plan};

/// Default kill budget of a worker with the shortest lease, two seconds: a fifth of it.
const SHORTEST_BUDGET: Duration = Duration::from_millis(400);
/// What 99 of 100 kills are to take at most, on a quiet machine.
const GOAL_P99: Duration = Duration::from_millis(100);

/// Delays of all trials.
#[derive(Default)]
pub(crate) struct Figures(BTreeMap<String, Vec<Option<Duration>>>);

impl Figures {
    pub(crate) fn add(&mut self, plan: &Plan, outcome: &Outcome) {
        let name = format!("{:?}, {} (has {})", plan.fate, plan.means.name(), outcome.had);
        self.0.entry(name).or_default().push(outcome.delay);
    }

    pub(crate) fn print(&self) {
        println!("delay from the deadline (worker stopped) or from its death to the last process:");
        let mut all = Vec::new();
        for (name, delays) in &self.0 {
            let mut known: Vec<Duration> = delays.iter().copied().flatten().collect();
            all.extend(&known);
            println!("  {name}: {} trials{}", delays.len(), summary(&mut known));
        }
        println!(
            "  all: {} trials{}",
            self.0.values().map(Vec::len).sum::<usize>(),
            summary(&mut all)
        );
        let over = |bound: Duration| all.iter().filter(|delay| **delay > bound).count();
        println!(
            "  later than the default budget ({} ms): {}; than that of the shortest lease ({} ms): {}; p99 of at most {} ms: {}",
            KILL_BUDGET_DEFAULT.as_millis(),
            over(KILL_BUDGET_DEFAULT),
            SHORTEST_BUDGET.as_millis(),
            over(SHORTEST_BUDGET),
            GOAL_P99.as_millis(),
            if over(GOAL_P99) * 100 <= all.len() { "met" } else { "missed" }
        );
    }
}

fn summary(delays: &mut [Duration]) -> String {
    delays.sort_unstable();
    let at = |percent: usize| {
        let index = (delays.len() * percent).div_ceil(100).saturating_sub(1);
        delays.get(index).map_or(0.0, |delay| delay.as_secs_f64() * 1000.0)
    };
    match delays.is_empty() {
        true => String::new(),
        false => format!(", p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(50), at(99), at(100)),
    }
}
