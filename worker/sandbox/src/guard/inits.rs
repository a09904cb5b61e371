//! The step inits of a guard: forking them, hearing them, ending them.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use flyball_core::planted::{self, Bug};
use flyball_core::score::ExitKind;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::cgroup::{Cgroups, Group};
use super::{Guard, Mode, SPARES_MAX};
use crate::lock::Unproven;
use crate::page::Page;
use crate::proctree::{Reaped, kill_below, reap_ready};
use crate::socket::{Received, Socket};
use crate::step::{self, Surroundings};
use crate::sys::{self, Forked};
use crate::wire::{InitNews, News, Order, Report};

/// Step inits that this guard has forked: their numbers.
static FORKED: AtomicU32 = AtomicU32::new(0);

/// One step init, from its fork until it is reaped.
pub(super) struct Init {
    pub(super) pid: Pid,
    /// Its group, if there are any.
    pub(super) group: Option<Group>,
    /// The group of its step's command, if there are any.
    pub(super) of_step: Option<Group>,
    /// None once the other end is closed.
    pub(super) socket: Option<Socket>,
    /// The step it has; none: it is a spare.
    pub(super) step: Option<u64>,
    /// Whether its step's end is known.
    reported: bool,
    /// Why it could not be set up.
    trouble: Option<String>,
    /// When it is killed itself for not having ended after being asked to.
    pub(super) kill_at: Option<Instant>,
}

impl Init {
    /// Forks one that sets itself up and waits for its step. It says so only if it is the `first`.
    pub(super) fn fork(
        around: &Surroundings,
        page: &Page,
        cgroups: Option<&mut Cgroups>,
        first: bool,
    ) -> nix::Result<Self> {
        let (ours, theirs) = Socket::pair()?;
        let number = FORKED.fetch_add(1, Ordering::Relaxed);
        let (forked, group) = fork_in_group(around.namespaces(), cgroups)?;
        match forked {
            // The other values of the guard are copies now, closed there and never dropped.
            Forked::Child => step::main(around, page, theirs, first, number),
            Forked::Parent(pid) => Ok(Self {
                pid,
                group,
                of_step: None,
                socket: Some(ours),
                step: None,
                reported: false,
                trouble: None,
                kill_at: None,
            }),
        }
    }

    /// Kills the init itself and its step. Of a PID namespace that kills all in it, and in groups anyway.
    pub(super) fn kill(&self) {
        self.group.iter().chain(&self.of_step).for_each(Group::kill);
        // It is our child and not reaped yet, so the number is its own.
        let _ = kill(self.pid, Signal::SIGKILL);
    }

    /// Whether it waits for a step and can take one.
    pub(super) fn is_spare(&self) -> bool {
        self.step.is_none() && self.socket.is_some() && self.kill_at.is_none()
    }

    /// Whether it has a step whose end is not known.
    pub(super) fn is_busy(&self) -> bool {
        self.step.is_some() && !self.reported
    }
}

/// Forks into a group of its own if that can be had. Without one a step init is as good as on a host without groups:
/// the first lever does it.
fn fork_in_group(
    namespaces: CloneFlags,
    cgroups: Option<&mut Cgroups>,
) -> nix::Result<(Forked, Option<Group>)> {
    if let Some((group, dir)) = cgroups.and_then(|cgroups| cgroups.for_init().ok()) {
        match sys::fork_into(namespaces, dir.as_fd()) {
            Ok(forked) => return Ok((forked, Some(group))),
            Err(_) => group.remove(),
        }
    }
    Ok((sys::fork(namespaces)?, None))
}

impl Guard {
    /// Reads the inits that have something to say.
    pub(super) fn on_inits(&mut self, ready: &[bool]) {
        for (index, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
            self.hear(index);
        }
    }

    fn hear(&mut self, index: usize) {
        loop {
            let Some(init) = self.inits.get_mut(index) else { return };
            let Some(socket) = &init.socket else { return };
            match socket.receive(false) {
                Received::Nothing => return,
                Received::Frame(InitNews::Up | InitNews::Probed(_), _) => {}
                Received::Frame(InitNews::Unable { reason }, _) => init.trouble = Some(reason),
                Received::Frame(InitNews::Ended { report, again }, _) => {
                    self.on_ended(index, report, again);
                }
                Received::End => init.socket = None,
                Received::Malformed(_) => {
                    init.socket = None;
                    init.kill();
                }
            }
        }
    }

    fn on_ended(&mut self, index: usize, report: Report, again: bool) {
        let spares = self.inits.iter().filter(|init| init.is_spare()).count();
        let Some(init) = self.inits.get_mut(index) else { return };
        let step = init.step;
        // Nothing is left in it, or what is left is killed.
        self.leaving.extend(init.of_step.take());
        if again && spares < SPARES_MAX && matches!(self.mode, Mode::Serving) {
            init.step = None;
            init.kill_at = None;
        } else {
            init.reported = true;
            // It was its last word, or will be: without its socket it exits.
            init.socket = None;
        }
        if let Some(id) = step {
            self.tell(News::Ended { id, report });
        }
    }

    /// Reaps, and takes over what inits that died before their time left behind.
    pub(super) fn on_children(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        let mut gone = Vec::new();
        reap_ready(|pid, status| gone.push((pid, status)));
        for (pid, status) in gone {
            // Others are orphans that came to us and have ended.
            let Some(index) = self.inits.iter().position(|init| init.pid == pid) else { continue };
            self.hear(index);
            let mut init = self.inits.swap_remove(index);
            self.leaving.extend(init.group.take().into_iter().chain(init.of_step.take()));
            if init.is_busy() {
                self.sweeping = true;
                let why = init.trouble.unwrap_or_else(|| format!("the step init died: {status:?}"));
                // One that was asked to kill its step and was too slow, on a loaded machine, has
                // been killed by us; the step is no less killed for that.
                let exit = match init.kill_at {
                    Some(_) => ExitKind::Killed,
                    None => ExitKind::GuardLost,
                };
                self.lost.extend(init.step.map(|id| (id, Report::bare(exit, why))));
            }
        }
    }

    /// Asks an init to kill its step, or a spare to exit; if it does not, it is killed after the
    /// grace.
    pub(super) fn ask_to_end(&mut self, index: usize) {
        let grace = self.grace;
        let Some(init) = self.inits.get_mut(index) else { return };
        if init.kill_at.is_some() {
            return;
        }
        init.kill_at = Some(Instant::now() + grace);
        let early = init.is_busy() && planted::is(Bug::ReleaseBeforeGone);
        init.reported |= early;
        match (init.step, &init.socket) {
            (Some(id), Some(socket)) if socket.send(&Order::Kill { id }, &[]).is_ok() => {}
            (None, Some(_)) => init.socket = None,
            (Some(_), _) if init.is_busy() => init.kill(),
            _ => {}
        }
        if let Some(id) = init.step.filter(|_| early) {
            let report = Report::bare(ExitKind::Killed, "asked for");
            self.tell(News::Ended { id, report });
        }
    }

    /// Kills the inits that were asked and did not end in time.
    pub(super) fn on_overdue(&mut self) {
        let now = Instant::now();
        for init in &mut self.inits {
            if init.kill_at.is_some_and(|at| at <= now) {
                init.kill();
                // Again after a while only for the case that the first did not do: there is none
                // known, and a kill too many harms nobody.
                init.kill_at = Some(now + self.grace.max(super::SWEEP_PAUSE));
            }
        }
    }

    /// Kills what is left in the groups of inits that are gone, and removes those that are empty.
    pub(super) fn empty_groups(&mut self) {
        self.leaving.retain(|group| {
            if group.is_empty() {
                group.remove();
                return false;
            }
            group.kill();
            true
        });
    }

    /// Kills what belongs to no living init; when nothing is left of them, tells the ends of their
    /// steps.
    pub(super) fn sweep(&mut self) {
        if !self.sweeping || !self.leaving.is_empty() {
            return;
        }
        let known: BTreeSet<Pid> = self.inits.iter().map(|init| init.pid).collect();
        if !self.around.containment.is_pid_namespace() && kill_below(getpid(), &known) > 0 {
            return;
        }
        // What was found by the last pass and is dead now has been reaped as an orphan or will be;
        // it does nothing any more.
        self.sweeping = false;
        for (id, report) in std::mem::take(&mut self.lost) {
            self.tell(News::Ended { id, report });
        }
    }

    /// Has one init waiting for the next step, so that its set-up is not part of a step's start.
    pub(super) fn keep_a_spare(&mut self) {
        if !matches!(self.mode, Mode::Serving) || self.inits.iter().any(Init::is_spare) {
            return;
        }
        // Without one the next step forks its own, and says what is wrong if that fails too.
        if let Ok(init) = Init::fork(&self.around, &self.page, self.cgroups.as_mut(), false) {
            self.inits.push(init);
        }
    }

    /// Whether the guard's life is over: it was ended, and the kernel says that it has no child,
    /// which for a child subreaper means no descendant.
    pub(super) fn is_over(&mut self) -> bool {
        let Mode::Ending { reason, .. } = &self.mode else { return false };
        if !self.inits.is_empty() || !self.leaving.is_empty() {
            return false;
        }
        if reap_ready(|_, _| {}) == Reaped::SomeLeft {
            self.sweeping = true;
            return false;
        }
        let reason = reason.clone();
        // Before anybody hears of it, and before the lock is free.
        self.unproven.iter().for_each(Unproven::remove);
        self.tell(News::Over { reason });
        true
    }
}
