//! Set-up of logs and traces, once per process.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

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
    let provider = exports().then(|| tracer_provider(options)).transpose()?;
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
    Ok(Telemetry { provider })
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
    wants_export(|name| std::env::var(name).ok())
}

/// The SDK itself reads neither `OTEL_SDK_DISABLED` nor `OTEL_TRACES_EXPORTER`.
fn wants_export(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let is =
        |name: &str, value: &str| variable(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
    (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
        && !is("OTEL_SDK_DISABLED", "true")
        && !is("OTEL_TRACES_EXPORTER", "none")
}

fn tracer_provider(options: &Options) -> Result<SdkTracerProvider, SetupError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .build()
        .map_err(|error| SetupError::Exporter(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name(options.service)
        .with_attributes([
            KeyValue::new("service.instance.id", options.instance.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build();
    // The batch processor's queue is bounded (OTEL_BSP_MAX_QUEUE_SIZE, 2048 spans): when the
    // collector is slow or dead, spans are dropped and work goes on.
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

impl Telemetry {
    /// Sends what is left, for at most one second. Runs on a blocking thread, because the flush
    /// would deadlock on a runtime thread that the exporter needs.
    pub async fn shutdown(self) {
        if let Some(provider) = self.provider {
            let flush = tokio::task::spawn_blocking(move || {
                // A failed last export loses data only, and the process is ending.
                let _ = provider.shutdown_with_timeout(FLUSH_MAX);
            });
            let _ = flush.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_needs_an_endpoint_and_no_switch_against_it() {
        let with = |pairs: &'static [(&str, &str)]| {
            wants_export(move |name| {
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
