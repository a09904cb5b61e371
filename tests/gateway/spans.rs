//! What the telemetry of a call says, to a collector that listens and to one that is dead.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_core::model::Protocol;
use flyball_tests::poll;
use flyball_tests::provider::{Provider, Reply};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::{Request, Response, Status};

use crate::client;
use crate::killed::Child;
use crate::rig::{KEY, body};

const BOUND: Duration = Duration::from_secs(30);

/// The words of the request and of the answer, which must be in no telemetry.
const SECRET: [&str; 2] = ["failing test", "wonderful"];

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    metrics: Arc<Mutex<BTreeMap<String, String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|one| one.scope_spans).flat_map(|scope| scope.spans);
        self.spans.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let resources = request.into_inner().resource_metrics.into_iter();
        for metric in resources.flat_map(|one| one.scope_metrics).flat_map(|scope| scope.metrics) {
            self.metrics.lock().unwrap().insert(metric.name.clone(), format!("{metric:?}"));
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn collector(runtime: &tokio::runtime::Runtime) -> (Collector, String) {
    let collector = Collector::default();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector.clone()));
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        server.serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener)).await
    });
    (collector, address)
}

fn exporting(address: &str) -> [(&'static str, String); 3] {
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", address.to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200".to_owned()),
    ]
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|one| one.key == name);
    match found.and_then(|one| one.value.clone()).and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

#[test]
fn a_call_is_a_span_of_the_runs_trace_with_everything_but_its_content() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (collector, address) = collector(&runtime);
    let provider = Provider::start(|asked| match asked.number {
        0 => Reply::status(529, None),
        _ => Reply::text("wonderful"),
    });
    let child = Child::start(&provider, &exporting(&address));
    let asked = body(Protocol::Anthropic, true).to_string();
    let own = "00-000000000000000000000000000000aa-00000000000000bb-01";
    for traceparent in [None, Some(own)] {
        let mut headers = vec![("x-api-key", KEY), ("x-claude-code-session-id", "session-1")];
        headers.extend(traceparent.map(|text| ("traceparent", text)));
        client::send(child.address, "POST", "/v1/messages", &headers, &asked).text();
    }
    let spans = poll::until("two spans arrive", BOUND, || {
        let spans = collector.spans.lock().unwrap().clone();
        (spans.len() == 2).then_some(spans)
    });
    // The first may end after the second.
    let of = |trace: u8| spans.iter().find(|one| one.trace_id.last() == Some(&trace));
    let first = of(0x77).expect("a span of the run's trace");
    let second = of(0xaa).expect("a span of the client's own");
    assert_eq!(first.name, "chat one-model");
    assert_eq!(second.parent_span_id.last(), Some(&0xbb));
    let billed = provider.served().into_iter().find(|one| one.status == 200).unwrap().usage;
    for (name, expected) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "one"),
        ("gen_ai.request.model", "one-model"),
        ("gen_ai.response.finish_reasons", "end_turn"),
        ("gen_ai.conversation.id", "session-1"),
        ("flyball.gateway.route", "route"),
        ("flyball.gateway.tier", "only"),
        ("flyball.gateway.tries", "2"),
        ("flyball.gateway.fallback_chain", "one/one-model: 529"),
        ("flyball.loop", "default/loop"),
        ("server.address", "127.0.0.1"),
        ("gen_ai.usage.input_tokens", &billed.input_total.to_string()),
        ("gen_ai.usage.output_tokens", &billed.output_total.to_string()),
    ] {
        assert!(attribute(first, name).contains(expected), "{name}: {}", attribute(first, name));
    }
    assert!(!attribute(first, "gen_ai.response.time_to_first_chunk").is_empty());
    assert!(!attribute(first, "flyball.cost").is_empty());
    let metrics = poll::until("metrics arrive", BOUND, || {
        let metrics = collector.metrics.lock().unwrap().clone();
        metrics.contains_key("flyball.cost").then_some(metrics)
    });
    for name in [
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "flyball.gateway.calls",
        "flyball.gateway.retries",
    ] {
        assert!(metrics.contains_key(name), "{name} in {:?}", metrics.keys());
    }
    let all = format!("{spans:?}{metrics:?}");
    assert!(SECRET.iter().all(|word| !all.contains(word)), "content is in no telemetry");
}

#[test]
fn waits_for_quota_and_deployments_that_rest_are_told() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (collector, address) = collector(&runtime);
    let provider = Provider::start(|asked| match asked.number {
        0 => Reply::status(529, None),
        _ => Reply::text("wonderful"),
    });
    let mut env = exporting(&address).to_vec();
    env.push((crate::killed::SCARCE, "2".to_owned()));
    let child = Child::start(&provider, &env);
    let asked = body(Protocol::Anthropic, false).to_string();
    let call =
        || client::send(child.address, "POST", "/v1/messages", &[("x-api-key", KEY)], &asked);
    // The first takes both requests: it fails, rests and is tried again. The second waits, and in vain.
    assert_eq!((call().status, call().status), (200, 429));
    let metrics = poll::until("the wait is told", BOUND, || {
        let metrics = collector.metrics.lock().unwrap().clone();
        metrics.contains_key("flyball.gateway.quota.wait").then_some(metrics)
    });
    let told = |name: &str, parts: &[&str]| {
        let metric = metrics.get(name).unwrap_or_else(|| panic!("{name}: {:?}", metrics.keys()));
        parts.iter().for_each(|part| assert!(metric.contains(part), "{part}: {metric}"));
    };
    let one = "StringValue(\"one\")";
    told("flyball.gateway.quota.wait", &["error.type", "\"quota\"", one, "count: 1,"]);
    told("flyball.gateway.quota.waiting", &[one, "AsInt(0)"]);
    // No price names the model.
    told("flyball.gateway.rests", &[one, "\"other\"", "AsInt(1)"]);
}

#[test]
fn a_collector_that_takes_nothing_holds_up_no_call() {
    // It accepts, and says nothing.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let provider = Provider::start(|_| Reply::text("wonderful"));
    let address = format!("http://{}", dead.local_addr().unwrap());
    let child = Child::start(&provider, &exporting(&address));
    let asked = body(Protocol::Anthropic, false).to_string();
    for _ in 0..200 {
        client::send(child.address, "POST", "/v1/messages", &[("x-api-key", KEY)], &asked).text();
    }
    assert_eq!(provider.totals().0, 200);
}
