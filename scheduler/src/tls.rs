//! Connections over TLS: accepted, named by their certificates, and ended when those no longer count.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use flyball_core::identity::Identity;
use flyball_pki::{Accepted, Facts, LiveIdentity};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::{Request, Status};

/// Handshakes at a time: each costs a signature, and a peer that never finishes one is gone after five
/// seconds.
const HANDSHAKES_MAX: usize = 256;
/// Connections that wait to be served; serving takes them at once.
const WAITING_MAX: usize = 16;
/// Rhythm of looking whether the certificates behind open connections still count.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Pause after a connection could not be accepted, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How connections are taken.
#[derive(Clone)]
pub(crate) struct Tls {
    /// What this scheduler shows.
    pub(crate) identity: Arc<LiveIdentity>,
    /// Peers without a certificate may join.
    pub(crate) strangers: bool,
    open: Open,
}

/// Who is at the other end; in the extensions of every request of the connection.
#[derive(Debug, Clone)]
pub(crate) struct TlsPeer {
    facts: Option<Arc<Facts>>,
    tcp: TcpConnectInfo,
}

impl Tls {
    pub(crate) fn new(identity: Arc<LiveIdentity>, strangers: bool) -> Self {
        Self { identity, strangers, open: Open::default() }
    }

    /// Accepts for as long as the receiver lives.
    pub(crate) fn incoming(self, listener: TcpListener) -> mpsc::Receiver<io::Result<Encrypted>> {
        let (accepted, incoming) = mpsc::channel(WAITING_MAX);
        tokio::spawn(self.open.clone().sweep(accepted.clone()));
        tokio::spawn(self.accept(listener, accepted));
        incoming
    }

    async fn accept(self, listener: TcpListener, accepted: mpsc::Sender<io::Result<Encrypted>>) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let room = handshakes.clone().acquire_owned().await;
            let incoming = tokio::select! {
                incoming = listener.accept() => incoming,
                () = accepted.closed() => return,
            };
            let Ok((tcp, address)) = incoming else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (tls, accepted) = (self.clone(), accepted.clone());
            tokio::spawn(async move {
                let _room = room;
                match tls.shake(tcp, address).await {
                    // Nobody serves any more; then the connection is not needed either.
                    Ok(stream) => drop(accepted.send(Ok(stream)).await),
                    Err(error) => tracing::info!(%address, "a connection was refused: {error}"),
                }
            });
        }
    }

    async fn shake(&self, tcp: TcpStream, address: SocketAddr) -> io::Result<Encrypted> {
        // Small messages must not wait for more: every assignment is one.
        tcp.set_nodelay(true)?;
        let local_addr = tcp.local_addr().ok();
        let Accepted { stream, peer } =
            flyball_pki::accept(tcp, &self.identity, self.strangers).await?;
        let facts = peer.map(Arc::new);
        let (entry, ended) = self.open.enter(facts.clone());
        let tcp = TcpConnectInfo { local_addr, remote_addr: Some(address) };
        Ok(Encrypted { stream, peer: TlsPeer { facts, tcp }, ended, _entry: entry })
    }

    /// Names the caller of a request by the certificate of its connection, as long as that counts.
    pub(crate) fn name(&self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let Some(peer) = request.extensions().get::<TlsPeer>().cloned() else {
            return Err(Status::unauthenticated("the connection has no certificate"));
        };
        if let Some(facts) = &peer.facts {
            if let Some(why) = self.open.objection(facts) {
                return Err(Status::unauthenticated(why));
            }
            let named = facts.require_identity();
            let identity =
                named.cloned().map_err(|error| Status::unauthenticated(error.to_string()))?;
            request.extensions_mut().insert::<Identity>(identity);
        }
        request.extensions_mut().insert(peer.tcp);
        Ok(request)
    }
}

/// The open connections. Clones share them.
#[derive(Debug, Clone, Default)]
struct Open(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    all: BTreeMap<u64, (Arc<Facts>, CancellationToken)>,
}

impl Open {
    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        // A panic while the lock was held leaves the map whole: every change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(
        &self,
        facts: Option<Arc<Facts>>,
    ) -> (Entry, Pin<Box<WaitForCancellationFutureOwned>>) {
        let cancel = CancellationToken::new();
        let ended = Box::pin(cancel.clone().cancelled_owned());
        let mut entries = self.lock();
        entries.next += 1;
        let number = entries.next;
        if let Some(facts) = facts {
            entries.all.insert(number, (facts, cancel));
        }
        (Entry { open: self.clone(), number }, ended)
    }

    /// Why a certificate does not count, if it does not.
    fn objection(&self, facts: &Facts) -> Option<String> {
        if !facts.is_valid_at(Timestamp::now()) {
            return Some(format!("the certificate ended at {}; connect anew", facts.not_after));
        }
        None
    }

    /// Ends connections whose certificates do not count any more, with all their streams.
    async fn sweep(self, serving: mpsc::Sender<io::Result<Encrypted>>) {
        let mut rhythm = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                _ = rhythm.tick() => {}
                () = serving.closed() => return,
            }
            for (facts, cancel) in self.lock().all.values() {
                if let Some(why) = self.objection(facts) {
                    if !cancel.is_cancelled() {
                        tracing::info!(peer = facts.name, "a connection is ended: {why}");
                    }
                    cancel.cancel();
                }
            }
        }
    }
}

/// Takes a connection out of the list when it ends.
struct Entry {
    open: Open,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.open.lock().all.remove(&self.number);
    }
}

/// An encrypted connection that can be ended from here.
pub(crate) struct Encrypted {
    stream: flyball_pki::ServerStream,
    peer: TlsPeer,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _entry: Entry,
}

impl Connected for Encrypted {
    type ConnectInfo = TlsPeer;

    fn connect_info(&self) -> TlsPeer {
        self.peer.clone()
    }
}

fn ended() -> io::Error {
    let why = "the peer's certificate does not count any more";
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A connection that is served is always being read from, so this is where its end is noticed.
        if self.ended.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(ended()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
