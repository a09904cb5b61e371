//! Connections over TLS: accepted, named by their certificates, and ended when those no longer count.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
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
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::{Request, Status};

use crate::access::RevokedList;
use crate::access::limit::place;

/// Handshakes at a time: each costs a signature, and a peer that never finishes one is gone after five
/// seconds.
const HANDSHAKES_MAX: usize = 256;
/// Connections that wait to be served; serving takes them at once.
const WAITING_MAX: usize = 16;
/// Rhythm of looking whether the certificates behind open connections still count.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Connections without a certificate at a time, of all and from one place: each is there for two calls.
const STRANGERS_MAX: usize = 64;
const STRANGERS_OF_ONE_MAX: usize = 8;
/// How long such a connection may last.
const STRANGER_LIFE_MAX: Duration = Duration::from_secs(20);
/// Pause after a connection could not be accepted, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How connections are taken.
#[derive(Clone)]
pub(crate) struct Tls {
    /// What this scheduler shows.
    pub(crate) identity: Arc<LiveIdentity>,
    /// Peers without a certificate may join.
    pub(crate) strangers: bool,
    /// Certificates that are not taken any more.
    revoked: RevokedList,
    open: Open,
}

/// Who is let in, over all listeners.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admission {
    /// Machines without a certificate may join.
    pub(crate) strangers: bool,
    /// Certificates that are not taken any more.
    pub(crate) revoked: RevokedList,
    pub(crate) open: Open,
}

/// Who is at the other end; in the extensions of every request of the connection.
#[derive(Debug, Clone)]
pub(crate) struct TlsPeer {
    facts: Option<Arc<Facts>>,
    tcp: TcpConnectInfo,
}

impl TlsPeer {
    /// What the peer's certificate says; `None` for a stranger.
    pub(crate) fn facts(&self) -> Option<&Arc<Facts>> {
        self.facts.as_ref()
    }
}

impl Tls {
    pub(crate) fn new(identity: Arc<LiveIdentity>, admission: &Admission) -> Self {
        let Admission { strangers, revoked, open } = admission.clone();
        Self { identity, strangers, revoked, open }
    }

    /// Accepts for as long as the receiver lives.
    pub(crate) fn incoming(self, listener: TcpListener) -> mpsc::Receiver<io::Result<Encrypted>> {
        let (accepted, incoming) = mpsc::channel(WAITING_MAX);
        let sweep = Sweep { identity: self.identity.clone(), revoked: self.revoked.clone() };
        tokio::spawn(self.open.clone().sweep(sweep, accepted.clone()));
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
        let (entry, ended) = match &facts {
            Some(facts) => self.open.enter(facts.clone(), chain, generation),
            None => self
                .open
                .enter_stranger(place(address.ip()))
                .ok_or_else(|| io::Error::other("too many are connected without a certificate"))?,
        };
        let tcp = TcpConnectInfo { local_addr, remote_addr: Some(address) };
        Ok(Encrypted { stream, peer: TlsPeer { facts, tcp }, ended, _entry: entry })
    }

    /// Names the caller of a request by the certificate of its connection, as long as that counts.
    pub(crate) fn name(&self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let Some(peer) = request.extensions().get::<TlsPeer>().cloned() else {
            return Err(Status::unauthenticated("the connection has no certificate"));
        };
        if let Some(facts) = &peer.facts {
            if let Some(why) = objection(facts).or_else(|| self.revoked.objection(facts)) {
                return Err(Status::unauthenticated(why));
            }
            let named = facts.require_identity();
            let identity =
                named.cloned().map_err(|error| Status::unauthenticated(error.to_string()))?;
            request.extensions_mut().insert::<Identity>(identity);
        } else if self.strangers {
            request.extensions_mut().insert(Identity::Stranger);
        }
        request.extensions_mut().insert(peer.tcp);
        Ok(request)
    }
}

/// The open connections. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Open(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    all: BTreeMap<u64, Certified>,
    strangers: BTreeMap<u64, Stranger>,
}

/// A connection whose peer showed none.
#[derive(Debug)]
struct Stranger {
    from: IpAddr,
    since: Instant,
    cancel: CancellationToken,
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
    /// What the callers on open connections have shown; one may have several.
    pub(crate) fn peers(&self) -> Vec<Arc<Facts>> {
        self.lock().all.values().map(|one| one.facts.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        // A panic while the lock was held leaves the map whole: every change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, facts: Arc<Facts>, chain: Chain, generation: u64) -> Entered {
        let cancel = CancellationToken::new();
        let ended = Box::pin(cancel.clone().cancelled_owned());
        let mut entries = self.lock();
        entries.next += 1;
        let number = entries.next;
        entries.all.insert(number, Certified { facts, chain, generation, cancel });
        (Entry { open: self.clone(), number }, ended)
    }

    /// `None` when there are too many.
    fn enter_stranger(&self, from: IpAddr) -> Option<Entered> {
        let cancel = CancellationToken::new();
        let ended = Box::pin(cancel.clone().cancelled_owned());
        let mut entries = self.lock();
        let of_one = entries.strangers.values().filter(|one| one.from == from).count();
        if entries.strangers.len() >= STRANGERS_MAX || of_one >= STRANGERS_OF_ONE_MAX {
            return None;
        }
        entries.next += 1;
        let number = entries.next;
        entries.strangers.insert(number, Stranger { from, since: Instant::now(), cancel });
        Some((Entry { open: self.clone(), number }, ended))
    }

    /// Ends connections whose certificates do not count any more, with all their streams.
    async fn sweep(self, of: Sweep, serving: mpsc::Sender<io::Result<Encrypted>>) {
        let mut rhythm = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                _ = rhythm.tick() => {}
                () = serving.closed() => return,
            }
            let now = of.identity.current();
            let mut entries = self.lock();
            let late =
                entries.strangers.values().filter(|one| one.since.elapsed() > STRANGER_LIFE_MAX);
            late.for_each(|one| one.cancel.cancel());
            for one in entries.all.values_mut() {
                let why = one.objection(&now).or_else(|| of.revoked.objection(&one.facts));
                if let Some(why) = why.filter(|_| !one.cancel.is_cancelled()) {
                    tracing::info!(peer = one.facts.name, "a connection is ended: {why}");
                    one.cancel.cancel();
                }
            }
        }
    }
}

/// What open connections are looked at with.
struct Sweep {
    identity: Arc<LiveIdentity>,
    revoked: RevokedList,
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

/// A connection's place in the list, and what resolves when it is to end.
type Entered = (Entry, Pin<Box<WaitForCancellationFutureOwned>>);

/// Takes a connection out of the list when it ends.
struct Entry {
    open: Open,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut entries = self.open.lock();
        entries.all.remove(&self.number);
        entries.strangers.remove(&self.number);
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
mod tests;
