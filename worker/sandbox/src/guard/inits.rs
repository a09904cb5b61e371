//! The step inits of a guard: forking them, hearing them, ending them.

use std::collections::BTreeSet;
use std::time::Instant;

use flyball_core::score::ExitKind;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::{Guard, Mode};
use crate::page::Page;
use crate::proctree::{Reaped, kill_below, reap_ready};
use crate::socket::{Received, Socket};
use crate::step::{self, Surroundings};
use crate::sys::{self, Forked};
use crate::wire::{InitNews, News, Order, Report};

/// One step init, from its fork until it is reaped.
pub(super) struct Init {
    pub(super) pid: Pid,
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
    /// Forks one that sets itself up and waits for its step.
    pub(super) fn fork(around: &Surroundings, page: &Page) -> nix::Result<Self> {
        let (ours, theirs) = Socket::pair()?;
        match sys::fork(around.namespaces())? {
            // The other values of the guard are copies now, closed there and never dropped.
            Forked::Child => step::main(around, page, theirs),
            Forked::Parent(pid) => Ok(Self {
                pid,
                socket: Some(ours),
                step: None,
                reported: false,
                trouble: None,
                kill_at: None,
            }),
        }
    }

    /// Kills the init itself. Of a PID namespace that kills all in it.
    pub(super) fn kill(&self) {
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
                Received::Frame(InitNews::Up, _) => {}
                Received::Frame(InitNews::Unable { reason }, _) => init.trouble = Some(reason),
                Received::Frame(InitNews::Ended(report), _) => {
                    init.reported = true;
                    if let Some(id) = init.step {
                        self.tell(News::Ended { id, report });
                    }
                }
                Received::End => init.socket = None,
                Received::Malformed(_) => {
                    init.socket = None;
                    init.kill();
                }
            }
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
            let init = self.inits.swap_remove(index);
            if init.is_busy() {
                self.sweeping = true;
                let why = init.trouble.unwrap_or_else(|| format!("the step init died: {status:?}"));
                self.lost.extend(init.step.map(|id| (id, why)));
            }
        }
    }

    /// Asks an init to kill its step; if it does not, it is killed after the grace.
    pub(super) fn ask_to_end(&mut self, index: usize) {
        let grace = self.grace;
        let Some(init) = self.inits.get_mut(index) else { return };
        if init.kill_at.is_some() {
            return;
        }
        init.kill_at = Some(Instant::now() + grace);
        let order = Order::Kill { id: init.step.unwrap_or(0) };
        let told = init.socket.as_ref().map(|socket| socket.send(&order, &[]));
        if !matches!(told, Some(Ok(()))) {
            init.kill();
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

    /// Kills what belongs to no living init; when nothing is left of them, tells the ends of their
    /// steps.
    pub(super) fn sweep(&mut self) {
        if !self.sweeping {
            return;
        }
        let known: BTreeSet<Pid> = self.inits.iter().map(|init| init.pid).collect();
        if !self.around.containment.is_pid_namespace() && kill_below(getpid(), &known) > 0 {
            return;
        }
        // What was found by the last pass and is dead now has been reaped as an orphan or will be;
        // it does nothing any more.
        self.sweeping = false;
        for (id, why) in std::mem::take(&mut self.lost) {
            self.tell(News::Ended { id, report: Report::bare(ExitKind::GuardLost, why) });
        }
    }

    /// Has one init waiting for the next step, so that its set-up is not part of a step's start.
    pub(super) fn keep_a_spare(&mut self) {
        if !matches!(self.mode, Mode::Serving) || self.inits.iter().any(Init::is_spare) {
            return;
        }
        // Without one the next step forks its own, and says what is wrong if that fails too.
        if let Ok(init) = Init::fork(&self.around, &self.page) {
            self.inits.push(init);
        }
    }

    /// Whether the guard's life is over: it was ended, and the kernel says that it has no child,
    /// which for a child subreaper means no descendant.
    pub(super) fn is_over(&mut self) -> bool {
        let Mode::Ending { reason } = &self.mode else { return false };
        if !self.inits.is_empty() {
            return false;
        }
        if reap_ready(|_, _| {}) == Reaped::SomeLeft {
            self.sweeping = true;
            return false;
        }
        let reason = reason.clone();
        self.tell(News::Over { reason });
        true
    }
}
