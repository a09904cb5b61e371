//! A scheduler whose network says who calls: the test does, by a header that only this network knows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flyball_core::identity::Identity;
use flyball_embedded::{Options, Server};
use flyball_proto::transport::Address;
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_proto::v1::{NodeMessage, SchedulerMessage, node_message, scheduler_message};
use flyball_scheduler::{Config, StoreChoice};
use flyball_store::Store;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::service::interceptor::{InterceptedService, InterceptorLayer};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::{PATIENCE, register};

const HEADER: &str = "x-test-caller";

/// A connection as somebody.
pub(crate) type As = InterceptedService<Channel, Caller>;

#[derive(Clone)]
pub(crate) struct Caller(String);

impl tonic::service::Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(HEADER, self.0.parse().unwrap());
        Ok(request)
    }
}

/// A store, and the schedulers over it.
pub(crate) struct Callers {
    dir: PathBuf,
    server: Server,
    schedulers: Vec<JoinHandle<()>>,
}

impl Callers {
    /// With one scheduler.
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(dir, |_| {}).await
    }

    /// With one scheduler of this configuration.
    pub(crate) async fn start_with(dir: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let server = Server::open(Options::in_memory()).unwrap();
        let mut callers = Self { dir: dir.to_owned(), server, schedulers: Vec::new() };
        callers.add(change).await;
        callers
    }

    /// The store itself.
    pub(crate) async fn store(&self) -> Store {
        Store::from_channel(self.server.channel()).await.unwrap()
    }

    /// One more scheduler; it is known by its number, from 0.
    pub(crate) async fn add(&mut self, change: impl FnOnce(&mut Config)) {
        let number = self.schedulers.len();
        let socket = self.socket(number);
        let listener = UnixListener::bind(&socket).unwrap();
        let mut config = Config::new(StoreChoice::Memory, Vec::new());
        config.id = format!("s{number}");
        config.advertise = Some(Address::Unix(socket).to_string());
        change(&mut config);
        let store = self.store().await;
        let serve = move |routes| async move {
            let known = InterceptorLayer::new(|mut request: Request<()>| {
                if let Some(who) = request.metadata().get(HEADER) {
                    let who: Identity = who.to_str().unwrap().parse().unwrap();
                    request.extensions_mut().insert(who);
                }
                Ok(request)
            });
            let incoming = UnixListenerStream::new(listener);
            let server = tonic::transport::Server::builder().layer(known).add_routes(routes);
            server.serve_with_incoming(incoming).await.unwrap();
        };
        self.schedulers.push(tokio::spawn(async move {
            flyball_scheduler::run_over(config, store, serve).await.unwrap();
        }));
    }

    fn socket(&self, number: usize) -> PathBuf {
        self.dir.join(format!("s{number}.sock"))
    }

    /// A connection as somebody to the first scheduler.
    pub(crate) async fn caller(&self, who: &str) -> As {
        self.caller_at(0, who).await
    }

    /// A connection as somebody to one of the schedulers.
    pub(crate) async fn caller_at(&self, number: usize, who: &str) -> As {
        let path = self.socket(number);
        let dial = tower::service_fn(move |_| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(dial).await.unwrap();
        InterceptedService::new(channel, Caller(who.to_owned()))
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.schedulers.iter().for_each(JoinHandle::abort);
    }
}

/// A worker's stream as some caller: what the scheduler answers to a registration. Like a worker, it asks
/// every scheduler until one leads.
pub(crate) async fn attach(
    callers: &Callers,
    who: &str,
    node: &str,
) -> Result<(mpsc::Sender<NodeMessage>, Streaming<SchedulerMessage>, i64), Status> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for number in (0..callers.schedulers.len()).cycle() {
        let mut client = SessionsClient::new(callers.caller_at(number, who).await);
        let (sender, stream) = mpsc::channel(16);
        let message = Some(node_message::Message::Register(register(node, &format!("i-{node}"))));
        sender.send(NodeMessage { message }).await.unwrap();
        let mut inbound = client.attach(ReceiverStream::new(stream)).await?.into_inner();
        match inbound.message().await?.unwrap().message.unwrap() {
            scheduler_message::Message::Registered(one) => {
                return Ok((sender, inbound, one.lease_id));
            }
            scheduler_message::Message::Refused(one) => assert_eq!(one.reason, "not-leader"),
            other => panic!("{other:?}"),
        }
        assert!(tokio::time::Instant::now() < deadline, "nobody leads");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!("there is a scheduler");
}

/// The next acknowledgement: of what, and why it is refused.
pub(crate) async fn ack(from: &mut Streaming<SchedulerMessage>) -> (u64, String) {
    loop {
        let message = tokio::time::timeout(PATIENCE, from.message()).await.unwrap();
        if let Some(scheduler_message::Message::Ack(ack)) = message.unwrap().unwrap().message {
            return (ack.sequence, ack.refused);
        }
    }
}
