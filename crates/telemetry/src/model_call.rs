//! A model call as telemetry: one span and a handful of metrics, by the GenAI conventions (v1.41) where they have a
//! name. Content is in neither.

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::SdkTracer;

use crate::propagation::parse;
use crate::semconv;

/// Where spans go that are told at their end; absent without an exporter.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// What became of one call of a model.
#[derive(Debug, Clone, Copy)]
#[expect(
    missing_docs,
    reason = "the fields are what their names say; units where they are not plain"
)]
pub struct ModelCall<'a> {
    /// The trace it belongs to: the client's own, or the run's.
    pub traceparent: Option<&'a str>,
    /// From the request's head to the answer's last byte.
    pub duration: Duration,
    /// To the answer's first byte.
    pub first_chunk: Option<Duration>,
    pub protocol: &'a str,
    pub requested_model: &'a str,
    pub stream: bool,
    pub max_output: Option<u64>,
    pub subtask: &'a str,
    pub session: Option<&'a str>,
    pub route: &'a str,
    pub route_why: &'a str,
    pub tier: &'a str,
    pub tier_why: &'a str,
    /// A stronger tier than the route's first was chosen.
    pub escalated: bool,
    pub provider: &'a str,
    /// The model's name there.
    pub model: &'a str,
    /// Whether some table or definition names the model; others share one label.
    pub model_known: bool,
    pub address: Option<(&'a str, u16)>,
    pub tries: u32,
    /// Deployments that failed before, each with why.
    pub chain: &'a [String],
    pub response_model: Option<&'a str>,
    pub response_id: Option<&'a str>,
    pub finish: Option<&'a str>,
    /// Of all tries, what was read from a cache and written to one included.
    pub input_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_write_tokens: u64,
    /// Reasoning included.
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    pub micro_dollars: u64,
    /// The provider did not tell what it used.
    pub estimated: bool,
    /// Why it failed or was refused: a word, and perhaps more behind a colon.
    pub error: Option<&'a str>,
    pub request_id: &'a str,
    pub namespace: &'a str,
    pub loop_name: &'a str,
    pub loop_uid: &'a str,
    pub token: u64,
    pub node: &'a str,
    pub iteration: u64,
    /// The file that holds its content, where that is kept.
    pub content: Option<&'a str>,
}

/// Told once per process, when an exporter is set up.
pub(crate) fn use_tracer(tracer: SdkTracer) {
    // A second one cannot be set up: `init` refuses it.
    let _ = TRACER.set(tracer);
}

struct Metrics {
    tokens: Histogram<u64>,
    duration: Histogram<f64>,
    first_chunk: Histogram<f64>,
    cost: Counter<f64>,
    calls: Counter<u64>,
    escalations: Counter<u64>,
    refusals: Counter<u64>,
    retries: Counter<u64>,
}

/// Seconds, for durations of calls and times to their first chunk.
const SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// Tokens: powers of four.
fn token_bounds() -> Vec<f64> {
    (0..14).map(|power| 4_f64.powi(power)).collect()
}

// Made at the first call, which is after the exporter was set up.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let meter = opentelemetry::global::meter("flyball");
    let seconds = |name, what| {
        let bounds = SECONDS.to_vec();
        meter
            .f64_histogram(name)
            .with_unit("s")
            .with_description(what)
            .with_boundaries(bounds)
            .build()
    };
    let counter =
        |name, unit, what| meter.u64_counter(name).with_unit(unit).with_description(what).build();
    Metrics {
        tokens: meter
            .u64_histogram(semconv::METRIC_TOKENS)
            .with_unit("{token}")
            .with_description("tokens of a call, by kind")
            .with_boundaries(token_bounds())
            .build(),
        duration: seconds(semconv::METRIC_DURATION, "time from a call to the end of its answer"),
        first_chunk: seconds(semconv::METRIC_FIRST_CHUNK, "time to the first byte of an answer"),
        cost: meter
            .f64_counter(semconv::METRIC_COST)
            .with_unit("USD")
            .with_description("what calls cost by the price table")
            .build(),
        calls: counter(semconv::METRIC_CALLS, "{call}", "calls that were answered"),
        escalations: counter(
            semconv::METRIC_ESCALATIONS,
            "{call}",
            "answered calls that went to a stronger tier than the first",
        ),
        refusals: counter(
            semconv::METRIC_REFUSALS,
            "{call}",
            "calls that were refused, failed at every provider or were cut off",
        ),
        retries: counter(semconv::METRIC_RETRIES, "{call}", "tries after a failed one"),
    }
});

/// Tells of a call that has ended. Costs a few microseconds, whatever becomes of the collector: spans wait in a bounded
/// queue, metrics are sums.
pub fn record_model_call(call: &ModelCall<'_>) {
    count(call);
    if let Some(tracer) = TRACER.get() {
        span(tracer, call);
    }
}

/// The label of an error: what stands before the first colon.
fn error_type<'a>(call: &ModelCall<'a>) -> Option<&'a str> {
    call.error.map(|error| error.split(':').next().unwrap_or(error))
}

fn text(text: &str) -> Value {
    Value::String(StringValue::from(text.to_owned()))
}

fn count(call: &ModelCall<'_>) {
    let metrics = &*METRICS;
    let model = if call.model_known { call.model } else { "other" };
    let mut labels = vec![
        KeyValue::new("gen_ai.operation.name", "chat"),
        KeyValue::new("gen_ai.provider.name", text(call.provider)),
        KeyValue::new("gen_ai.request.model", text(model)),
        KeyValue::new(semconv::ROUTE, text(call.route)),
        KeyValue::new(semconv::SUBTASK, text(call.subtask)),
    ];
    match error_type(call) {
        None => metrics.calls.add(1, &labels),
        Some(error) => {
            labels.push(KeyValue::new("error.type", text(error)));
            metrics.refusals.add(1, &labels);
        }
    }
    metrics.duration.record(call.duration.as_secs_f64(), &labels);
    if let Some(first) = call.first_chunk {
        metrics.first_chunk.record(first.as_secs_f64(), &labels);
    }
    if call.tries > 1 {
        metrics.retries.add(u64::from(call.tries - 1), &labels);
    }
    if call.escalated && call.error.is_none() {
        let reason = KeyValue::new(semconv::REASON, "stall");
        let labels = [labels.as_slice(), &[reason]].concat();
        metrics.escalations.add(1, &labels);
    }
    if call.micro_dollars > 0 {
        metrics.cost.add(call.micro_dollars as f64 / 1e6, &labels);
    }
    for (kind, tokens) in [("input", call.input_tokens), ("output", call.output_tokens)] {
        if tokens > 0 {
            let kind = KeyValue::new("gen_ai.token.type", kind);
            metrics.tokens.record(tokens, &[labels.as_slice(), &[kind]].concat());
        }
    }
}

/// Tokens and numbers as telemetry has them.
fn number(number: u64) -> Value {
    Value::I64(i64::try_from(number).unwrap_or(i64::MAX))
}

fn span(tracer: &SdkTracer, call: &ModelCall<'_>) {
    let parent = call
        .traceparent
        .and_then(parse)
        .map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
    let model = if call.model.is_empty() { call.requested_model } else { call.model };
    // Told at its end, so that everything is known when a sampler looks at it.
    let begun = opentelemetry::time::now() - call.duration;
    let builder = tracer
        .span_builder(format!("chat {model}"))
        .with_kind(SpanKind::Client)
        .with_start_time(begun)
        .with_attributes(attributes(call));
    let mut span = tracer.build_with_context(builder, &parent);
    if let Some(error) = call.error {
        span.set_status(Status::error(error.to_owned()));
    }
    span.end();
}

fn attributes(call: &ModelCall<'_>) -> Vec<KeyValue> {
    let mut found = Vec::with_capacity(40);
    let mut add = |name: &'static str, value: Value| found.push(KeyValue::new(name, value));
    add("gen_ai.operation.name", text("chat"));
    add("gen_ai.provider.name", text(call.provider));
    add("gen_ai.request.model", text(call.requested_model));
    add("gen_ai.request.stream", Value::Bool(call.stream));
    add(semconv::PROTOCOL, text(call.protocol));
    add(semconv::SERVED_MODEL, text(call.model));
    add(semconv::ROUTE, text(call.route));
    add(semconv::ROUTE_REASON, text(call.route_why));
    add(semconv::TIER, text(call.tier));
    add(semconv::TIER_REASON, text(call.tier_why));
    add(semconv::ESCALATED, Value::Bool(call.escalated));
    add(semconv::SUBTASK, text(call.subtask));
    add(semconv::TRIES, number(call.tries.into()));
    add("gen_ai.usage.input_tokens", number(call.input_tokens));
    add("gen_ai.usage.cache_read.input_tokens", number(call.cache_read_tokens));
    add("gen_ai.usage.cache_creation.input_tokens", number(call.cache_write_tokens));
    add("gen_ai.usage.output_tokens", number(call.output_tokens));
    add("gen_ai.usage.reasoning.output_tokens", number(call.reasoning_tokens));
    add(semconv::COST, Value::F64(call.micro_dollars as f64 / 1e6));
    add(semconv::ESTIMATED, Value::Bool(call.estimated));
    add(semconv::REQUEST_ID, text(call.request_id));
    add(semconv::LOOP, text(&format!("{}/{}", call.namespace, call.loop_name)));
    add(semconv::LOOP_UID, text(call.loop_uid));
    add(semconv::TOKEN, number(call.token));
    add(semconv::NODE, text(call.node));
    add(semconv::ITERATION, number(call.iteration));
    let optional = [
        ("gen_ai.response.model", call.response_model),
        ("gen_ai.response.id", call.response_id),
        ("gen_ai.conversation.id", call.session),
        ("error.type", error_type(call)),
        (semconv::CONTENT_FILE, call.content),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            add(name, text(value));
        }
    }
    if let Some(most) = call.max_output {
        add("gen_ai.request.max_tokens", number(most));
    }
    if let Some(first) = call.first_chunk {
        add("gen_ai.response.time_to_first_chunk", Value::F64(first.as_secs_f64()));
    }
    if let Some(finish) = call.finish {
        let finish = vec![StringValue::from(finish.to_owned())];
        add("gen_ai.response.finish_reasons", Value::Array(finish.into()));
    }
    if !call.chain.is_empty() {
        let chain: Vec<_> = call.chain.iter().map(|one| StringValue::from(one.clone())).collect();
        add(semconv::FALLBACK_CHAIN, Value::Array(chain.into()));
    }
    if let Some((host, port)) = call.address {
        add("server.address", text(host));
        add("server.port", number(port.into()));
    }
    found
}
