//! Telemetry set-up, names and propagation: logs for people on stderr, and OpenTelemetry traces
//! when an endpoint is configured. The only crate that names the exporter.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod propagation;
pub mod semconv;
mod setup;

pub use propagation::{continue_trace, current_traceparent, is_traceparent, new_traceparent};
pub use setup::{Options, SetupError, Telemetry, exports, init};
