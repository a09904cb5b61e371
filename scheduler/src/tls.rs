//! Connections over TLS: accepted, named by their certificates, and ended when those no longer count.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use flyball_core::identity::Identity;
use flyball_pki::{Accepted, Chain, Facts, LiveIdentity, Loaded};
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
        tokio::spawn(self.open.clone().sweep(self.identity.clone(), accepted.clone()));
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
        let Accepted { stream, peer, chain, generation } =
            flyball_pki::accept(tcp, &self.identity, self.strangers).await?;
        let facts = peer.map(Arc::new);
        let (entry, ended) = self.open.enter(facts.clone(), chain, generation);
        let tcp = TcpConnectInfo { local_addr, remote_addr: Some(address) };
        Ok(Encrypted { stream, peer: TlsPeer { facts, tcp }, ended, _entry: entry })
    }

    /// Names the caller of a request by the certificate of its connection, as long as that counts.
    pub(crate) fn name(&self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let Some(peer) = request.extensions().get::<TlsPeer>().cloned() else {
            return Err(Status::unauthenticated("the connection has no certificate"));
        };
        if let Some(facts) = &peer.facts {
            if let Some(why) = objection(facts) {
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
    all: BTreeMap<u64, Certified>,
}

/// A connection whose peer showed a certificate.
#[derive(Debug)]
struct Certified {
    facts: Arc<Facts>,
    chain: Chain,
    /// The reading of our files under which the certificate was last found good.
    generation: u64,
    cancel: CancellationToken,
}

impl Open {
    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        // A panic while the lock was held leaves the map whole: every change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(
        &self,
        facts: Option<Arc<Facts>>,
        chain: Chain,
        generation: u64,
    ) -> (Entry, Pin<Box<WaitForCancellationFutureOwned>>) {
        let cancel = CancellationToken::new();
        let ended = Box::pin(cancel.clone().cancelled_owned());
        let mut entries = self.lock();
        entries.next += 1;
        let number = entries.next;
        if let Some(facts) = facts {
            entries.all.insert(number, Certified { facts, chain, generation, cancel });
        }
        (Entry { open: self.clone(), number }, ended)
    }

    /// Ends connections whose certificates do not count any more, with all their streams.
    async fn sweep(
        self,
        identity: Arc<LiveIdentity>,
        serving: mpsc::Sender<io::Result<Encrypted>>,
    ) {
        let mut rhythm = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                _ = rhythm.tick() => {}
                () = serving.closed() => return,
            }
            let now = identity.current();
            for one in self.lock().all.values_mut() {
                let why = one.objection(&now);
                if let Some(why) = why.filter(|_| !one.cancel.is_cancelled()) {
                    tracing::info!(peer = one.facts.name, "a connection is ended: {why}");
                    one.cancel.cancel();
                }
            }
        }
    }
}

impl Certified {
    /// Why its certificate does not count any more. The authorities are asked again when our files changed,
    /// also for a connection that was accepted just before.
    fn objection(&mut self, now: &Loaded) -> Option<String> {
        if self.generation != now.generation {
            if !now.trusts(&self.chain) {
                return Some("its authority is not trusted any more".to_owned());
            }
            self.generation = now.generation;
        }
        objection(&self.facts)
    }
}

/// Why a certificate does not count by its times, if it does not.
fn objection(facts: &Facts) -> Option<String> {
    let now = Timestamp::now();
    if facts.is_valid_at(now) {
        return None;
    }
    Some(match now < facts.not_before {
        true => format!("the certificate begins at {}; look at the clocks", facts.not_before),
        false => format!("the certificate ended at {}; connect anew", facts.not_after),
    })
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

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use flyball_pki::{Authority, DAY, KeyOf, Order, Peer, Subject, connect, write_identity};
    use tokio::io::AsyncReadExt;

    use super::*;

    /// The longest that anything here is waited for.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn issue(dir: &Path, authority: &Authority, name: &str) -> PathBuf {
        let subject = Subject::Caller(name.parse().unwrap());
        let hosts = if subject.serves() { vec!["127.0.0.1".to_owned()] } else { Vec::new() };
        let order = Order { subject, hosts, lifetime: DAY, key: KeyOf::New, not_before: None };
        let issued = authority.issue(&order, Timestamp::now()).unwrap();
        let place = dir.join(name.replace(':', "-"));
        let key = issued.key.as_deref().unwrap();
        write_identity(&place, &issued.bundle, &issued.chain, key).unwrap();
        place
    }

    #[tokio::test]
    async fn a_connection_ends_when_its_authority_is_retired() {
        let dir = tempfile::tempdir().unwrap();
        let old = Authority::init(&dir.path().join("ca"), "ours", DAY * 10, Timestamp::now());
        let old = old.unwrap();
        let node = LiveIdentity::open(&issue(dir.path(), &old, "node:n1")).unwrap();
        let new = old.rotate(DAY * 10, Timestamp::now()).unwrap();
        let ours = issue(dir.path(), &new, "scheduler:s1");

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = Tls::new(Arc::new(LiveIdentity::open(&ours).unwrap()), false);
        let mut incoming = tls.incoming(listener);
        let _client = connect(("127.0.0.1", port), &node, Peer::Scheduler).await.unwrap();
        let mut served = incoming.recv().await.unwrap().unwrap();

        // Both authorities are trusted: the connection stays.
        let early = tokio::time::timeout(SWEEP_EVERY * 2, served.read_u8()).await;
        assert!(early.is_err(), "{early:?}");
        let last = new.retire().unwrap();
        issue(dir.path(), &last, "scheduler:s1");
        let ended = tokio::time::timeout(PATIENCE, served.read_u8()).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
