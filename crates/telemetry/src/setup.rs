//! Set-up of logs, traces and metrics, once per process.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::losses::Losses;

/// What a process says about itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// `service.name`, e.g. `flyball-worker`.
    pub service: &'static str,
    /// `service.instance.id`: node name, scheduler id or a random id.
    pub instance: String,
    /// Log filter used when `FLYBALL_LOG` is not set, e.g. `info`.
    pub default_filter: &'static str,
}

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The filter in `FLYBALL_LOG` cannot be read.
    #[error("FLYBALL_LOG is not a log filter such as `info` or `flyball_worker=debug`: {0}")]
    Filter(String),
    /// The exporter refused its configuration.
    #[error("OTLP exporter: {0}")]
    Exporter(String),
    /// Another subscriber is set already.
    #[error("telemetry is set up already")]
    Twice,
}

/// Keeps the exporter alive; [`Telemetry::shutdown`] flushes it.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    losses: Losses,
    meters: Option<SdkMeterProvider>,
}

/// Longest wait for the last spans at exit. A dead collector costs its data, not our time.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Sets up logs on stderr and, when `OTEL_EXPORTER_OTLP_ENDPOINT` (or the one for traces) is set,
/// the export of spans. Must be called inside a multi-thread Tokio runtime, because the gRPC
/// exporter needs one.
///
/// # Errors
/// [`SetupError`] for an unreadable filter or exporter setting, or a second call.
pub fn init(options: &Options) -> Result<Telemetry, SetupError> {
    let losses = Losses::default();
    let provider = exports().then(|| tracer_provider(options, &losses)).transpose()?;
    let meters = exports_metrics().then(|| meter_provider(options)).transpose()?;
    let export = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("flyball")));
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::env::var_os("NO_COLOR").is_none() && is_terminal())
        .with_target(false)
        .with_filter(filter(options.default_filter)?);
    // Spans of ours are exported whatever the log level; those of libraries are not.
    let export = export.map(|layer| layer.with_filter(EnvFilter::new("off,flyball=info")));
    tracing_subscriber::registry()
        .with(export)
        .with(logs)
        .try_init()
        .map_err(|_| SetupError::Twice)?;
    if let Some(provider) = &provider {
        crate::model_call::use_tracer(provider.tracer("flyball"));
    }
    if let Some(meters) = &meters {
        opentelemetry::global::set_meter_provider(meters.clone());
        losses.tell();
    }
    Ok(Telemetry { provider, losses, meters })
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

fn filter(default: &str) -> Result<EnvFilter, SetupError> {
    let text = std::env::var("FLYBALL_LOG").unwrap_or_else(|_| default.to_owned());
    EnvFilter::try_new(&text).map_err(|error| SetupError::Filter(error.to_string()))
}

/// True when the environment asks for the export of spans.
pub fn exports() -> bool {
    wants_export("TRACES", |name| std::env::var(name).ok())
}

/// True when the environment asks for the export of metrics.
fn exports_metrics() -> bool {
    wants_export("METRICS", |name| std::env::var(name).ok())
}

/// The SDK itself reads neither `OTEL_SDK_DISABLED` nor `OTEL_…_EXPORTER`. `signal`: `TRACES` or `METRICS`.
fn wants_export(signal: &str, variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let is =
        |name: &str, value: &str| variable(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
    (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")))
        && !is("OTEL_SDK_DISABLED", "true")
        && !is(&format!("OTEL_{signal}_EXPORTER"), "none")
}

fn tracer_provider(options: &Options, losses: &Losses) -> Result<SdkTracerProvider, SetupError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .build()
        .map_err(|error| SetupError::Exporter(error.to_string()))?;
    // The batch processor's queue is bounded (OTEL_BSP_MAX_QUEUE_SIZE, 2048 spans): when the
    // collector is slow or dead, spans are dropped and work goes on.
    Ok(SdkTracerProvider::builder()
        .with_span_processor(losses.processor(exporter))
        .with_resource(resource(options))
        .build())
}

fn meter_provider(options: &Options) -> Result<SdkMeterProvider, SetupError> {
    let exporter = opentelemetry_otlp::MetricExporter::builder()
        .with_tonic()
        .build()
        .map_err(|error| SetupError::Exporter(error.to_string()))?;
    // Sums are sent every minute (OTEL_METRIC_EXPORT_INTERVAL); a dead collector costs a thread that waits.
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter);
    Ok(provider.with_resource(resource(options)).build())
}

fn resource(options: &Options) -> Resource {
    Resource::builder()
        .with_service_name(options.service)
        .with_attributes([
            KeyValue::new("service.instance.id", options.instance.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build()
}

impl Telemetry {
    /// Sends what is left, for at most one second. Runs on blocking threads, because the flush
    /// would deadlock on a runtime thread that the exporter needs.
    pub async fn shutdown(self) {
        // A failed last export loses data only, and the process is ending.
        let spans = self.provider.map(|provider| {
            tokio::task::spawn_blocking(move || drop(provider.shutdown_with_timeout(FLUSH_MAX)))
        });
        let sums = self.meters.map(|meters| {
            // It knows no timeout of its own that it keeps to.
            tokio::task::spawn_blocking(move || drop(meters.shutdown_with_timeout(FLUSH_MAX)))
        });
        for flush in [spans, sums].into_iter().flatten() {
            let _ = tokio::time::timeout(FLUSH_MAX, flush).await;
        }
        self.losses.say_last();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_needs_an_endpoint_and_no_switch_against_it() {
        let with = |pairs: &'static [(&str, &str)]| {
            wants_export("TRACES", move |name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(!with(&[]));
        assert!(with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")]));
        assert!(!with(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
            ("OTEL_TRACES_EXPORTER", "none")
        ]));
        assert!(!with(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
            ("OTEL_SDK_DISABLED", "true")
        ]));
    }
}
