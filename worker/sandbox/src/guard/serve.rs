//! What the guard does for the worker: steps, kills, the deadline.

use std::os::fd::{AsFd, OwnedFd};

use flyball_core::planted::{self, Bug};
use flyball_core::score::ExitKind;
use nix::sys::timerfd::{Expiration, TimerSetTimeFlags};

use super::cgroup::{Bounded, Group};
use super::inits::Init;
use super::report::Becoming;
use super::{Guard, Mode, STEPS_MAX, SWEEP_PAUSE};
use crate::clock::timespec;
use crate::page::Permit;
use crate::socket::{Received, SendError};
use crate::wire::{News, Order, Report, SpawnOrder};

/// Most orders taken in one round, so that a worker that sends without end does not keep the guard
/// from its inits and its timer.
const ORDERS_PER_ROUND: usize = 16;

impl Guard {
    /// Takes orders. Whatever is not one ends everything: the other side is not what it was.
    pub(super) fn on_worker(&mut self) {
        for _ in 0..ORDERS_PER_ROUND {
            if !self.outbox.is_empty() || !matches!(self.mode, Mode::Serving) {
                return;
            }
            match self.worker.receive(false) {
                Received::Nothing => return,
                Received::Frame(Order::Spawn(order), fds) => self.on_spawn(order, fds),
                Received::Frame(Order::Kill { id }, _) => self.on_kill(id),
                Received::Frame(Order::KillAll, _) => {
                    self.killing_all = true;
                    self.ask_all(Init::is_busy);
                }
                Received::Frame(Order::End, _) => self.end("ended by the worker"),
                Received::Frame(Order::Reporter { arguments }, fds) => {
                    self.reporter = Becoming::new(arguments, fds).or_else(|| self.reporter.take());
                }
                Received::Frame(Order::Hello(_), _) => self.end("a second first frame"),
                Received::Frame(Order::Probe { .. }, _) => self.end("a frame that is not for us"),
                Received::Malformed(why) => self.end(&format!("malformed frame: {why}")),
                Received::End if planted::is(Bug::WorkersEndIgnored) => {
                    // It stays to be read: the guard is not to spin until the deadline.
                    std::thread::park_timeout(SWEEP_PAUSE);
                    return;
                }
                Received::End => self.end_and_report("the worker is gone"),
            }
        }
    }

    fn on_spawn(&mut self, order: SpawnOrder, fds: Vec<OwnedFd>) {
        let id = order.id;
        if let Err(report) = self.spawn(order, fds) {
            self.tell(News::Ended { id, report });
        }
    }

    fn spawn(&mut self, mut order: SpawnOrder, mut fds: Vec<OwnedFd>) -> Result<(), Report> {
        let killed = |why: &str| Report::bare(ExitKind::Killed, why);
        let lost = |why: String| Report::bare(ExitKind::GuardLost, why);
        match self.page.permit() {
            Permit::None => return Err(killed("there is no deadline yet, so nothing may run")),
            Permit::Over => {
                self.end_and_report("the deadline has passed");
                return Err(killed("the deadline has passed"));
            }
            Permit::Until(_) if self.killing_all => return Err(killed("all is being killed")),
            Permit::Until(_) if self.inits.len() > STEPS_MAX => {
                return Err(lost(format!("more than {STEPS_MAX} steps at a time")));
            }
            Permit::Until(_) if self.armed.is_none() => self.on_timer(),
            Permit::Until(_) => {}
        }
        let index = match self.inits.iter().position(Init::is_spare) {
            Some(index) => index,
            None => {
                let forked = Init::fork(&self.around, &self.page, self.cgroups.as_mut(), false);
                // Nothing of the step exists, so nothing of it can be lost.
                let no_room =
                    |errno: nix::errno::Errno| ExitKind::NoRoom(format!("fork: {}", errno.desc()));
                let init = forked.map_err(|errno| Report::bare(no_room(errno), ""))?;
                self.inits.push(init);
                self.inits.len() - 1
            }
        };
        let of_step = self.bound(&mut order, &mut fds)?;
        let id = order.id;
        let init = &mut self.inits[index];
        init.of_step = of_step;
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let sent = init.socket.as_ref().map(|socket| socket.send(&Order::Spawn(order), &fds));
        match sent {
            Some(Ok(())) => {
                init.step = Some(id);
                Ok(())
            }
            Some(Err(error)) => {
                init.kill();
                init.socket = None;
                Err(lost(format!("a step init died before its step: {error}")))
            }
            None => Err(lost("a step init died before its step".into())),
        }
    }

    /// Makes the group of a confined step's command, and puts its descriptors where the init looks for them.
    fn bound(
        &mut self,
        order: &mut SpawnOrder,
        fds: &mut Vec<OwnedFd>,
    ) -> Result<Option<Group>, Report> {
        order.group = None;
        let (Some(cgroups), Some(plan)) = (&mut self.cgroups, &order.confinement) else {
            return Ok(None);
        };
        let controllers = cgroups.controllers();
        let Bounded { group, dir, events } = cgroups.bounded(&plan.limits).map_err(|error| {
            Report::bare(ExitKind::NoRoom(format!("control group: {error}")), "")
        })?;
        order.group = Some(controllers);
        // Behind the output, and the input if there is any.
        let at = (1 + usize::from(order.stdin)).min(fds.len());
        let files = std::iter::once(dir).chain(events).map(OwnedFd::from);
        fds.splice(at..at, files);
        Ok(Some(group))
    }

    fn on_kill(&mut self, id: u64) {
        // Not there: it ended meanwhile, and the worker is being told.
        let wanted = |init: &Init| init.step == Some(id) && init.is_busy();
        if let Some(index) = self.inits.iter().position(wanted) {
            self.ask_to_end(index);
        }
    }

    fn ask_all(&mut self, which: impl Fn(&Init) -> bool) {
        for index in 0..self.inits.len() {
            if which(&self.inits[index]) {
                self.ask_to_end(index);
            }
        }
    }

    /// From here on everything is killed and nothing taken.
    pub(super) fn end(&mut self, reason: &str) {
        self.end_with(reason, false);
    }

    /// The same, and the reporter tells of it when nothing is left.
    fn end_and_report(&mut self, reason: &str) {
        self.end_with(reason, true);
    }

    fn end_with(&mut self, reason: &str, report: bool) {
        if matches!(self.mode, Mode::Serving) {
            self.page.end();
            self.mode = Mode::Ending { reason: reason.to_owned(), report };
            self.ask_all(|_| true);
            // At once where one stroke takes all that is below an init; how its step ended is of no
            // interest any more.
            let at_once = self.around.containment.is_pid_namespace();
            self.inits.iter().filter(|init| at_once || init.group.is_some()).for_each(Init::kill);
        }
    }

    /// The timer rang, or was never set: looks at the page and sets it to what that says.
    pub(super) fn on_timer(&mut self) {
        let _ = self.timer.wait();
        let Permit::Until(deadline) = self.page.permit() else {
            self.end_and_report("the deadline has passed");
            return;
        };
        let at = Expiration::OneShot(timespec(deadline));
        match self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME) {
            Ok(()) => self.armed = Some(deadline),
            Err(_) => self.end("the timer could not be armed"),
        }
    }

    /// Answers `KillAll` when it is so.
    pub(super) fn on_all_dead(&mut self) {
        // Groups that steps have left are empty by the kernel's word, or not yet.
        let leaving = !self.leaving.is_empty();
        let busy = self.sweeping || leaving || self.inits.iter().any(Init::is_busy);
        if self.killing_all && !busy {
            self.killing_all = false;
            self.tell(News::AllDead);
        }
    }

    /// Sends news, or keeps them until the worker reads. Never waits.
    pub(super) fn tell(&mut self, news: News) {
        self.outbox.push_back(news);
        self.flush();
    }

    /// Sends what is kept, as far as there is room.
    pub(super) fn flush(&mut self) {
        while let Some(news) = self.outbox.front() {
            match self.worker.send(news, &[]) {
                Err(SendError::Full) => return,
                // Nobody is there, which the next read finds out, or it can never be sent.
                Ok(()) | Err(_) => drop(self.outbox.pop_front()),
            }
        }
    }
}
