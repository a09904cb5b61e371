//! The delays, by what happened and what the guard had.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::trial::{Outcome, Plan};

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
