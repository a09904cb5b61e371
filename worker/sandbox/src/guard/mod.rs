//! The guard process: entry point, set-up, and the wait at the centre of its life.

mod cgroup;
mod inits;
mod layers;
mod report;
mod serve;
mod start;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use flyball_core::lease::BootInstant;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::timerfd::TimerFd;

use crate::lock::Unproven;
use crate::page::Page;
use crate::socket::Socket;
use crate::step::Surroundings;
use crate::wire::{News, Report};

use cgroup::{Cgroups, Group};
use inits::Init;

/// Most steps at a time. Each costs the guard one descriptor (the ordinary limit is 1024) and the
/// machine two processes.
pub(crate) const STEPS_MAX: usize = 400;

/// Most step inits that wait for a step. One is forked ahead of time, so that its set-up is not part
/// of a step's start; more stay from times when there were more steps. Each takes some 300 KiB.
const SPARES_MAX: usize = 16;

/// Pause between two sweeps for processes whose step init was killed from outside.
const SWEEP_PAUSE: Duration = Duration::from_millis(5);

/// The life of a guard, to be called from `main` of a process that has started no thread, with the
/// worker's socket as standard input (what [`crate::Guard::start`] arranges). Returns when nothing
/// that it started is left, or becomes the reporter then (see [`crate::Reporter`]).
pub fn guard_main() -> ExitCode {
    match start::start() {
        Ok(mut guard) => {
            guard.run();
            guard.report();
            ExitCode::SUCCESS
        }
        Err(start::CannotStart) => ExitCode::FAILURE,
    }
}

/// Whether the guard takes steps.
enum Mode {
    Serving,
    /// It kills all, says why, and exits.
    Ending {
        reason: String,
        /// Whether somebody else has to tell of it, as the worker is gone or stands still.
        report: bool,
    },
}

struct Guard {
    worker: Socket,
    signals: SignalFd,
    timer: TimerFd,
    /// What the timer is set to.
    armed: Option<BootInstant>,
    page: Page,
    /// Held, never used: the lock is free when its last holder is gone.
    _lock: OwnedFd,
    /// There if that alone would prove nothing.
    unproven: Option<Unproven>,
    /// How long a step init may take to kill its step before it is killed itself.
    grace: Duration,
    around: Surroundings,
    /// Where step inits get a group each, if the host allows it.
    cgroups: Option<Cgroups>,
    inits: Vec<Init>,
    /// Groups of inits that are gone, until nothing is left in them.
    leaving: Vec<Group>,
    mode: Mode,
    reporter: Option<report::Becoming>,
    /// Set while the worker waits for the word that all is dead.
    killing_all: bool,
    /// Set when step inits died without a report: their processes are ours now.
    sweeping: bool,
    /// Steps whose end is told when the sweep is done.
    lost: Vec<(u64, Report)>,
    /// News that the worker's socket had no room for. No order is read while there are any, and
    /// orders are the only source of steps, so this holds a few per step at most.
    outbox: VecDeque<News>,
}

/// What the wait found.
struct Ready {
    worker: bool,
    children: bool,
    timer: bool,
    inits: Vec<bool>,
}

impl Guard {
    fn run(&mut self) {
        while !self.is_over() {
            let ready = self.wait();
            if ready.timer {
                self.on_timer();
            }
            self.on_inits(&ready.inits);
            if ready.children {
                self.on_children();
            }
            self.flush();
            if ready.worker {
                self.on_worker();
            }
            self.on_overdue();
            self.empty_groups();
            self.sweep();
            self.on_all_dead();
            self.keep_a_spare();
        }
    }

    fn wait(&self) -> Ready {
        let serving = matches!(self.mode, Mode::Serving);
        let worker = match (serving, self.outbox.is_empty()) {
            (false, _) => PollFlags::empty(),
            (true, true) => PollFlags::POLLIN,
            (true, false) => PollFlags::POLLOUT,
        };
        let readable = PollFlags::POLLIN;
        let mut fds = Vec::with_capacity(3 + self.inits.len());
        fds.push(PollFd::new(self.signals.as_fd(), readable));
        fds.push(PollFd::new(self.timer.as_fd(), readable));
        let fixed = fds.len();
        for init in &self.inits {
            // One that has closed its socket only waits to be reaped; the place keeps the order.
            let (fd, flags) = match &init.socket {
                Some(socket) => (socket.as_fd(), readable),
                None => (self.signals.as_fd(), PollFlags::empty()),
            };
            fds.push(PollFd::new(fd, flags));
        }
        if serving {
            fds.push(PollFd::new(self.worker.as_fd(), worker));
        }
        // An interrupted wait shows nothing ready, and the loop comes round again.
        let _ = poll(&mut fds, self.timeout());
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let inits = fds[fixed..fixed + self.inits.len()].iter().map(is_ready).collect();
        Ready {
            children: is_ready(&fds[0]),
            timer: is_ready(&fds[1]),
            inits,
            worker: serving && fds.last().is_some_and(is_ready),
        }
    }

    fn timeout(&self) -> PollTimeout {
        let now = Instant::now();
        let next = self.inits.iter().filter_map(|init| init.kill_at).min();
        let mut pause = next.map(|at| at.saturating_duration_since(now));
        if self.sweeping || !self.leaving.is_empty() {
            pause = Some(pause.map_or(SWEEP_PAUSE, |pause| pause.min(SWEEP_PAUSE)));
        }
        // Rounded up, so that the time has come when the wait ends.
        let rounded = pause.map(|pause| pause + Duration::from_micros(999));
        rounded.map_or(PollTimeout::NONE, |pause| {
            PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX)
        })
    }
}
