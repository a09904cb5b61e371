//! What loops and their iterations cost, as metrics. By agent only: a loop's name is on spans, and would make a series of
//! each loop here.

use std::sync::LazyLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

use crate::semconv;

/// What an iteration in which an agent acted has used, as its gateway metered it.
#[derive(Debug, Clone, Copy)]
pub struct IterationSpending<'a> {
    /// The agent's name; a plain command has none.
    pub agent: &'a str,
    /// What its calls cost.
    pub micro_dollars: u64,
    /// Calls that were answered.
    pub answered: u64,
    /// Of these, those that a stronger tier served than the route's first.
    pub escalated: u64,
    /// Tokens by the agent's own account less those that were metered; absent if it gave none.
    pub tokens_off: Option<i64>,
}

struct Metrics {
    iteration_cost: Histogram<f64>,
    escalation: Histogram<f64>,
    tokens_off: Histogram<u64>,
    loop_cost: Histogram<f64>,
}

/// Dollars: from a hundredth of a cent on, each bound twice the one before.
fn dollar_bounds() -> Vec<f64> {
    (0..22).map(|power| 0.0001 * 2_f64.powi(power)).collect()
}

pub(crate) fn histogram(
    meter: &Meter,
    (name, unit): (&'static str, &'static str),
    what: &'static str,
    bounds: Vec<f64>,
) -> Histogram<f64> {
    let histogram = meter.f64_histogram(name).with_unit(unit).with_description(what);
    histogram.with_boundaries(bounds).build()
}

// Made when the first iteration ends, which is after the exporter was set up.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = opentelemetry::global::meter("flyball");
    Metrics {
        iteration_cost: histogram(
            &meter,
            (semconv::METRIC_ITERATION_COST, "USD"),
            "what the model calls of one iteration cost",
            dollar_bounds(),
        ),
        escalation: histogram(
            &meter,
            (semconv::METRIC_ITERATION_ESCALATION, "1"),
            "part of an iteration's answered calls that a stronger tier served than the first",
            (1..=10_u8).map(|tenth| f64::from(tenth) / 10.0).collect(),
        ),
        tokens_off: meter
            .u64_histogram(semconv::METRIC_TOKENS_OFF)
            .with_unit("{token}")
            .with_description("difference between an agent's own count of tokens and the gateway's")
            .with_boundaries(
                [0.0].into_iter().chain((0..12).map(|power| 4_f64.powi(power))).collect(),
            )
            .build(),
        loop_cost: histogram(
            &meter,
            (semconv::METRIC_LOOP_COST, "USD"),
            "what a loop that converged has cost in all its runs",
            dollar_bounds(),
        ),
    }
});

fn dollars(micro_dollars: u64) -> f64 {
    micro_dollars as f64 / 1e6
}

/// Tells of an iteration whose agent has ended.
pub fn record_iteration(spending: &IterationSpending<'_>) {
    let agent = if spending.agent.is_empty() { "command" } else { spending.agent };
    let label = KeyValue::new(semconv::AGENT_NAME, agent.to_owned());
    let labels = std::slice::from_ref(&label);
    METRICS.iteration_cost.record(dollars(spending.micro_dollars), labels);
    if spending.answered > 0 {
        let part = spending.escalated as f64 / spending.answered as f64;
        METRICS.escalation.record(part, labels);
    }
    if let Some(off) = spending.tokens_off {
        let direction = match off {
            ..0 => "under",
            0 => "equal",
            1.. => "over",
        };
        let labels = [label, KeyValue::new(semconv::DIRECTION, direction)];
        METRICS.tokens_off.record(off.unsigned_abs(), &labels);
    }
}

/// Tells what a loop that has converged cost, from its first run on.
pub fn record_converged(micro_dollars: u64) {
    METRICS.loop_cost.record(dollars(micro_dollars), &[]);
}
