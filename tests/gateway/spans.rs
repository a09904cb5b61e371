//! What the telemetry of a call says, to a collector that listens and to one that is dead.

use std::time::Duration;

use flyball_core::model::Protocol;
use flyball_tests::collector::{collector, environment};
use flyball_tests::poll;
use flyball_tests::provider::{Provider, Reply};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::client;
use crate::killed::Child;
use crate::rig::{KEY, body};

const BOUND: Duration = Duration::from_secs(30);

/// The words of the request and of the answer, which must be in no telemetry.
const SECRET: [&str; 2] = ["failing test", "wonderful"];

/// Environment of a child that exports there.
fn exporting(address: &str) -> Vec<(&'static str, String)> {
    environment(address).map(|(name, value)| (name, value.to_owned())).to_vec()
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
        let spans = collector.spans();
        (spans.len() == 2).then(|| spans.into_iter().map(|one| one.whole).collect::<Vec<_>>())
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
        let metrics = collector.metrics();
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
        let metrics = collector.metrics();
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
