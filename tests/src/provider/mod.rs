//! A scripted model provider: the genuine wire protocols of Anthropic Messages, OpenAI Chat Completions and OpenAI
//! Responses over plain HTTP/1.1, with streams, pings, tool calls, usage, rate-limit headers and faults. What it
//! answers is a function of the request; what it served is counted to the token.

mod anthropic;
mod asked;
mod chat;
mod http;
mod reply;
mod responses;
mod serve;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use flyball_core::model::{Protocol, Usage};
use tokio::net::TcpListener;

pub use self::asked::Asked;
pub use self::reply::{Block, Fault, Reply};

/// What to answer to a request.
pub type Script = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// One request that was answered, and what that would cost.
#[derive(Debug, Clone)]
pub struct Served {
    /// The request.
    pub asked: Arc<Asked>,
    /// The status that was answered.
    pub status: u16,
    /// What a vendor would bill: nothing for errors, else the usage of the answer. Of a stream that was not taken
    /// to its end it is the input, and the output up to there.
    pub usage: Usage,
    /// Whether the whole answer was written.
    pub complete: bool,
}

/// A running provider; it ends when it is dropped.
#[derive(Debug)]
pub struct Provider {
    address: SocketAddr,
    served: Arc<Mutex<Vec<Served>>>,
    open: Arc<std::sync::atomic::AtomicUsize>,
    // Its threads end with it.
    _runtime: Option<Background>,
}

#[derive(Debug)]
struct Background(Option<tokio::runtime::Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A plain drop would panic inside another runtime.
            runtime.shutdown_background();
        }
    }
}

impl Provider {
    /// Starts one on a free port of the loopback.
    ///
    /// # Panics
    /// When no port or thread can be had.
    pub fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::on(listener, Arc::new(script))
    }

    /// Starts one on a listener that exists.
    ///
    /// # Panics
    /// When no thread can be had.
    pub fn on(listener: std::net::TcpListener, script: Script) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (served, open) = (Arc::default(), Arc::default());
        let state = serve::State { script, served: Arc::clone(&served), open: Arc::clone(&open) };
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            serve::accept(listener, state).await;
        });
        Self { address, served, open, _runtime: Some(Background(Some(runtime))) }
    }

    /// One that answers an agent's conversation turn by turn ([`Asked::turn`]), the last turn for ever. Requests
    /// without tools (titles, summaries) are answered with a short text and do not count.
    pub fn turns(turns: Vec<Reply>) -> Self {
        Self::start(move |asked| Self::turn_of(&turns, asked))
    }

    /// What [`Provider::turns`] answers.
    pub fn turn_of(turns: &[Reply], asked: &Asked) -> Reply {
        if asked.tools().is_empty() {
            return Reply::text("A short title");
        }
        let reply = turns.get(asked.turn()).or_else(|| turns.last());
        reply.cloned().unwrap_or_else(|| Reply::text("done"))
    }

    /// Its base URL as Anthropic's clients take it; OpenAI's want `/v1` behind it ([`Provider::base`]).
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its base URL as the vendor's own clients of that protocol take it.
    pub fn base(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::Anthropic => self.url(),
            Protocol::Chat | Protocol::Responses => format!("{}/v1", self.url()),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that was asked and answered so far, in the order of the answers' ends.
    pub fn served(&self) -> Vec<Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls that were answered with success, and the sum of what they would cost in tokens.
    pub fn totals(&self) -> (u64, Usage) {
        let mut sum = (0, Usage::default());
        for served in self.served().iter().filter(|served| served.status == 200) {
            if served.asked.protocol.is_some() {
                sum.0 += 1;
                sum.1.add(&served.usage);
            }
        }
        sum
    }

    /// Answers being written at this moment.
    pub fn open(&self) -> usize {
        self.open.load(std::sync::atomic::Ordering::SeqCst)
    }
}
