//! A TCP proxy with a hand on each direction: what one process says to another passes, waits, is
//! lost or is cut off, as a case asks for.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::http2::{Frames, Watches};

/// Bytes taken at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks of one direction that are under way at a time on a slow link; then its sender has to wait.
const UNDER_WAY_MAX: usize = 64;
/// How long answers are swallowed after a trigger, so that the one that matters is among them.
const BLIND: Duration = Duration::from_millis(300);

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They go on at once.
    Pass,
    /// They go on in their order, each so much later.
    Delay(Duration),
    /// They wait until the mode is another.
    Hold,
    /// They are taken and lost; the connection is cut when the mode changes.
    Drop,
    /// Connections are cut, and new ones too.
    Close,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From who connected.
    There,
    /// To who connected.
    Back,
}

/// Where a proxy leads.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What is waited for, and what happens when it goes there.
struct Trigger {
    text: Vec<u8>,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It is delivered, its answer is not, and the connection is cut.
    Cut,
    /// This way is held from then on, with this text itself if it is its way.
    Hold(Way),
}

struct Shared {
    target: Mutex<Option<Target>>,
    there: watch::Sender<Mode>,
    back: watch::Sender<Mode>,
    /// Text that makes something happen, once.
    trigger: Mutex<Option<Trigger>>,
    fired: AtomicU64,
    /// Bytes that were lost or swallowed.
    lost: AtomicU64,
    /// Messages that went there.
    asked: AtomicU64,
    /// Whether watches that are there hear nothing.
    silent: AtomicBool,
}

impl Shared {
    fn mode(&self, way: Way) -> &watch::Sender<Mode> {
        match way {
            Way::There => &self.there,
            Way::Back => &self.back,
        }
    }
}

/// One proxy. Its task ends with the runtime.
#[derive(Clone)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a free port. Connections are cut until there is a target.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let shared = Arc::new(Shared {
            target: Mutex::new(None),
            there: watch::Sender::new(Mode::Pass),
            back: watch::Sender::new(Mode::Pass),
            trigger: Mutex::new(None),
            fired: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            silent: AtomicBool::new(false),
        });
        let proxy = Self { address: listener.local_addr()?, shared: shared.clone() };
        tokio::spawn(async move {
            while let Ok((inbound, _)) = listener.accept().await {
                tokio::spawn(connect(inbound, shared.clone()));
            }
        });
        Ok(proxy)
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets where it leads, for connections from now on.
    pub(crate) fn lead_to(&self, target: Target) {
        *self.shared.target.lock().unwrap() = Some(target);
    }

    /// Sets what happens to one direction.
    pub(crate) fn set(&self, way: Way, mode: Mode) {
        self.shared.mode(way).send_replace(mode);
    }

    /// Sets both directions.
    pub(crate) fn set_both(&self, mode: Mode) {
        self.set(Way::There, mode);
        self.set(Way::Back, mode);
    }

    /// The next request with this text is delivered, its answer is not, and the connection is cut.
    pub(crate) fn cut_behind(&self, text: &str) {
        self.arm(text.as_bytes(), Then::Cut);
    }

    /// One way is held from the next request with this text on; the way there with the request itself.
    pub(crate) fn hold_from(&self, text: &[u8], way: Way) {
        self.arm(text, Then::Hold(way));
    }

    fn arm(&self, text: &[u8], then: Then) {
        *self.shared.trigger.lock().unwrap() = Some(Trigger { text: text.to_vec(), then });
    }

    /// Nothing is waited for any more.
    pub(crate) fn disarm(&self) {
        *self.shared.trigger.lock().unwrap() = None;
    }

    /// How often a trigger fired.
    pub(crate) fn fired(&self) -> u64 {
        self.shared.fired.load(Ordering::SeqCst)
    }

    /// Messages of who connected so far: requests, and what goes on streams that are open.
    pub(crate) fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Watches of the store that are there now hear nothing, and everything else is heard; so are
    /// watches that begin later. What was held comes when it is over.
    pub(crate) fn silence_watches(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
        // Wakes those who hold something.
        self.shared.back.send_modify(|_| {});
    }

    /// Bytes lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

async fn connect(inbound: TcpStream, shared: Arc<Shared>) {
    let closed = |modes: &watch::Sender<Mode>| *modes.borrow() == Mode::Close;
    if closed(&shared.there) || closed(&shared.back) {
        return;
    }
    let Some(target) = shared.target.lock().unwrap().clone() else { return };
    // A delay would otherwise come on top of the kernel's own.
    let _ = inbound.set_nodelay(true);
    let (read, write) = inbound.into_split();
    match target {
        Target::Tcp(address) => {
            let Ok(outbound) = TcpStream::connect(address).await else { return };
            let _ = outbound.set_nodelay(true);
            let (out_read, out_write) = outbound.into_split();
            join((read, write), (out_read, out_write), &shared).await;
        }
        Target::Unix(path) => {
            let Ok(outbound) = UnixStream::connect(path).await else { return };
            let (out_read, out_write) = outbound.into_split();
            join((read, write), (out_read, out_write), &shared).await;
        }
    }
}

/// Carries both directions until one of them ends.
async fn join(
    client: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    server: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    shared: &Shared,
) {
    let (blind, watches) = (AtomicBool::new(false), Mutex::new(Watches::default()));
    let (blind, watches) = (&blind, &watches);
    let modes = shared.there.subscribe();
    let frames = Frames::of_client();
    let there = Pump { shared, modes, blind, watches, frames, way: Way::There };
    let modes = shared.back.subscribe();
    let frames = Frames::of_server();
    let back = Pump { shared, modes, blind, watches, frames, way: Way::Back };
    tokio::select! {
        () = there.run(client.0, server.1) => {}
        () = back.run(server.0, client.1) => {}
    }
}

struct Pump<'a> {
    shared: &'a Shared,
    modes: watch::Receiver<Mode>,
    /// Set when this connection's answers are to be swallowed.
    blind: &'a AtomicBool,
    watches: &'a Mutex<Watches>,
    frames: Frames,
    way: Way,
}

impl Pump<'_> {
    async fn run(mut self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut tail = Vec::new();
        // What is late, with the time at which it goes on.
        let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        // A stream with a gap is no stream: it is cut once bytes may pass again.
        let (mut gap, mut ended) = (false, false);
        loop {
            let mode = *self.modes.borrow_and_update();
            match mode {
                Mode::Close => return,
                Mode::Drop => {}
                _ if gap || (ended && under_way.is_empty()) => return,
                _ => {}
            }
            let late = if self.way == Way::Back { self.heard(&[]) } else { Vec::new() };
            if !late.is_empty() && to.write_all(&late).await.is_err() {
                return;
            }
            let due = under_way.front().map(|(at, _)| *at);
            let bytes = tokio::select! {
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    under_way.pop_front().map(|(_, bytes)| bytes).unwrap_or_default()
                }
                count = from.read(&mut chunk), if !ended && under_way.len() < UNDER_WAY_MAX => {
                    let count = count.unwrap_or(0);
                    let late = match mode {
                        Mode::Delay(late) => Some(late),
                        // Nothing overtakes.
                        _ => due.map(|_| Duration::ZERO),
                    };
                    match late {
                        _ if count == 0 && under_way.is_empty() => return,
                        _ if count == 0 => {
                            ended = true;
                            continue;
                        }
                        Some(late) => {
                            under_way.push_back((Instant::now() + late, chunk[..count].to_vec()));
                            continue;
                        }
                        None => chunk[..count].to_vec(),
                    }
                }
                changed = self.modes.changed() => if changed.is_ok() { continue } else { return },
            };
            match self.send(&bytes, &mut tail, &mut to).await {
                Passed::Yes => {}
                Passed::Lost => gap = true,
                Passed::Cut => return,
            }
        }
    }

    /// Lets bytes go on as the mode and the trigger say.
    async fn send(
        &mut self,
        bytes: &[u8],
        tail: &mut Vec<u8>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Passed {
        let fired = if self.way == Way::There { self.fires(tail, bytes) } else { None };
        if let Some(Then::Hold(way)) = fired {
            self.shared.mode(way).send_replace(Mode::Hold);
            self.shared.fired.fetch_add(1, Ordering::SeqCst);
        }
        match self.pass(bytes).await {
            Passed::Yes => {}
            other => return other,
        }
        let cuts = fired == Some(Then::Cut);
        if cuts {
            self.blind.store(true, Ordering::SeqCst);
        }
        let heard = if self.way == Way::There { self.note(bytes) } else { self.heard(bytes) };
        if to.write_all(&heard).await.is_err() || to.flush().await.is_err() {
            return Passed::Cut;
        }
        if cuts {
            self.shared.fired.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(BLIND).await;
            return Passed::Cut;
        }
        Passed::Yes
    }

    /// Counts what is asked; all of it goes on.
    fn note(&mut self, bytes: &[u8]) -> Vec<u8> {
        let silent = self.shared.silent.load(Ordering::SeqCst);
        let mut watches = self.watches.lock().unwrap();
        for frame in self.frames.cut(bytes) {
            watches.note(&frame, silent);
            self.shared.asked.fetch_add(u64::from(frame.is_message()), Ordering::SeqCst);
        }
        bytes.to_vec()
    }

    /// What goes on of these bytes of the server's, in whole frames.
    fn heard(&mut self, bytes: &[u8]) -> Vec<u8> {
        let silent = self.shared.silent.load(Ordering::SeqCst);
        self.watches.lock().unwrap().heard(self.frames.cut(bytes), silent)
    }

    /// Waits until these bytes may go on, or tells that they may not.
    async fn pass(&mut self, bytes: &[u8]) -> Passed {
        loop {
            let mode = *self.modes.borrow_and_update();
            let lost =
                mode == Mode::Drop || (self.way == Way::Back && self.blind.load(Ordering::SeqCst));
            if lost {
                self.shared.lost.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                return Passed::Lost;
            }
            match mode {
                Mode::Close => return Passed::Cut,
                Mode::Hold => {
                    if self.modes.changed().await.is_err() {
                        return Passed::Cut;
                    }
                }
                Mode::Pass | Mode::Delay(_) | Mode::Drop => return Passed::Yes,
            }
        }
    }

    /// Whether the text that is waited for ends in these bytes; it may have begun in earlier ones.
    fn fires(&self, tail: &mut Vec<u8>, bytes: &[u8]) -> Option<Then> {
        let mut trigger = self.shared.trigger.lock().unwrap();
        let Some(Trigger { text, then }) = trigger.as_ref() else {
            tail.clear();
            return None;
        };
        let then = *then;
        tail.extend_from_slice(bytes);
        let found = tail.windows(text.len()).any(|window| window == text);
        let keep = text.len().saturating_sub(1).min(tail.len());
        tail.drain(..tail.len() - keep);
        if found {
            *trigger = None;
        }
        found.then_some(then)
    }
}

enum Passed {
    Yes,
    Lost,
    Cut,
}
