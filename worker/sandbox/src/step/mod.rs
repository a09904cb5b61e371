//! The step init: a small process forked by the guard that runs one command at a time, holds its time
//! limit and the shared deadline by itself, and leaves nothing behind.

mod confined;
mod exec;
mod group;
mod output;
mod pace;
mod setup;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use flyball_core::isolation::Layer;
use flyball_core::lease::BootInstant;
use flyball_core::redact::{Patterns, Redactor};
use flyball_core::score::ExitKind;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::abilities::Containment;
use crate::clock::{boottime, timespec};
use crate::confine::{self, Enforcement, Filters, OuterUsers, UserMaps, Watch};
use crate::page::{Page, Permit};
use crate::proctree::{Reaped, end_all, reap_ready};
use crate::socket::{Received, Socket};
use crate::sys::{self, exit_now};
use crate::wire::{InitNews, Order, Report, SpawnOrder};

use confined::{Streams, Where};
use group::{MemoryEvents, Place};
use output::Output;
use pace::Pace;
pub(crate) use setup::Surroundings;

/// The nice value of the guard, and of a step init while it kills, where that is allowed.
pub(crate) const NICE: i32 = -10;
/// Most steps of one init, so that nothing that grows with each of them can grow for ever.
const STEPS_PER_INIT: usize = 200;

/// The life of a step init, in the forked child. Waits for a step, runs it, reports, and again, as
/// long as it is as clean as at its start. That it is set up is said by the `first` only, as nobody
/// waits for the others.
pub(crate) fn main(
    around: &Surroundings,
    page: &Page,
    socket: Socket,
    first: bool,
    number: u32,
) -> ! {
    // A panic must not unwind into the guard's stack frames, of which this process has a copy.
    let ended = catch_unwind(AssertUnwindSafe(|| life(around, page, &socket, first, number)));
    exit_now(i32::from(ended.is_err()))
}

fn life(around: &Surroundings, page: &Page, socket: &Socket, first: bool, number: u32) {
    let set_up = setup::set_up(around, socket);
    let set_up = set_up.and_then(|()| Station::new(around, page, socket, number));
    // If something cannot be said, the guard is gone, which the next receive finds out.
    let station = match set_up {
        Ok(station) => station,
        Err(reason) => return drop(socket.send(&InitNews::Unable { reason }, &[])),
    };
    if first {
        let _ = socket.send(&InitNews::Up, &[]);
    }
    for turn in 1..=STEPS_PER_INIT {
        let Some((order, fds)) = station.next_step() else { return };
        let report = station.run(&order, fds);
        let again = turn < STEPS_PER_INIT && station.is_clean();
        let _ = socket.send(&InitNews::Ended { report, again }, &[]);
        if !again {
            return;
        }
    }
}

/// What an init has for all its steps.
struct Station<'a> {
    containment: Containment,
    page: &'a Page,
    socket: &'a Socket,
    signals: SignalFd,
    timer: TimerFd,
    mounts: Option<File>,
    /// The nice value of steps, if a higher priority may be had.
    nice: Option<i32>,
    enforcement: Enforcement,
    /// The mappings of users that steps become.
    maps: UserMaps,
}

/// Why a step ends before its command does.
enum Cut {
    TimedOut,
    OverLimit(String),
    Killed(&'static str),
}

impl<'a> Station<'a> {
    fn new(
        around: &Surroundings,
        page: &'a Page,
        socket: &'a Socket,
        number: u32,
    ) -> Result<Self, String> {
        let failed = |what: &'static str| move |errno: nix::Error| format!("{what}: {errno}");
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), flags);
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags);
        let containment = around.containment;
        let mounts = containment.is_pid_namespace().then(|| File::open("/proc/self/mounts"));
        Ok(Self {
            containment,
            page,
            socket,
            signals: signals.map_err(failed("signalfd"))?,
            timer: timer.map_err(failed("timerfd"))?,
            mounts: mounts.transpose().map_err(|error| format!("mount table: {error}"))?,
            nice: around.nice,
            enforcement: Enforcement {
                users: around.steps_change_user().then(|| OuterUsers::of(around.guard, number)),
                ..around.enforcement.clone()
            },
            maps: UserMaps::default(),
        })
    }

    /// The next step with its descriptors; none: there will be none.
    fn next_step(&self) -> Option<(SpawnOrder, Vec<OwnedFd>)> {
        loop {
            match self.socket.receive(true) {
                Received::Frame(Order::Spawn(order), fds) => return Some((order, fds)),
                Received::Frame(Order::Probe { layers, dir }, _) => self.probe(layers, dir)?,
                // For a step that has ended meanwhile.
                Received::Frame(Order::Kill { .. }, _) | Received::Nothing => {}
                _ => return None,
            }
        }
    }

    /// Finds out which layers work, with filters of its own.
    fn probe(&self, layers: BTreeSet<Layer>, dir: PathBuf) -> Option<()> {
        let filters = Filters::compile(true).unwrap_or_default();
        let with = Enforcement { layers, filters, ..self.enforcement.clone() };
        let found = confine::find(with, &self.maps, dir);
        self.socket.send(&InitNews::Probed(found), &[]).ok()
    }

    /// Runs one step to its end. Afterwards this process has no child.
    fn run(&self, order: &SpawnOrder, fds: Vec<OwnedFd>) -> Report {
        let refused = match self.page.permit() {
            Permit::Until(_) => None,
            Permit::None => Some("there is no deadline yet, so nothing may run"),
            Permit::Over => Some("the deadline has passed"),
        };
        if let Some(why) = refused {
            return Report::bare(ExitKind::Killed, why);
        }
        let begun = Instant::now();
        let mut step = match Step::start(self, order, fds) {
            Ok(step) => step,
            Err(report) => return report,
        };
        let cut = step.watch();
        // Killed by the kernel, all of it, it looks like a command that was killed.
        let cut = step.memory.as_ref().and_then(MemoryEvents::over).map(Cut::OverLimit).or(cut);
        // The wall time of the command, not of the clean-up behind it.
        let wall = begun.elapsed();
        // A step that has to be killed may be what keeps the machine busy.
        let raised = cut.is_some() && self.nice.is_some() && sys::set_nice(NICE).is_ok();
        let leftovers_killed = step.end();
        if let (true, Some(nice)) = (raised, self.nice) {
            // If that fails, the priority shows it, and this init is not used again.
            let _ = sys::set_nice(nice);
        }
        step.output.drain();
        let (exit, detail) = match cut {
            Some(Cut::TimedOut) => (ExitKind::TimedOut, String::new()),
            Some(Cut::OverLimit(what)) => (ExitKind::OverLimit(what), String::new()),
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

    /// Whether nothing of a step is left that another could see: processes are not, as that is how
    /// a step ends; but root may have changed the mounts of this namespace.
    fn is_clean(&self) -> bool {
        if self.nice.is_some_and(|nice| sys::nice() != nice) {
            return false;
        }
        let Some(mounts) = &self.mounts else { return true };
        let mut fds = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }
}

/// A command that runs.
struct Step<'a> {
    station: &'a Station<'a>,
    id: u64,
    output: Output,
    main: Pid,
    status: Option<WaitStatus>,
    time_limit: BootInstant,
    watch: Option<Watch>,
    /// The kernel's word about its memory, where the kernel holds that.
    memory: Option<MemoryEvents>,
}

impl<'a> Step<'a> {
    fn start(
        station: &'a Station<'a>,
        order: &SpawnOrder,
        fds: Vec<OwnedFd>,
    ) -> Result<Self, Report> {
        let mut fds = fds.into_iter();
        let file = fds.next().map(File::from);
        let file = file.ok_or_else(|| Report::bare(ExitKind::GuardLost, "no output file"))?;
        let input = order.stdin.then(|| fds.next());
        if matches!(input, Some(None)) {
            return Err(Report::bare(ExitKind::GuardLost, "no input file"));
        }
        let input = input.flatten();
        let group = Place::of(order, &mut fds)?;
        // Held until the command runs: its end tells the worker that no listener will come.
        let worker = fds.next().map(Socket::from_fd);
        let secrets = order.secrets.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let redactor = Redactor::new(Patterns::of(secrets));
        let limits = order.confinement.as_ref().map(|plan| &plan.limits);
        let rate = limits.and_then(|limits| limits.output_bytes_per_second);
        let pace = Pace::new(rate, Instant::now());
        let made = Output::new(file, order.output_bytes_max, redactor, pace);
        let (output, writer) = made.map_err(|errno| {
            Report::bare(ExitKind::GuardLost, format!("output pipe: {}", errno.desc()))
        })?;
        // The clock rounds down, so one more for the command never to get less than it was given.
        let time_limit = boottime() + Duration::from_millis(order.timeout_ms.saturating_add(1));
        let main = match &order.confinement {
            None => exec::start(order, input, writer)?,
            Some(plan) => {
                let enforcement = &station.enforcement;
                let place = Where { worker: worker.as_ref(), group: group.dir.as_ref() };
                let streams = Streams { input, output: writer };
                confined::start(order, plan, enforcement, &station.maps, place, streams)?
            }
        };
        // Without a process table of its own, others' memory would be counted.
        let counts = station.containment.is_pid_namespace() && nix::unistd::getpid().as_raw() == 1;
        // Nor is there anything to look at where the kernel holds it.
        let counts = counts && group.memory.is_none();
        let watch = order.confinement.as_ref().map(|plan| Watch::new(plan, counts));
        let memory = group.memory;
        Ok(Self { station, id: order.id, output, main, status: None, time_limit, watch, memory })
    }

    /// Until the command ends by itself, or something cuts it off.
    fn watch(&mut self) -> Option<Cut> {
        if let Some(cut) = self.on_timer() {
            return Some(cut);
        }
        loop {
            let readable = PollFlags::POLLIN;
            let held = self.output.pause(Instant::now());
            let output = self.output.pipe().filter(|_| held.is_none());
            let mut fds = vec![
                PollFd::new(self.station.signals.as_fd(), readable),
                PollFd::new(self.station.socket.as_fd(), readable),
                PollFd::new(self.station.timer.as_fd(), readable),
            ];
            fds.extend(output.map(|pipe| PollFd::new(pipe, readable)));
            let pause = self.watch.as_ref().and_then(Watch::pause).into_iter().chain(held).min();
            let pause = pause.map_or(PollTimeout::NONE, |pause| {
                // Rounded up, so that something is due when the wait ends.
                let pause = pause + Duration::from_micros(999);
                PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX)
            });
            // An interrupted wait shows nothing ready, and every handler can take that.
            let _ = poll(&mut fds, pause);
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            if ready.get(3) == Some(&true) {
                self.output.on_readable(Instant::now());
            }
            if ready[0] && self.on_child() {
                return None;
            }
            if let Some(what) = self.watch.as_mut().and_then(Watch::look) {
                return Some(Cut::OverLimit(what));
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
        while let Ok(Some(_)) = self.station.signals.read_signal() {}
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
        match self.station.socket.receive::<Order>(false) {
            Received::Nothing => None,
            Received::Frame(Order::Kill { id }, _) if id == self.id => {
                Some(Cut::Killed("asked for"))
            }
            // For an earlier step, which had ended when it was sent.
            Received::Frame(Order::Kill { .. }, _) => None,
            Received::Frame(..) | Received::Malformed(_) => Some(Cut::Killed("unknown order")),
            Received::End => Some(Cut::Killed("the guard is gone")),
        }
    }

    /// Looks what is over and arms the timer for what comes next.
    fn on_timer(&self) -> Option<Cut> {
        let _ = self.station.timer.wait();
        let Permit::Until(deadline) = self.station.page.permit() else {
            return Some(Cut::Killed("the deadline has passed"));
        };
        if boottime() >= self.time_limit {
            return Some(Cut::TimedOut);
        }
        let next = Expiration::OneShot(timespec(deadline.min(self.time_limit)));
        match self.station.timer.set(next, TimerSetTimeFlags::TFD_TIMER_ABSTIME) {
            Ok(()) => None,
            Err(_) => Some(Cut::Killed("the timer could not be armed")),
        }
    }

    /// Kills whatever is left; returns how many besides the command.
    fn end(&self) -> u32 {
        let signals = &self.station.signals;
        end_all(self.station.containment, Some(self.main), |pause| {
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
