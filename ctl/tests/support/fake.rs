//! A scheduler made of a map: it answers what it was told, remembers what it was asked, and can be
//! stopped and started again on the same socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use flyball_proto::v1::events_server::{Events, EventsServer};
use flyball_proto::v1::logs_server::{Logs, LogsServer};
use flyball_proto::v1::loops_server::{Loops, LoopsServer};
use flyball_proto::v1::nodes_server::{Nodes, NodesServer};
use flyball_proto::v1::server_server::{Server, ServerServer};
use flyball_proto::v1::*;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::broadcast;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the fake knows.
#[derive(Default)]
pub(crate) struct State {
    /// Every call, e.g. `apply x`.
    pub(crate) calls: Vec<String>,
    pub(crate) loops: BTreeMap<String, LoopObject>,
    pub(crate) nodes: BTreeMap<String, Value>,
    pub(crate) seals: Vec<SealInfo>,
    pub(crate) events: Vec<Event>,
    pub(crate) logs: Vec<LogData>,
    pub(crate) traceparents: Vec<String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) diagnosis: flyball_core::diagnosis::Diagnosis,
    /// What `apply` answers instead.
    pub(crate) refusal: Option<Status>,
    /// Address of another scheduler that leads instead.
    pub(crate) leader: Option<String>,
    /// The token that every request must carry.
    pub(crate) token: Option<String>,
}

/// The fake and its socket.
pub(crate) struct Fake {
    pub(crate) socket: PathBuf,
    service: Service,
    /// Everything that serves runs here; without it the fake is dead.
    runtime: Option<Runtime>,
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<LoopChange>,
}

/// A loop in a phase.
pub(crate) fn object(name: &str, phase: &str) -> LoopObject {
    let document = json!({
        "apiVersion": "flyball.dev/v1",
        "kind": "Loop",
        "metadata": { "name": name, "namespace": "default", "uid": "u1", "generation": 1 },
        "spec": { "goal": "g", "checks": [{ "name": "test", "run": "true" }] },
        "status": { "phase": phase, "observedGeneration": 1 },
    });
    LoopObject {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: "u1".to_owned(),
        generation: 1,
        object_json: document.to_string().into(),
    }
}

impl Fake {
    /// A fake that listens in this directory.
    pub(crate) fn start(directory: &Path) -> Self {
        let (changes, _) = broadcast::channel(64);
        let socket = directory.join("scheduler.sock");
        let service = Service { state: Arc::default(), changes };
        let mut fake = Self { socket, service, runtime: None };
        fake.listen();
        fake
    }

    /// Starts to listen.
    pub(crate) fn listen(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let guard = runtime.enter();
        let listener = UnixListener::bind(&self.socket).unwrap();
        let token = self.state().token.clone();
        let check = move |request: Request<()>| {
            let given = request.metadata().get("authorization").and_then(|v| v.to_str().ok());
            let wanted = token.as_ref().map(|token| format!("Bearer {token}"));
            match wanted {
                Some(wanted) if given != Some(&wanted) => {
                    Err(Status::unauthenticated("a token is needed"))
                }
                _ => Ok(request),
            }
        };
        let service = &self.service;
        let router = tonic::transport::Server::builder()
            .add_service(LoopsServer::with_interceptor(service.clone(), check.clone()))
            .add_service(NodesServer::with_interceptor(service.clone(), check.clone()))
            .add_service(EventsServer::with_interceptor(service.clone(), check.clone()))
            .add_service(LogsServer::with_interceptor(service.clone(), check.clone()))
            .add_service(ServerServer::with_interceptor(service.clone(), check));
        runtime.spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
        drop(guard);
        self.runtime = Some(runtime);
    }

    /// Stops as if killed; the state stays.
    pub(crate) fn kill(&mut self) {
        // Drops the tasks of all connections too.
        self.runtime.take().unwrap().shutdown_timeout(std::time::Duration::from_secs(10));
        std::fs::remove_file(&self.socket).unwrap();
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.service.state.lock().unwrap()
    }

    /// Puts a loop and tells the watches.
    pub(crate) fn put(&self, object: LoopObject) {
        self.state().loops.insert(object.name.clone(), object.clone());
        let change = LoopChange { object: Some(object), ..LoopChange::default() };
        // Nobody may be watching.
        let _ = self.service.changes.send(change);
    }

    /// Removes a loop and tells the watches.
    pub(crate) fn remove(&self, name: &str) {
        let object = self.state().loops.remove(name);
        let _ = self.service.changes.send(LoopChange { object, deleted: true, synced: false });
    }

    /// Waits until a call was made this many times.
    pub(crate) fn await_calls(&self, call: &str, times: usize) {
        for _ in 0..2000 {
            if self.state().calls.iter().filter(|made| *made == call).count() >= times {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("no {call:?} in {:?}", self.state().calls);
    }
}

impl Service {
    fn called(&self, call: String) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(call);
        state
    }

    fn find(&self, call: &str, name: &str) -> Answer<LoopObject> {
        let state = self.called(format!("{call} {name}"));
        let found = state.loops.get(name).cloned();
        found
            .map(Response::new)
            .ok_or_else(|| Status::not_found(format!("there is no loop {name}")))
    }
}

fn listed<T: Send + 'static>(items: Vec<T>) -> Streamed<T> {
    Box::pin(tokio_stream::iter(items.into_iter().map(Ok)))
}

#[tonic::async_trait]
impl Loops for Service {
    async fn apply(&self, request: Request<ApplyRequest>) -> Answer<ApplyResponse> {
        let request = request.into_inner();
        let manifest: Value = serde_json::from_slice(&request.manifest_json).unwrap();
        let name = manifest["metadata"]["name"].as_str().unwrap().to_owned();
        let namespace = manifest["metadata"]["namespace"].as_str().unwrap_or("-").to_owned();
        let mut state = self.called(format!("apply {namespace}/{name}"));
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone());
        }
        state.traceparents.push(request.traceparent);
        let object = object(&name, "Pending");
        let known = state.loops.contains_key(&name);
        if !request.dry_run {
            state.loops.insert(name, object.clone());
        }
        let outcome = if known { "unchanged" } else { "created" }.to_owned();
        let warnings = state.warnings.clone();
        Ok(Response::new(ApplyResponse { object: Some(object), outcome, warnings }))
    }

    async fn get(&self, request: Request<GetLoopRequest>) -> Answer<LoopObject> {
        self.find("get", &request.into_inner().name)
    }

    async fn list(&self, request: Request<ListLoopsRequest>) -> Answer<ListLoopsResponse> {
        let request = request.into_inner();
        let state = self.called(format!("list {}", request.namespace));
        Ok(Response::new(ListLoopsResponse { loops: state.loops.values().cloned().collect() }))
    }

    type WatchStream = Streamed<LoopChange>;

    async fn watch(&self, request: Request<WatchLoopsRequest>) -> Answer<Self::WatchStream> {
        let name = request.into_inner().name;
        let changes = self.changes.subscribe();
        let state = self.called(format!("watch {name}"));
        let wanted = move |object: &LoopObject| name.is_empty() || object.name == name;
        let now = state.loops.values().filter(|object| wanted(object)).cloned();
        let now = now.map(|object| LoopChange { object: Some(object), ..LoopChange::default() });
        let synced = LoopChange { synced: true, ..LoopChange::default() };
        let first: Vec<_> = now.chain([synced]).collect();
        let later = tokio_stream::wrappers::BroadcastStream::new(changes);
        let later = later.filter_map(move |change| {
            change.ok().filter(|change| change.object.as_ref().is_some_and(&wanted)).map(Ok)
        });
        Ok(Response::new(Box::pin(listed(first).chain(later))))
    }

    async fn cancel(&self, request: Request<CancelLoopRequest>) -> Answer<LoopObject> {
        let request = request.into_inner();
        self.find(&format!("cancel for {:?}:", request.reason), &request.name)
    }

    async fn delete(&self, request: Request<DeleteLoopRequest>) -> Answer<DeleteLoopResponse> {
        self.find("delete", &request.into_inner().name)?;
        Ok(Response::new(DeleteLoopResponse { pending: true }))
    }

    async fn explain(&self, request: Request<GetLoopRequest>) -> Answer<ExplainResponse> {
        self.find("explain", &request.into_inner().name)?;
        Ok(Response::new(ExplainResponse {
            phase: "Pending".to_owned(),
            headline: "no node fits now".to_owned(),
            findings: vec!["node-1: needs cpu 2, free 1".to_owned()],
            next_steps: vec!["flyball get nodes".to_owned()],
        }))
    }

    async fn list_claims(&self, _: Request<ListClaimsRequest>) -> Answer<ListClaimsResponse> {
        Ok(Response::new(ListClaimsResponse { claims: Vec::new() }))
    }

    async fn list_seals(&self, _: Request<ListSealsRequest>) -> Answer<ListSealsResponse> {
        let state = self.called("seals".to_owned());
        Ok(Response::new(ListSealsResponse { seals: state.seals.clone() }))
    }

    async fn abandon_seal(&self, request: Request<AbandonSealRequest>) -> Answer<SealInfo> {
        let request = request.into_inner();
        let mut state = self.called(format!("abandon {} {:?}", request.uid, request.reason));
        let place = state.seals.iter().position(|seal| seal.uid == request.uid).unwrap();
        Ok(Response::new(state.seals.remove(place)))
    }
}

#[tonic::async_trait]
impl Nodes for Service {
    async fn list(&self, _: Request<ListNodesRequest>) -> Answer<ListNodesResponse> {
        let mut state = self.called("nodes".to_owned());
        let nodes = state.nodes.iter().map(|(name, document)| NodeObject {
            name: name.clone(),
            object_json: document.to_string().into(),
        });
        let nodes = nodes.collect();
        // A draining node loses its runs at the next look.
        for node in state.nodes.values_mut() {
            if node["node"]["mark"] == "Draining" {
                node["status"]["runs"] = json!([]);
            }
        }
        Ok(Response::new(ListNodesResponse { nodes }))
    }

    async fn mark(&self, request: Request<MarkNodeRequest>) -> Answer<NodeObject> {
        let request = request.into_inner();
        let deadline = request.deadline_ms.map(|ms| format!(" {ms} ms")).unwrap_or_default();
        let call = format!("mark {} {:?}{deadline}", request.name, request.reason);
        let mut state = self.called(call);
        let Some(node) = state.nodes.get_mut(&request.name) else {
            return Err(Status::not_found(format!("there is no node {}", request.name)));
        };
        node["node"]["mark"] = match request.mark() {
            NodeMark::Draining => json!("Draining"),
            NodeMark::Cordoned => json!("Cordoned"),
            _ => json!("Schedulable"),
        };
        let object_json = node.to_string().into();
        Ok(Response::new(NodeObject { name: request.name, object_json }))
    }
}

#[tonic::async_trait]
impl Events for Service {
    type ListStream = Streamed<Event>;

    async fn list(&self, _: Request<ListEventsRequest>) -> Answer<Self::ListStream> {
        Ok(Response::new(listed(self.called("events".to_owned()).events.clone())))
    }
}

#[tonic::async_trait]
impl Logs for Service {
    type ReadStream = Streamed<LogData>;

    async fn read(&self, request: Request<ReadLogsRequest>) -> Answer<Self::ReadStream> {
        let request = request.into_inner();
        let mut call =
            format!("logs {} {} {:?}", request.r#loop, request.iteration, request.stream);
        if let Some(token) = request.token {
            call += &format!(" token {token} {:?}", request.node);
        }
        let state = self.called(call);
        if state.leader.is_some() {
            let details = ErrorDetails::with_error_info("NOT_LEADER", "flyball.dev", []);
            let message = "output comes through the leader";
            return Err(Status::with_error_details(Code::Unavailable, message, details));
        }
        Ok(Response::new(listed(state.logs.clone())))
    }
}

#[tonic::async_trait]
impl Server for Service {
    async fn info(&self, _: Request<InfoRequest>) -> Answer<InfoResponse> {
        let leader = self.state.lock().unwrap().leader.clone();
        Ok(Response::new(InfoResponse {
            version: "9.9.9".to_owned(),
            installation: "abc".to_owned(),
            leader: leader.is_none(),
            store: "embedded".to_owned(),
            leader_id: "s1".to_owned(),
            leader_address: leader.unwrap_or_default(),
        }))
    }

    async fn diagnose(&self, request: Request<DiagnoseRequest>) -> Answer<DiagnoseResponse> {
        let mut state = self.state.lock().unwrap();
        let measure = if request.get_ref().measure { " measure" } else { "" };
        state.calls.push(format!("diagnose{measure}"));
        let diagnosis = serde_json::to_vec(&state.diagnosis).unwrap();
        let unix_ms = jiff::Timestamp::now().as_millisecond();
        Ok(Response::new(DiagnoseResponse { diagnosis_json: diagnosis.into(), unix_ms }))
    }
}
