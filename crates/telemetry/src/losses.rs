//! Counts the spans that never reached the collector, and says so in the log: a collector that is dead takes no metric
//! that could tell. Nothing waits for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};

use crate::semconv;

/// Shortest time between two lines in the log: it is about telemetry only.
const SAY_AFTER: Duration = Duration::from_secs(60);

/// Spans of this process. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Losses(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Handed to the queue, which may have been full.
    ended: AtomicU64,
    /// Taken from the queue.
    taken: AtomicU64,
    /// Of these, in a batch that the collector did not take.
    failed: AtomicU64,
    /// Most spans that wait in the queue.
    queue_max: AtomicU64,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    lost: u64,
    at: Option<Instant>,
}

impl Losses {
    /// How many are lost for certain; some that the queue had no room for may count as waiting there.
    pub(crate) fn lost(&self) -> u64 {
        self.lost_but(self.0.queue_max.load(Ordering::Relaxed))
    }

    /// The same, if so many may still be sent.
    fn lost_but(&self, waiting_max: u64) -> u64 {
        // In this order, so that what is taken meanwhile is no loss.
        let ended = self.0.ended.load(Ordering::Acquire);
        let taken = self.0.taken.load(Ordering::Acquire);
        let failed = self.0.failed.load(Ordering::Acquire);
        failed + ended.saturating_sub(taken).saturating_sub(waiting_max)
    }

    /// As a metric too, for a collector that comes back.
    pub(crate) fn tell(&self) {
        let losses = self.clone();
        opentelemetry::global::meter("flyball")
            .u64_observable_counter(semconv::METRIC_SPANS_LOST)
            .with_unit("{span}")
            .with_description("spans that never reached the collector")
            .with_callback(move |observer| observer.observe(losses.lost(), &[]))
            .build();
    }

    /// Logs what was lost since the last line, now and then.
    fn say(&self, lost: u64, after: Duration) {
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        if lost <= said.lost || said.at.is_some_and(|at| at.elapsed() < after) {
            return;
        }
        *said = Said { lost, at: Some(Instant::now()) };
        drop(said);
        tracing::warn!(
            lost,
            "spans were lost since the start of this process: the collector does not take them; see \
             OTEL_EXPORTER_OTLP_ENDPOINT"
        );
    }

    /// The last word, once nothing is sent any more.
    pub(crate) fn say_last(&self) {
        self.say(self.lost_but(0), Duration::ZERO);
    }

    /// A processor with a bounded queue, whose losses are counted here.
    pub(crate) fn processor<E: SpanExporter + 'static>(
        &self,
        exporter: E,
    ) -> impl SpanProcessor + use<E> {
        self.0.queue_max.store(queue_max(), Ordering::Relaxed);
        let exporter = Counted { exporter, losses: self.clone() };
        let batch = BatchSpanProcessor::builder(exporter).build();
        Counting { batch, losses: self.clone() }
    }
}

/// Size of the queue, as the SDK takes it from the environment.
fn queue_max() -> u64 {
    let set = std::env::var("OTEL_BSP_MAX_QUEUE_SIZE").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(2048)
}

/// In front of the queue.
#[derive(Debug)]
struct Counting {
    batch: BatchSpanProcessor,
    losses: Losses,
}

impl SpanProcessor for Counting {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batch.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.losses.0.ended.fetch_add(1, Ordering::Release);
        }
        self.batch.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batch.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batch.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batch.set_resource(resource);
    }
}

/// Behind the queue.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    losses: Losses,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let counts = &self.losses.0;
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        counts.taken.fetch_add(count, Ordering::Release);
        let exported = self.exporter.export(batch).await;
        if exported.is_err() {
            counts.failed.fetch_add(count, Ordering::Release);
        }
        self.losses.say(self.losses.lost(), SAY_AFTER);
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    /// A collector that takes nothing, or everything.
    #[derive(Debug)]
    struct Collector {
        takes: bool,
    }

    impl SpanExporter for Collector {
        async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
            if self.takes { Ok(()) } else { Err(OTelSdkError::InternalFailure("dead".to_owned())) }
        }
    }

    fn lost_of(takes: bool) -> u64 {
        let losses = Losses::default();
        let processor = losses.processor(Collector { takes });
        let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
        let tracer = provider.tracer("flyball");
        for _ in 0..100 {
            drop(tracer.start("span"));
        }
        provider.force_flush().ok();
        let lost = losses.lost();
        provider.shutdown().ok();
        lost
    }

    #[test]
    fn what_the_collector_does_not_take_is_counted() {
        assert_eq!(lost_of(true), 0);
        assert_eq!(lost_of(false), 100);
    }

    #[test]
    fn what_the_queue_had_no_room_for_is_counted() {
        let losses = Losses::default();
        losses.0.ended.store(50, Ordering::Relaxed);
        losses.0.taken.store(20, Ordering::Relaxed);
        losses.0.failed.store(5, Ordering::Relaxed);
        losses.0.queue_max.store(8, Ordering::Relaxed);
        assert_eq!((losses.lost(), losses.lost_but(0)), (27, 35));
        losses.0.queue_max.store(2048, Ordering::Relaxed);
        assert_eq!(losses.lost(), 5, "they may all wait there");
    }
}
