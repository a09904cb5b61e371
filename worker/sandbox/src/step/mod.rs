//! The step init: one small process per command, forked by the guard, that runs it, holds its time
//! limit and the shared deadline by itself, and leaves nothing behind.

mod exec;
mod output;
mod setup;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use flyball_core::lease::BootInstant;
use flyball_core::score::ExitKind;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::abilities::Containment;
use crate::clock::{boottime, timespec};
use crate::page::{Page, Permit};
use crate::proctree::{Reaped, end_all, reap_ready};
use crate::socket::{Received, Socket};
use crate::sys::exit_now;
use crate::wire::{InitNews, Order, Report, SpawnOrder};

use output::Output;
pub(crate) use setup::Surroundings;

/// The life of a step init, in the forked child. Waits for its step, runs it, reports, exits.
pub(crate) fn main(around: &Surroundings, page: &Page, socket: Socket) -> ! {
    // A panic must not unwind into the guard's stack frames, of which this process has a copy.
    let ended = catch_unwind(AssertUnwindSafe(|| life(around, page, &socket)));
    exit_now(i32::from(ended.is_err()))
}

fn life(around: &Surroundings, page: &Page, socket: &Socket) {
    let news = match setup::set_up(around, socket) {
        Ok(()) => InitNews::Up,
        Err(reason) => InitNews::Unable { reason },
    };
    // If it cannot be said, the guard is gone, which the next receive finds out.
    let _ = socket.send(&news, &[]);
    if !matches!(news, InitNews::Up) {
        return;
    }
    // Anything but a step, also the end of the socket, means that none will come.
    let Received::Frame(Order::Spawn(order), fds) = socket.receive(true) else { return };
    let report = match fds.into_iter().next() {
        Some(file) => run(around.containment, page, socket, &order, file),
        None => Report::bare(ExitKind::GuardLost, "the step came without its output file"),
    };
    let _ = socket.send(&InitNews::Ended(report), &[]);
}

/// Why a step ends before its command does.
enum Cut {
    TimedOut,
    Killed(&'static str),
}

struct Step<'a> {
    page: &'a Page,
    socket: &'a Socket,
    signals: SignalFd,
    timer: TimerFd,
    output: Output,
    main: Pid,
    status: Option<WaitStatus>,
    time_limit: BootInstant,
}

fn run(
    containment: Containment,
    page: &Page,
    socket: &Socket,
    order: &SpawnOrder,
    file: OwnedFd,
) -> Report {
    let refused = match page.permit() {
        Permit::Until(_) => None,
        Permit::None => Some("there is no deadline yet, so nothing may run"),
        Permit::Over => Some("the deadline has passed"),
    };
    if let Some(why) = refused {
        return Report::bare(ExitKind::Killed, why);
    }
    let begun = Instant::now();
    let mut step = match Step::start(page, socket, order, File::from(file)) {
        Ok(step) => step,
        Err(report) => return report,
    };
    let cut = step.watch();
    // The wall time of the command, not of the clean-up behind it.
    let wall = begun.elapsed();
    let leftovers_killed = step.end(containment);
    step.output.drain();
    let (exit, detail) = match cut {
        Some(Cut::TimedOut) => (ExitKind::TimedOut, String::new()),
        Some(Cut::Killed(why)) => (ExitKind::Killed, why.to_owned()),
        None => (exit_kind(step.status), step.output.trouble()),
    };
    Report {
        exit,
        detail,
        leftovers_killed,
        output_bytes: step.output.kept(),
        output_truncated: step.output.truncated(),
        wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
    }
}

impl<'a> Step<'a> {
    fn start(
        page: &'a Page,
        socket: &'a Socket,
        order: &SpawnOrder,
        file: File,
    ) -> Result<Self, Report> {
        let ours = |what: &str, errno: nix::Error| {
            Report::bare(ExitKind::GuardLost, format!("{what}: {}", errno.desc()))
        };
        let signals = SignalFd::with_flags(
            &SigSet::from(Signal::SIGCHLD),
            SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
        )
        .map_err(|errno| ours("signalfd", errno))?;
        let timer = TimerFd::new(
            ClockId::CLOCK_BOOTTIME,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )
        .map_err(|errno| ours("timerfd", errno))?;
        let (output, writer) = Output::new(file, order.output_bytes_max)
            .map_err(|errno| ours("output pipe", errno))?;
        // The clock rounds down, so one more for the command never to get less than it was given.
        let time_limit = boottime() + Duration::from_millis(order.timeout_ms.saturating_add(1));
        let main = exec::start(order, writer)?;
        Ok(Self { page, socket, signals, timer, output, main, status: None, time_limit })
    }

    /// Until the command ends by itself, or something cuts it off.
    fn watch(&mut self) -> Option<Cut> {
        if let Some(cut) = self.on_timer() {
            return Some(cut);
        }
        loop {
            let readable = PollFlags::POLLIN;
            let output = self.output.pipe();
            let mut fds = vec![
                PollFd::new(self.signals.as_fd(), readable),
                PollFd::new(self.socket.as_fd(), readable),
                PollFd::new(self.timer.as_fd(), readable),
            ];
            fds.extend(output.map(|pipe| PollFd::new(pipe, readable)));
            // An interrupted wait shows nothing ready, and every handler can take that.
            let _ = poll(&mut fds, PollTimeout::NONE);
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            if ready.get(3) == Some(&true) {
                self.output.on_readable();
            }
            if ready[0] && self.on_child() {
                return None;
            }
            if let Some(cut) = ready[1].then(|| self.on_order()).flatten() {
                return Some(cut);
            }
            if let Some(cut) = ready[2].then(|| self.on_timer()).flatten() {
                return Some(cut);
            }
        }
    }

    /// Reaps; true when the command itself has ended.
    fn on_child(&mut self) -> bool {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        let (main, status) = (self.main, &mut self.status);
        let left = reap_ready(|pid, how| {
            if pid == main {
                *status = Some(how);
            }
        });
        // Without any child the command has ended too, even if its status was not seen.
        self.status.is_some() || left == Reaped::NoneLeft
    }

    fn on_order(&self) -> Option<Cut> {
        match self.socket.receive::<Order>(false) {
            Received::Nothing => None,
            Received::Frame(Order::Kill { .. }, _) => Some(Cut::Killed("asked for")),
            Received::Frame(..) | Received::Malformed(_) => Some(Cut::Killed("unknown order")),
            Received::End => Some(Cut::Killed("the guard is gone")),
        }
    }

    /// Looks what is over and arms the timer for what comes next.
    fn on_timer(&self) -> Option<Cut> {
        let _ = self.timer.wait();
        let Permit::Until(deadline) = self.page.permit() else {
            return Some(Cut::Killed("the deadline has passed"));
        };
        if boottime() >= self.time_limit {
            return Some(Cut::TimedOut);
        }
        let next = Expiration::OneShot(timespec(deadline.min(self.time_limit)));
        match self.timer.set(next, TimerSetTimeFlags::TFD_TIMER_ABSTIME) {
            Ok(()) => None,
            Err(_) => Some(Cut::Killed("the timer could not be armed")),
        }
    }

    /// Kills whatever is left; returns how many besides the command.
    fn end(&mut self, containment: Containment) -> u32 {
        let signals = &self.signals;
        end_all(containment, Some(self.main), |pause| {
            let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::ZERO);
            let _ = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], timeout);
            while let Ok(Some(_)) = signals.read_signal() {}
        })
    }
}

fn exit_kind(status: Option<WaitStatus>) -> ExitKind {
    match status {
        Some(WaitStatus::Exited(_, code)) => ExitKind::Exited(code),
        Some(WaitStatus::Signaled(_, signal, _)) => ExitKind::Signaled(signal as i32),
        _ => ExitKind::GuardLost,
    }
}
