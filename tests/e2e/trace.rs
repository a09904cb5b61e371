//! One trace per loop, from the command line on and across a takeover; and a collector that is dead
//! costs nothing but its data.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_core::status::Phase;
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::poll;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::{Request, Response, Status};

use crate::support::{FINISH_ONE, finish_list, list};

/// A span as far as the test looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    service: String,
    instance: String,
    name: String,
    trace: Vec<u8>,
}

/// An OTLP collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Seen>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let text = |key: &str| {
                let found = attributes.iter().find(|attribute| attribute.key == key);
                format!("{:?}", found.and_then(|attribute| attribute.value.clone()))
            };
            let (service, instance) = (text("service.name"), text("service.instance.id"));
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.0.lock().unwrap().push(Seen {
                    service: service.clone(),
                    instance: instance.clone(),
                    name: span.name,
                    trace: span.trace_id,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Starts the collector on a free port of the loopback; it ends with the runtime.
fn collector(runtime: &tokio::runtime::Runtime) -> (Collector, String) {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let service = TraceServiceServer::new(collector.clone());
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
    });
    (collector, address)
}

fn exporting_to(address: &str) -> Options {
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", address), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Options { workers: 2, env: env.to_vec(), ..Options::default() }
}

#[test]
fn one_trace_from_the_command_line_across_a_takeover() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (collector, address) = collector(&runtime);
    let repo = list(&["a", "b", "c", "d", "e", "f"]);
    let mut cluster = Cluster::start(exporting_to(&address));
    let agent = format!("sleep 0.3; echo trace $TRACEPARENT; {FINISH_ONE}");
    cluster.apply(&finish_list("traced", &repo, &agent, ""));
    let before = cluster
        .wait("traced", "begun", Duration::from_secs(30), |status| status.progress.accepted >= 1);
    // A span that ended just before the kill may die with its worker: one has to be here.
    poll::until("an iteration's span arrives", Duration::from_secs(20), || {
        collector.0.lock().unwrap().iter().any(|span| span.name == "iteration").then_some(())
    });
    cluster.workers.get_mut(before.node.unwrap().as_str()).unwrap().kill();
    cluster.wait_for_end("traced", Phase::Converged);
    let traces = |name: &str| -> BTreeSet<Vec<u8>> {
        let seen = collector.0.lock().unwrap();
        seen.iter().filter(|span| span.name == name).map(|span| span.trace.clone()).collect()
    };
    let wait = Duration::from_secs(20);
    let root = poll::until("the root span arrives", wait, || traces("loop.apply").pop_first());
    let wanted = ["loop.submit", "iteration", "invoke_agent command", "check list", "run"];
    for name in wanted {
        poll::until(&format!("a span {name} of the trace arrives"), wait, || {
            traces(name).contains(&root).then_some(())
        });
    }
    let workers: BTreeSet<String> = {
        let seen = collector.0.lock().unwrap();
        let ours = seen.iter().filter(|span| span.trace == root && span.name == "iteration");
        ours.map(|span| span.instance.clone()).collect()
    };
    assert_eq!(workers.len(), 2, "both workers' iterations are in the trace: {workers:?}");
    // The agent was told too.
    let hex: String = root.iter().map(|byte| format!("{byte:02x}")).collect();
    let logs = cluster.cli(&["logs", "traced", "--stream", "agent"]);
    assert!(String::from_utf8_lossy(&logs.stdout).contains(&hex), "{logs:?}");
}

#[test]
fn a_dead_collector_costs_nothing_but_its_data() {
    // It accepts connections into its backlog and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let repo = list(&["a", "b"]);
    let cluster = Cluster::start(exporting_to(&address));
    cluster.apply(&finish_list("untraced", &repo, FINISH_ONE, ""));
    cluster.wait_for_end("untraced", Phase::Converged);
}
