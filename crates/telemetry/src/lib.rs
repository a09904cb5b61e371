//! Telemetry set-up, names and propagation: logs for people on stderr, and OpenTelemetry traces and
//! metrics when an endpoint is configured. The only crate that names the exporter.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod losses;
mod model_call;
mod propagation;
pub mod semconv;
mod setup;
mod spending;
mod waiting;

pub use model_call::{ModelCall, record_model_call};
pub use propagation::{continue_trace, current_traceparent, is_traceparent, new_traceparent};
pub use setup::{Options, SetupError, Telemetry, exports, init};
pub use spending::{IterationSpending, record_converged, record_iteration};
pub use waiting::{QuotaWait, record_rest};
