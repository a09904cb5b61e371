//! The processes of the bench: a stand-in provider as fast as can be, a collector, our gateway, nginx.

use std::io::Write as _;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flyball_core::model::{
    Amount, Fence, Later, LoopBudget, Money, PriceTable, Protocol, ProviderSpec, QuotaAmount,
    QuotaAnswer, Quotas, Routing, SliceError, Slices,
};
use flyball_gateway::{Config, Gateway, Models, OpenProvider, RunCalls, RunIdentity};
use flyball_tests::measure::monotonic_ns;
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
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Request, Response, Status};

/// The key of every client.
pub(crate) const KEY: &str = "bench-key-0123456789";

/// Listens, and tells the bench where.
fn listen() -> StdListener {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", listener.local_addr().unwrap()).unwrap();
    out.flush().unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(threads).enable_all().build().unwrap()
}

/// Answers every request with the same words: about 300 bytes, or 17 pieces at once; slowly, if asked to.
pub(crate) fn stand_in() {
    let listener = listen();
    runtime(1).block_on(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        let (plain, stream) = (Arc::new(plain()), Arc::new(pieces()));
        while let Ok((socket, _)) = listener.accept().await {
            let (plain, stream) = (Arc::clone(&plain), Arc::clone(&stream));
            tokio::spawn(async move { serve(socket, &plain, &stream).await });
        }
    });
}

fn plain() -> Vec<u8> {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_790_000_000, "model": "bench",
        "choices": [{
            "index": 0, "message": { "role": "assistant", "content": "Hello! How can I help you today?" },
            "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 220, "completion_tokens": 10, "total_tokens": 230 },
    })
    .to_string();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn chunk(data: &str) -> String {
    let event = format!("data: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}

fn delta(text: &str) -> String {
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": "bench",
        "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }],
    });
    chunk.to_string()
}

const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn pieces() -> Vec<u8> {
    let mut text = STREAM_HEAD.to_owned();
    for n in 0..15 {
        text.push_str(&chunk(&delta(&format!("word {n} "))));
    }
    let usage = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": "bench",
        "choices": [], "usage": { "prompt_tokens": 220, "completion_tokens": 30, "total_tokens": 250 },
    });
    text.push_str(&chunk(&usage.to_string()));
    text.push_str(&chunk("[DONE]"));
    text.push_str("0\r\n\r\n");
    text.into_bytes()
}

async fn serve(mut socket: TcpStream, plain: &[u8], stream: &[u8]) {
    let _ = socket.set_nodelay(true);
    let mut read = Vec::with_capacity(16 * 1024);
    loop {
        let Some(length) = request_length(&read) else {
            match socket.read_buf(&mut read).await {
                Ok(count) if count > 0 => continue,
                _ => return,
            }
        };
        let text = String::from_utf8_lossy(&read[..length]).into_owned();
        read.drain(..length);
        let streams = text.contains("\"stream\":true") || text.contains("\"stream\": true");
        if streams && text.contains("slowly") {
            return slowly(socket, text.contains("in step")).await;
        }
        if socket.write_all(if streams { stream } else { plain }).await.is_err() {
            return;
        }
    }
}

fn request_length(read: &[u8]) -> Option<usize> {
    let head = read.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&read[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = head + length.unwrap_or(0);
    (read.len() >= whole).then_some(whole)
}

/// An event every 50 ms on average that says when it was sent. `in_step`: all streams at the same moments, exactly every
/// 50 ms; otherwise each in its own time, 25 to 75 ms apart, as models do.
async fn slowly(mut socket: TcpStream, in_step: bool) {
    static STREAMS: AtomicU64 = AtomicU64::new(0);
    if socket.write_all(STREAM_HEAD.as_bytes()).await.is_err() {
        return;
    }
    let mut state = mixed(STREAMS.fetch_add(1, Ordering::Relaxed));
    let mut next = monotonic_ns() / 50_000_000 * 50_000_000;
    loop {
        state = mixed(state);
        let gap = if in_step { 50_000_000 } else { 25_000_000 + i128::from(state % 50_000_000) };
        next += gap;
        let pause = u64::try_from(next - monotonic_ns()).unwrap_or(0);
        tokio::time::sleep(Duration::from_nanos(pause)).await;
        let event = chunk(&delta(&format!("at={} ", monotonic_ns())));
        if socket.write_all(event.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The next number of a sequence that looks random (SplitMix64).
const fn mixed(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Takes everything and keeps nothing.
struct Sink;

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        _: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Sink {
    async fn export(
        &self,
        _: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// Takes spans and metrics.
pub(crate) fn collector() {
    let listener = listen();
    runtime(1).block_on(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Sink))
            .add_service(MetricsServiceServer::new(Sink));
        server.serve_with_incoming(incoming).await.unwrap();
    });
}

/// Grants everything, a slice at a time.
struct Always;

impl Slices for Always {
    fn draw(&self, _: String, _: Amount, want: Amount) -> Later<'_, Result<Amount, SliceError>> {
        Box::pin(async move { Ok(want) })
    }

    fn settle(&self, _: String, _: Amount) -> Later<'_, Result<(), SliceError>> {
        Box::pin(async { Ok(()) })
    }
}

impl Quotas for Always {
    fn take(&self, _: String, want: QuotaAmount, _: bool) -> Later<'_, QuotaAnswer> {
        Box::pin(async move {
            QuotaAnswer::Granted { amount: want, valid: Duration::from_secs(10), grant: 0 }
        })
    }

    fn used(&self, _: &str, _: u64, _: QuotaAmount) {}

    fn limited(&self, _: String, _: Option<Duration>) -> Later<'_, ()> {
        Box::pin(async {})
    }
}

impl Fence for Always {
    fn left(&self) -> Option<Duration> {
        Some(Duration::from_secs(4))
    }
}

/// Our gateway with everything on.
pub(crate) fn gateway(upstream: &str) {
    let listener = listen();
    runtime(2).block_on(async move {
        let options = flyball_telemetry::Options {
            service: "flyball-worker",
            instance: "bench".to_owned(),
            default_filter: "info",
        };
        let _telemetry = flyball_telemetry::init(&options).unwrap();
        let route = json!({ "tiers": [{ "name": "one", "deployments": [{ "provider": "stand-in" }] }] });
        let routing = Routing::new(
            [("bench".to_owned(), serde_json::from_value(route).unwrap())],
            [("stand-in".to_owned(), vec![Protocol::Chat])],
        );
        let spec: ProviderSpec = serde_json::from_value(json!({
            "baseUrl": format!("http://{upstream}/v1"), "protocols": ["chat"],
            "quota": { "requestsPerMinute": 1_000_000_000, "tokensPerMinute": 1_000_000_000_000_u64 },
        }))
        .unwrap();
        let provider = OpenProvider { spec, key: None };
        let providers = [("stand-in".to_owned(), provider)].into();
        let always = Arc::new(Always);
        let total = flyball_core::model::Limits {
            money: Some(Money::from_dollars(1_000_000)),
            ..Default::default()
        };
        let gate = Gateway::new(Config::default()).open(RunCalls {
            key: KEY.to_owned(),
            run: RunIdentity { name: "bench".to_owned(), token: 1, ..RunIdentity::default() },
            models: Arc::new(Models { routing, providers, prices: PriceTable::built_in().clone() }),
            budget: LoopBudget { total, per_run: total, per_iteration: total },
            begun: false,
            slices: always.clone(),
            quotas: always.clone(),
            fence: always,
            traceparent: Some(flyball_telemetry::new_traceparent(7, 7)),
        });
        let _serving = gate.serve(listener).unwrap();
        std::future::pending::<()>().await;
    });
}
