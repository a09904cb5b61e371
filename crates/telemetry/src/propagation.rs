//! W3C trace context as text: what is stored with a loop, sent to workers and put into the
//! environment of agents.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Version 00, sampled, from random ids given by the caller.
pub fn new_traceparent(trace_id: u128, span_id: u64) -> String {
    // All-zero ids are invalid (W3C Trace Context, section 3.2.2.3).
    format!("00-{:032x}-{:016x}-01", trace_id.max(1), span_id.max(1))
}

/// True for a well-formed `traceparent` of version 00.
pub fn is_traceparent(text: &str) -> bool {
    parse(text).is_some()
}

/// Makes `span` a child of the stored context. Must be called before the span is entered. Without
/// an exporter, or for a malformed context, it does nothing.
pub fn continue_trace(span: &Span, traceparent: &str) {
    if let Some(parent) = parse(traceparent) {
        let context = opentelemetry::Context::new().with_remote_span_context(parent);
        // Fails only when no exporter is set up, where there is nothing to continue.
        let _ = span.set_parent(context);
    }
}

/// The current span as a `traceparent`, or `None` when no exporter is set up.
pub fn current_traceparent(span: &Span) -> Option<String> {
    let context = span.context();
    let current = context.span().span_context().clone();
    current.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            current.trace_id(),
            current.span_id(),
            current.trace_flags().to_u8()
        )
    })
}

pub(crate) fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lengths = trace.len() == 32 && span.len() == 16 && flags.len() == 2;
    if version != "00" || !lengths || parts.next().is_some() {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_contexts_are_valid() {
        assert!(is_traceparent(&new_traceparent(7, 9)));
        assert!(is_traceparent(&new_traceparent(0, 0)));
    }

    #[test]
    fn malformed_contexts_are_refused() {
        for bad in ["", "00-", "01-00000000000000000000000000000007-0000000000000009-01", "x"] {
            assert!(!is_traceparent(bad), "{bad}");
        }
        assert!(!is_traceparent(&format!("00-{}-{}-01", "0".repeat(32), "0".repeat(16))));
    }
}
