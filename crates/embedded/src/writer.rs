//! The writer: group commit.
//!
//! It takes one command, adds whatever else is waiting, and commits all of it with one sync. What
//! arrives during a commit becomes the next batch; at idle nothing waits. It is a thread of the
//! operating system, because a sync blocks; only a simulation drives it as a future.

use crate::engine::Engine;
use crate::lease::Moment;
use crate::options::BATCH_COMMANDS_MAX;
use crate::shared::{Shared, ToWriter};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// Serves until it is told to stop, all senders are gone, or a commit fails.
pub(crate) fn run(mut engine: Engine, inbox: &Receiver<ToWriter>, started: Instant) {
    // However this thread ends: nobody waits for a watch that will never speak again.
    let _stopping = Stopping(Arc::clone(&engine.shared));
    loop {
        let next = next(&engine, inbox, started.elapsed());
        if !serve(&mut engine, inbox, next, started.elapsed()) {
            break;
        }
    }
}

/// The same as a future, on the clock of the runtime that polls it: without a thread of its own, so
/// that a simulation can repeat what happens. It blocks that runtime while it commits.
pub(crate) async fn drive(mut engine: Engine, inbox: Receiver<ToWriter>) {
    let _stopping = Stopping(Arc::clone(&engine.shared));
    let shared = Arc::clone(&engine.shared);
    // Made on the first poll: a runtime's clock is its own.
    let started = tokio::time::Instant::now();
    loop {
        let next = match inbox.try_recv() {
            Ok(message) => Next::Command(message),
            Err(TryRecvError::Disconnected) => Next::Ended,
            Err(TryRecvError::Empty) if engine.is_untidy() => Next::Quiet,
            Err(TryRecvError::Empty) => {
                let expiry = engine.leases.next_expiry().map(|at| started + at);
                tokio::select! {
                    biased;
                    () = shared.woken() => continue,
                    () = sleep_until(expiry) => Next::Expiry,
                }
            }
        };
        if !serve(&mut engine, &inbox, next, started.elapsed()) {
            break;
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One batch. False if it was the last one.
fn serve(engine: &mut Engine, inbox: &Receiver<ToWriter>, next: Next, now: Moment) -> bool {
    let mut serving = true;
    let mut batch = Vec::new();
    match next {
        Next::Command(ToWriter::Command(command)) => batch.push(*command),
        Next::Command(ToWriter::Stop) | Next::Ended => serving = false,
        Next::Quiet => return engine.tidy(),
        Next::Expiry => {}
    }
    while serving && batch.len() < BATCH_COMMANDS_MAX {
        match inbox.try_recv() {
            Ok(ToWriter::Command(command)) => batch.push(*command),
            Ok(ToWriter::Stop) => serving = false,
            Err(_) => break,
        }
    }
    engine.process(batch, now) && (!engine.is_overdue() || engine.tidy()) && serving
}

struct Stopping(Arc<Shared>);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.stop();
    }
}

enum Next {
    Command(ToWriter),
    Expiry,
    Quiet,
    Ended,
}

fn next(engine: &Engine, inbox: &Receiver<ToWriter>, now: Moment) -> Next {
    let expiry = engine.leases.next_expiry().map(|at| at.saturating_sub(now));
    let wait = if engine.is_untidy() { Some(Duration::ZERO) } else { expiry };
    let Some(wait) = wait else {
        return inbox.recv().map_or(Next::Ended, Next::Command);
    };
    match inbox.recv_timeout(wait) {
        Ok(message) => Next::Command(message),
        Err(RecvTimeoutError::Disconnected) => Next::Ended,
        Err(RecvTimeoutError::Timeout) if expiry == Some(Duration::ZERO) => Next::Expiry,
        Err(RecvTimeoutError::Timeout) if engine.is_untidy() => Next::Quiet,
        Err(RecvTimeoutError::Timeout) => Next::Expiry,
    }
}
