//! A scheduler whose network says who calls: the test does, by a header that only this network knows.

use std::path::{Path, PathBuf};

use flyball_core::identity::Identity;
use flyball_embedded::{Options, Server};
use flyball_proto::transport::Address;
use flyball_scheduler::{Config, StoreChoice};
use flyball_store::Store;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::interceptor::{InterceptedService, InterceptorLayer};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

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
        let server = Server::open(Options::in_memory()).unwrap();
        let mut callers = Self { dir: dir.to_owned(), server, schedulers: Vec::new() };
        callers.add(|_| {}).await;
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
