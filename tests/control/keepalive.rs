//! A worker whose runtime does nothing else for a while: its heartbeats have to come all the same.

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flyball_core::node::NodeFacts;
use flyball_proto::transport::{Address, Credential};
use flyball_proto::v1::sessions_server::{Sessions, SessionsServer};
use flyball_proto::v1::{
    HeartbeatRequest, HeartbeatResponse, NodeMessage, Registered, ReportGoneRequest,
    ReportGoneResponse, SchedulerMessage, scheduler_message,
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Threads of the worker's runtime.
const THREADS: usize = 2;
/// Heartbeats that have to come while none of the threads does anything else.
const BEATS: u64 = 3;
const TTL_SECONDS: i64 = 2;
/// Longest wait for a step; heartbeats come every two thirds of a second.
const BOUND: Duration = Duration::from_secs(12);

/// A scheduler that agrees to everything and counts.
struct Agreeable(Arc<AtomicU64>);

#[tonic::async_trait]
impl Sessions for Agreeable {
    type AttachStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<SchedulerMessage, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (sender, stream) = tokio::sync::mpsc::channel(1);
        let mut inbound = request.into_inner();
        tokio::spawn(async move {
            let registered = Registered {
                lease_id: 7,
                ttl_seconds: TTL_SECONDS,
                installation: "test".to_owned(),
            };
            let message = Some(scheduler_message::Message::Registered(registered));
            // The worker may be gone; then there is nobody to tell.
            let _ = sender.send(Ok(SchedulerMessage { message })).await;
            while let Ok(Some(_)) = inbound.message().await {}
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn heartbeat(
        &self,
        _request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(HeartbeatResponse { ttl_seconds: TTL_SECONDS }))
    }

    async fn report_gone(
        &self,
        _request: Request<ReportGoneRequest>,
    ) -> Result<Response<ReportGoneResponse>, Status> {
        Ok(Response::new(ReportGoneResponse::default()))
    }
}

pub(crate) fn main() -> ExitCode {
    let dir = tempfile::tempdir().unwrap();
    let (socket, beats) = (dir.path().join("s.sock"), Arc::new(AtomicU64::new(0)));
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let service = SessionsServer::new(Agreeable(beats.clone()));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream =
                UnixListenerStream::new(tokio::net::UnixListener::from_std(listener).unwrap());
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(stream)
                .await
        })
    });
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(THREADS).enable_all().build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = flyball_worker::run(config(dir.path(), socket), async move {
        // Told to stop, or its teller is gone.
        let _ = stopped.await;
    });
    let worker = runtime.spawn(worker);
    let begun = within(|| beats.load(Ordering::SeqCst) > 0);

    let (busy, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    for _ in 0..THREADS {
        let (busy, done) = (busy.clone(), done.clone());
        runtime.spawn(async move {
            busy.fetch_add(1, Ordering::SeqCst);
            while !done.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }
    let starved = within(|| busy.load(Ordering::SeqCst) == THREADS as u64);
    let before = beats.load(Ordering::SeqCst);
    let held = within(|| beats.load(Ordering::SeqCst) >= before + BEATS);
    done.store(true, Ordering::SeqCst);
    // It ends by itself if it was told; waited for within the bound either way.
    let _ = stop.send(());
    let ended = within(|| worker.is_finished());
    runtime.shutdown_background();
    if begun && starved && held && ended {
        println!("test keepalive ... ok");
        return ExitCode::SUCCESS;
    }
    let why = if held { "the worker did not begin or end" } else { "no heartbeats came" };
    println!("begun {begun}, starved {starved}, ended {ended}: {why}");
    ExitCode::FAILURE
}

fn within(done: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + BOUND;
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn config(dir: &std::path::Path, socket: std::path::PathBuf) -> flyball_worker::Config {
    let this = std::env::current_exe().unwrap().to_string_lossy().into_owned();
    flyball_worker::Config {
        node: "n1".into(),
        data_dir: dir.join("data"),
        schedulers: vec![Address::Unix(socket)],
        credential: Credential::none(),
        facts: NodeFacts {
            labels: std::collections::BTreeMap::new(),
            capacity: flyball_core::node::Resources::default(),
            slots: 1,
            version: "test".to_owned(),
            abilities: None,
        },
        guard_command: vec![this, "guard".to_owned()],
        ttl_seconds: Some(TTL_SECONDS),
        drift_ppm: flyball_worker::DRIFT_PPM_DEFAULT,
        kill_budget: Duration::from_millis(250),
        pass_env: Vec::new(),
        sandbox: flyball_worker::SandboxConfig::default(),
        ref_prefix: flyball_worker::REF_PREFIX_DEFAULT.to_owned(),
        models: flyball_worker::ModelsConfig::default(),
    }
}
