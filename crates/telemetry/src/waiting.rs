//! What holds model calls up, as metrics: room that a provider's account has not, and deployments that are left alone
//! after failures.

use std::sync::LazyLock;
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, UpDownCounter};

use crate::semconv;
use crate::spending::histogram;

struct Metrics {
    waiting: UpDownCounter<i64>,
    wait: Histogram<f64>,
    rests: Counter<u64>,
}

/// Seconds: a provider's window is a minute, and a call waits for as long as its gateway lets it.
const SECONDS: [f64; 10] = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

// Made at the first use, which is after the exporter was set up.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = opentelemetry::global::meter("flyball");
    Metrics {
        waiting: meter
            .i64_up_down_counter(semconv::METRIC_QUOTA_WAITING)
            .with_unit("{call}")
            .with_description("calls that wait for room in a provider's account now")
            .build(),
        wait: histogram(
            &meter,
            (semconv::METRIC_QUOTA_WAIT, "s"),
            "time that calls waited for room in a provider's account",
            SECONDS.to_vec(),
        ),
        rests: meter
            .u64_counter(semconv::METRIC_RESTS)
            .with_unit("{rest}")
            .with_description("times that a deployment was left alone after failures")
            .build(),
    }
});

/// A call that waits for room in a provider's account. Dropped without [`QuotaWait::found`], it found none in its
/// time, or its client went away.
#[derive(Debug)]
pub struct QuotaWait {
    provider: KeyValue,
    since: Instant,
    found: bool,
}

impl QuotaWait {
    /// It has waited since then.
    pub fn begin(provider: &str, since: Instant) -> Self {
        let provider = KeyValue::new("gen_ai.provider.name", provider.to_owned());
        METRICS.waiting.add(1, std::slice::from_ref(&provider));
        Self { provider, since, found: false }
    }

    /// There is room.
    pub fn found(mut self) {
        self.found = true;
    }
}

impl Drop for QuotaWait {
    fn drop(&mut self) {
        METRICS.waiting.add(-1, std::slice::from_ref(&self.provider));
        let mut labels = vec![self.provider.clone()];
        if !self.found {
            labels.push(KeyValue::new("error.type", "quota"));
        }
        METRICS.wait.record(self.since.elapsed().as_secs_f64(), &labels);
    }
}

/// Tells of a deployment that failed too often, or said so itself, and is left alone for a while. `known`: whether some
/// table or definition names the model; others share one label.
pub fn record_rest(provider: &str, model: &str, known: bool) {
    let model = if known { model } else { "other" };
    let labels = [
        KeyValue::new("gen_ai.provider.name", provider.to_owned()),
        KeyValue::new("gen_ai.request.model", model.to_owned()),
    ];
    METRICS.rests.add(1, &labels);
}
