//! The root of a loop's trace: the span of `apply` where spans are exported, else random ids, so that
//! what comes later still shares one trace.

use flyball_telemetry::{Options, Telemetry};

/// Sets up the export of this command's spans. A client that cannot export works all the same.
pub(crate) fn start() -> Option<Telemetry> {
    let instance = format!("{:032x}", rand::random::<u128>());
    let options = Options { service: "flyball", instance, default_filter: "warn" };
    flyball_telemetry::init(&options).ok()
}

/// What the scheduler is told: the span's own context, or a new one.
pub(crate) fn traceparent(span: &tracing::Span) -> String {
    flyball_telemetry::current_traceparent(span)
        .unwrap_or_else(|| flyball_telemetry::new_traceparent(rand::random(), rand::random()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_exporter_the_ids_are_random() {
        let span = tracing::Span::none();
        let text = traceparent(&span);
        assert!(flyball_telemetry::is_traceparent(&text));
        assert_ne!(traceparent(&span), text);
    }
}
