//! The writer thread: group commit.
//!
//! It takes one command, adds whatever else is waiting, and commits all of it with one sync. What
//! arrives during a commit becomes the next batch; at idle nothing waits. It is a thread of the
//! operating system, because a sync blocks.

use crate::engine::Engine;
use crate::lease::Moment;
use crate::options::BATCH_COMMANDS_MAX;
use crate::shared::{Shared, ToWriter};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Serves until it is told to stop, all senders are gone, or a commit fails.
pub(crate) fn run(mut engine: Engine, inbox: &Receiver<ToWriter>, started: Instant) {
    // However this thread ends: nobody waits for a watch that will never speak again.
    let _stopping = Stopping(Arc::clone(&engine.shared));
    let mut serving = true;
    while serving {
        let mut batch = Vec::new();
        match next(&engine, inbox, started.elapsed()) {
            Next::Command(ToWriter::Command(command)) => batch.push(*command),
            Next::Command(ToWriter::Stop) | Next::Ended => serving = false,
            Next::Quiet => {
                if !engine.tidy() {
                    break;
                }
                continue;
            }
            Next::Expiry => {}
        }
        while serving && batch.len() < BATCH_COMMANDS_MAX {
            match inbox.try_recv() {
                Ok(ToWriter::Command(command)) => batch.push(*command),
                Ok(ToWriter::Stop) => serving = false,
                Err(_) => break,
            }
        }
        if !engine.process(batch, started.elapsed()) || (engine.is_overdue() && !engine.tidy()) {
            break;
        }
    }
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
