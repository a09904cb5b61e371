//! A step that was handed to the guard.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use flyball_core::score::ExitKind;
use tokio::sync::oneshot;

use crate::line::Line;
use crate::socket::{Received, Socket};
use crate::wire::Report;

/// How a step ended. When it is told, none of the step's processes is left, but for
/// [`ExitKind::GuardLost`] after the guard itself died: then its step init is killing them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepEnd {
    /// How the command itself ended.
    pub exit: ExitKind,
    /// More about it in words, or nothing: why it was killed or lost, or that its output file could
    /// not be written.
    pub detail: String,
    /// Processes that were alive when the command had ended, and were killed.
    pub leftovers_killed: u32,
    /// Bytes in the output file.
    pub output_bytes: u64,
    /// Whether output was dropped.
    pub output_truncated: bool,
    /// From start to end of the command.
    pub wall: Duration,
}

impl From<Report> for StepEnd {
    fn from(report: Report) -> Self {
        Self {
            exit: report.exit,
            detail: report.detail,
            leftovers_killed: report.leftovers_killed,
            output_bytes: report.output_bytes,
            output_truncated: report.output_truncated,
            wall: Duration::from_micros(report.wall_us),
        }
    }
}

/// A running step. Dropped before its end was seen, it is killed.
pub struct StepHandle {
    killer: StepKiller,
    end: oneshot::Receiver<StepEnd>,
    ended: Option<StepEnd>,
    listeners: Option<Listeners>,
}

/// Where a step's listeners arrive; see [`crate::Confinement::listen`].
#[derive(Debug)]
pub struct Listeners(Socket);

impl Listeners {
    pub(crate) fn new(socket: Socket) -> Self {
        Self(socket)
    }

    /// Waits for the next one; `None` when there will be none. Blocks the thread, for as long as the
    /// step takes to start.
    pub fn next_blocking(&self) -> Option<(u16, TcpListener)> {
        match self.0.receive::<u16>(true) {
            Received::Frame(port, fds) => Some((port, fds.into_iter().next()?.into())),
            _ => None,
        }
    }
}

/// Kills a step from anywhere.
#[derive(Clone)]
pub struct StepKiller {
    line: Arc<Line>,
    id: u64,
}

impl StepKiller {
    /// Has it killed; without effect when it has ended. Does not wait: the end is told to whoever
    /// waits for the step.
    pub fn kill(&self) {
        self.line.kill(self.id);
    }
}

impl StepHandle {
    pub(crate) fn new(
        line: Arc<Line>,
        id: u64,
        end: oneshot::Receiver<StepEnd>,
        listeners: Option<Listeners>,
    ) -> Self {
        Self { killer: StepKiller { line, id }, end, ended: None, listeners }
    }

    /// Where its listeners arrive, if it has any; once.
    pub fn take_listeners(&mut self) -> Option<Listeners> {
        self.listeners.take()
    }

    /// Waits for the end. May be dropped half-way and called again.
    pub async fn wait(&mut self) -> StepEnd {
        if let Some(end) = &self.ended {
            return end.clone();
        }
        let end = (&mut self.end).await.unwrap_or_else(|_| {
            StepEnd::from(Report::bare(ExitKind::GuardLost, "the guard's reader ended"))
        });
        self.ended = Some(end.clone());
        end
    }

    /// See [`StepKiller::kill`].
    pub fn kill(&self) {
        self.killer.kill();
    }

    /// What kills it from elsewhere.
    pub fn killer(&self) -> StepKiller {
        self.killer.clone()
    }
}

impl Drop for StepHandle {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.kill();
        }
    }
}
