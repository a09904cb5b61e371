//! The line between worker and guard: who sends, who waits for what, and the thread that hears.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use flyball_core::score::ExitKind;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::{oneshot, watch};

use crate::abilities::Abilities;
use crate::config::{GuardLoss, SpawnError};
use crate::guard::STEPS_MAX;
use crate::handle::StepEnd;
use crate::lock::StateLock;
use crate::page::Page;
use crate::socket::{Received, SendError, Socket};
use crate::wire::{News, Order, Report};

/// Longest wait of a send for room in the socket. The guard reads at once unless something is wrong.
const SEND_WAIT_MAX: Duration = Duration::from_millis(200);

/// What all clones, handles and the reader share.
pub(crate) struct Line {
    pub(crate) socket: Socket,
    pub(crate) page: Page,
    pub(crate) next_id: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// Who waits for what. A loss is stored under the same lock, so that nobody starts to wait after it.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) steps: BTreeMap<u64, oneshot::Sender<StepEnd>>,
    pub(crate) all_dead: Vec<oneshot::Sender<()>>,
    pub(crate) loss: Option<GuardLoss>,
}

impl Line {
    pub(crate) fn new(socket: Socket, page: Page) -> Self {
        Self { socket, page, next_id: AtomicU64::new(1), waiting: Mutex::default() }
    }

    pub(crate) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // The map is whole after every single change, so a panic elsewhere does not spoil it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who waits for the end of a step that is about to be sent.
    pub(crate) fn expect(&self, id: u64) -> Result<oneshot::Receiver<StepEnd>, SpawnError> {
        let mut waiting = self.waiting();
        if let Some(loss) = &waiting.loss {
            return Err(loss.clone().into());
        }
        if waiting.steps.len() >= STEPS_MAX {
            return Err(SpawnError::Busy("it has as many steps as it can take"));
        }
        let (sender, end) = oneshot::channel();
        waiting.steps.insert(id, sender);
        Ok(end)
    }

    /// Sends, waiting shortly for room.
    pub(crate) fn send(&self, order: &Order, fds: &[OwnedFd]) -> Result<(), SendError> {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let give_up = Instant::now() + SEND_WAIT_MAX;
        loop {
            match self.socket.send(order, &fds) {
                Err(SendError::Full) if Instant::now() < give_up => {
                    let mut room = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut room, PollTimeout::from(10_u8));
                }
                result => return result,
            }
        }
    }

    /// Has a step killed, if its end is not known.
    pub(crate) fn kill(&self, id: u64) {
        if self.waiting().steps.contains_key(&id)
            && self.socket.send(&Order::Kill { id }, &[]).is_err()
        {
            // As above: a guard that does not take orders loses its worker, and kills.
            self.socket.shut_down();
        }
    }

    fn on_ended(&self, id: u64, report: Report) {
        let waiting = self.waiting().steps.remove(&id);
        // Nobody waits: the handle was dropped.
        let _ = waiting.map(|sender| sender.send(StepEnd::from(report)));
    }

    fn on_loss(&self, loss: &GuardLoss) {
        let (steps, all_dead) = {
            let mut waiting = self.waiting();
            waiting.loss = Some(loss.clone());
            (std::mem::take(&mut waiting.steps), std::mem::take(&mut waiting.all_dead))
        };
        self.page.end();
        for (_, sender) in steps {
            let report = Report::bare(ExitKind::GuardLost, loss.reason.clone());
            let _ = sender.send(StepEnd::from(report));
        }
        // Dropped without an answer: their waiters look up the loss.
        drop(all_dead);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // The reader has its own descriptor of the socket, so closing ours would not end it.
        self.socket.shut_down();
    }
}

/// The thread that hears the guard. Holds the worker's share of the lock as long as the guard lives.
pub(crate) struct Reader {
    line: Weak<Line>,
    child: Child,
    lock: StateLock,
}

impl Reader {
    pub(crate) fn new(line: &Arc<Line>, child: Child, lock: StateLock) -> Self {
        Self { line: Arc::downgrade(line), child, lock }
    }

    /// Until the guard is gone. `socket` is a descriptor of its own of the line's socket.
    pub(crate) fn run(
        mut self,
        socket: &Socket,
        ready: oneshot::Sender<Result<Abilities, String>>,
        loss: &watch::Sender<Option<GuardLoss>>,
    ) {
        let mut ready = Some(ready);
        let mut last = GuardLoss { reason: "it died".into(), proven: false };
        loop {
            let news = match socket.receive(true) {
                Received::Frame(news, _) => news,
                Received::Nothing => continue,
                Received::End => break,
                Received::Malformed(why) => {
                    last.reason = format!("it sent something malformed: {why}");
                    socket.shut_down();
                    break;
                }
            };
            match news {
                News::Ready { abilities } => {
                    let _ = ready.take().map(|sender| sender.send(Ok(abilities)));
                }
                News::Unable { reason } => {
                    let _ = ready.take().map(|sender| sender.send(Err(reason)));
                }
                News::Ended { id, report } => {
                    let _ = self.line.upgrade().map(|line| line.on_ended(id, report));
                }
                News::AllDead => {
                    let line = self.line.upgrade();
                    let waiters = line.map(|line| std::mem::take(&mut line.waiting().all_dead));
                    for sender in waiters.into_iter().flatten() {
                        let _ = sender.send(());
                    }
                }
                News::Over { reason } => last = GuardLoss { reason, proven: true },
            }
        }
        drop(ready);
        let line = self.line.upgrade();
        if let Some(line) = &line {
            line.on_loss(&last);
        }
        drop(line);
        if last.proven {
            // It holds its share of the lock until its very end, or until it becomes the reporter,
            // which may take long to reach anybody.
            drop(self.lock);
            let _ = loss.send_replace(Some(last));
            let _ = self.child.wait();
        } else {
            // It kills first, or is dead; either way it ends by itself.
            let _ = self.child.wait();
            drop(self.lock);
            let _ = loss.send_replace(Some(last));
        }
    }
}
