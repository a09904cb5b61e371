//! An OTLP collector that tests play: it keeps what it is sent.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};

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
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::{Request, Response, Status};

use crate::cluster::Options;

/// A span, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Which program.
    pub service: String,
    /// Which process.
    pub instance: String,
    /// What was done.
    pub name: String,
    /// The trace that it belongs to.
    pub trace: Vec<u8>,
    /// All of it.
    pub whole: Span,
}

/// An OTLP collector that keeps what it gets.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    spans: Vec<Seen>,
    /// All requests, in the words of their fields.
    text: String,
    /// The newest state of each metric, in the words of its fields.
    metrics: BTreeMap<String, String>,
    /// The newest state of each histogram, by its name and by process and attributes: count and sum.
    histograms: BTreeMap<String, BTreeMap<String, (u64, f64)>>,
}

impl Collector {
    /// All spans so far.
    pub fn spans(&self) -> Vec<Seen> {
        self.kept().spans.clone()
    }

    /// Everything that was exported, also what [`Seen`] leaves out.
    pub fn text(&self) -> String {
        self.kept().text.clone()
    }

    /// The newest state of each metric, by its name, in the words of its fields; of several processes the one that told last.
    pub fn metrics(&self) -> BTreeMap<String, String> {
        self.kept().metrics.clone()
    }

    /// Count and sum of a histogram, of all processes together.
    pub fn histogram(&self, name: &str) -> (u64, f64) {
        let kept = self.kept();
        let series = kept.histograms.get(name).into_iter().flat_map(BTreeMap::values);
        series.fold((0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("no export panics while it holds the lock")
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let request = request.into_inner();
        let mut kept = self.kept();
        kept.text += &format!("{request:?}\n");
        for resource in request.resource_metrics {
            let process = format!("{:?}", resource.resource);
            for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                kept.metrics.insert(metric.name.clone(), format!("{metric:?}"));
                let Some(Data::Histogram(histogram)) = metric.data else { continue };
                let series = kept.histograms.entry(metric.name).or_default();
                for point in histogram.data_points {
                    let name = format!("{process} {:?}", point.attributes);
                    series.insert(name, (point.count, point.sum.unwrap_or_default()));
                }
            }
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        self.kept().text += &format!("{request:?}\n");
        for resource in request.resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let text = |key: &str| {
                let found = attributes.iter().find(|attribute| attribute.key == key);
                format!("{:?}", found.and_then(|attribute| attribute.value.clone()))
            };
            let (service, instance) = (text("service.name"), text("service.instance.id"));
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.kept().spans.push(Seen {
                    service: service.clone(),
                    instance: instance.clone(),
                    name: span.name.clone(),
                    trace: span.trace_id.clone(),
                    whole: span,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Starts the collector on a free port of the loopback; it ends with the runtime.
///
/// # Panics
/// When there is no port.
pub fn collector(runtime: &tokio::runtime::Runtime) -> (Collector, String) {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let address = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector.clone()));
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        server.serve_with_incoming(incoming).await
    });
    (collector, address)
}

/// Environment of a process that exports there, soon and often.
pub fn environment(address: &str) -> [(&'static str, &str); 3] {
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", address),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
    ]
}

/// Two workers and a scheduler that export there.
pub fn exporting_to(address: &str) -> Options {
    let env = environment(address).map(|(name, value)| (name.to_owned(), value.to_owned()));
    Options { workers: 2, env: env.to_vec(), ..Options::default() }
}
