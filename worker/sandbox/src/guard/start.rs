//! Becoming a guard: the first frame, a session of its own, what the host allows.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use flyball_core::planted::{self, Bug};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use nix::unistd::{dup2_stdin, getegid, geteuid, getsid, setsid};

use super::cgroup::{Cgroups, Group};
use super::inits::Init;
use super::{Guard, Mode, layers};
use crate::abilities::{Abilities, Containment, Isolation};
use crate::confine::Enforcement;
use crate::host::refusal_of_namespaces;
use crate::lock::Unproven;
use crate::page::Page;
use crate::proctree::process_table_matches;
use crate::socket::{Received, Socket};
use crate::step::{NICE, Surroundings};
use crate::sys;
use crate::wire::{Hello, InitNews, News, Order, PROTOCOL};

/// Longest wait for the first step init to say that it is set up; it takes about a millisecond.
const PROBE_MS_MAX: u16 = 3000;
/// Least time for a step init to kill its step by itself, whatever the budget.
const GRACE_MIN: Duration = Duration::from_millis(10);
/// Out-of-memory score: nearly the last to be killed. Not -1000, so that a machine whose guard runs
/// wild still recovers.
const OOM_SCORE_ADJ: &str = "-900";

/// The guard could not start; the worker was told why if it was there.
pub(super) struct CannotStart;

pub(super) fn start() -> Result<Guard, CannotStart> {
    let worker = take_socket().map_err(|_| CannotStart)?;
    match become_guard(&worker) {
        Ok((guard_parts, abilities)) => {
            let guard = guard_parts.into_guard(worker);
            guard.worker.send(&News::Ready { abilities }, &[]).map_err(|_| CannotStart)?;
            Ok(guard)
        }
        Err(reason) => {
            // If the worker is gone there is nobody to tell.
            let _ = worker.send(&News::Unable { reason }, &[]);
            Err(CannotStart)
        }
    }
}

/// Moves the socket away from standard input, where every command would inherit it, and closes
/// whatever else the worker left open for us.
fn take_socket() -> nix::Result<Socket> {
    let socket = nix::fcntl::fcntl(std::io::stdin(), nix::fcntl::F_DUPFD_CLOEXEC(3))?;
    sys::close_all_but(&mut [socket])?;
    let socket = sys::own_received(&[socket]).pop().ok_or(nix::Error::EBADF)?;
    let null = fs::File::open("/dev/null").map_err(|_| nix::Error::ENOENT)?;
    dup2_stdin(&null)?;
    Ok(Socket::from_fd(socket))
}

struct Parts {
    lock: OwnedFd,
    unproven: Option<Unproven>,
    page: Page,
    grace: Duration,
    signals: SignalFd,
    timer: TimerFd,
    around: Surroundings,
    cgroups: Option<Cgroups>,
    spare: Init,
}

impl Parts {
    fn into_guard(self, worker: Socket) -> Guard {
        Guard {
            worker,
            signals: self.signals,
            timer: self.timer,
            armed: None,
            page: self.page,
            _lock: self.lock,
            unproven: self.unproven,
            grace: self.grace,
            around: self.around,
            cgroups: self.cgroups,
            inits: vec![self.spare],
            leaving: Vec::new(),
            mode: Mode::Serving,
            reporter: None,
            killing_all: false,
            sweeping: false,
            lost: Vec::new(),
            outbox: VecDeque::new(),
        }
    }
}

fn become_guard(worker: &Socket) -> Result<(Parts, Abilities), String> {
    let failed = |what: &'static str| move |errno: nix::Error| format!("{what}: {}", errno.desc());
    let (mut hello, lock, page) = receive_hello(worker)?;
    // Away from the worker's terminal and group: what stops or interrupts those must miss us. It
    // fails only for a group leader, which the worker made us if it is careful; then we are out of
    // its group, if not of its session.
    if setsid().is_err() && getsid(None).is_err() {
        return Err("no session".into());
    }
    std::env::set_current_dir("/").map_err(|error| format!("chdir /: {error}"))?;
    sys::reset_ignored_signals();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&deaf()), None).map_err(failed("signal mask"))?;
    let children = SigSet::from(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&children, flags).map_err(failed("signalfd"))?;
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags).map_err(failed("timerfd"))?;
    prctl::set_child_subreaper(true).map_err(failed("child subreaper"))?;
    if planted::is(Bug::ParentDeathOnly) {
        hello.isolation = Isolation::PLAIN;
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("pdeathsig"))?;
    }

    let (around, priority_raised, oom_protected) = raise(lock.as_raw_fd());
    // Closed to other processes of the same user, which steps may be.
    prctl::set_dumpable(false).map_err(failed("dumpable"))?;
    let memory_locked = sys::lock_memory().is_ok();
    let mut weaker_because = Vec::new();
    let mut cgroups = group(hello.isolation, &mut weaker_because);
    let (mut around, probed) =
        contain(around, &page, &mut cgroups, hello.isolation, &mut weaker_because)?;
    let unproven = Unproven::note(&hello.state_dir, !around.containment.is_pid_namespace());
    let unproven = unproven.map_err(|error| format!("state directory: {error}"))?;
    around.enforcement = layers::find(&around, &probed, hello.state_dir, &weaker_because)?;
    // The one that was asked knows nothing of the answer; another one takes its place.
    discard(probed);
    let spare = probe(&around, &page, cgroups.as_mut())?;
    let abilities = Abilities {
        missing_layers: around.enforcement.missing.clone(),
        containment: around.containment,
        cgroup: cgroups.is_some(),
        controllers: cgroups.as_ref().map(Cgroups::controllers).unwrap_or_default(),
        memory_locked,
        priority_raised,
        oom_protected,
        weaker_because,
    };
    // A fifth of the budget for the step inits' own way; the rest for ours.
    let grace = Duration::from_millis(hello.kill_budget_ms / 5).max(GRACE_MIN);
    let parts = Parts { lock, unproven, page, grace, signals, timer, around, cgroups, spare };
    Ok((parts, abilities))
}

/// Nobody but the worker ends a guard: a service manager that signals all processes of a service
/// must not take it away from a worker that is finishing its runs. Only faults of our own get
/// through. Step inits inherit this; commands are started with nothing blocked.
fn deaf() -> SigSet {
    let mut all = SigSet::all();
    for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT]
    {
        all.remove(fault);
    }
    all
}

fn receive_hello(worker: &Socket) -> Result<(Hello, OwnedFd, Page), String> {
    let (hello, fds) = match worker.receive(true) {
        Received::Frame(Order::Hello(hello), fds) => (hello, fds),
        Received::Malformed(why) => return Err(format!("malformed first frame: {why}")),
        _ => return Err("no first frame".into()),
    };
    if hello.protocol != PROTOCOL {
        return Err(format!(
            "the guard speaks protocol {PROTOCOL}, the worker {}: they are of different builds",
            hello.protocol
        ));
    }
    let mut fds = fds.into_iter();
    let (Some(lock), Some(page)) = (fds.next(), fds.next()) else {
        return Err("the first frame came without its descriptors".into());
    };
    let page = Page::map(&page).map_err(|errno| format!("shared page: {}", errno.desc()))?;
    Ok((hello, lock, page))
}

/// Raises priority and protection where that is allowed, and keeps what steps have to go back to.
fn raise(lock: i32) -> (Surroundings, bool, bool) {
    let nice = sys::nice();
    let priority_raised = nice > NICE && sys::set_nice(NICE).is_ok();
    let file = "/proc/self/oom_score_adj";
    let score = fs::read_to_string(file).ok();
    let oom_protected = score.is_some() && fs::write(file, OOM_SCORE_ADJ).is_ok();
    let around = Surroundings {
        containment: Containment::Subreaper,
        lock,
        nice: priority_raised.then_some(nice),
        oom_score_adj: score.filter(|_| oom_protected).map(|score| score_of_steps(&score)),
        user: (geteuid().as_raw(), getegid().as_raw()),
        guard: std::process::id(),
        enforcement: Enforcement::default(),
    };
    (around, priority_raised, oom_protected)
}

/// What steps go back to: what the worker has, but never its protection, if it was given some.
fn score_of_steps(of_worker: &str) -> String {
    of_worker.trim().parse::<i32>().unwrap_or(0).max(0).to_string()
}

/// A group of our own, where one can be had.
fn group(isolation: Isolation, weaker_because: &mut Vec<String>) -> Option<Cgroups> {
    let made = match isolation.cgroup {
        true => Cgroups::make(),
        false => Err("not allowed here".to_owned()),
    };
    let made = made.map_err(|why| weaker_because.push(format!("cgroup: {why}"))).ok();
    let lacks = made.iter().flat_map(Cgroups::lacks);
    weaker_because.extend(lacks.map(|why| format!("cgroup controllers: {why}")));
    made
}

/// Finds the strongest containment by forking a step init of each kind. The one that works stays as
/// the first spare.
fn contain(
    mut around: Surroundings,
    page: &Page,
    cgroups: &mut Option<Cgroups>,
    isolation: Isolation,
    weaker_because: &mut Vec<String>,
) -> Result<(Surroundings, Init), String> {
    let wanted = [
        (isolation.pid_namespace, Containment::PidNamespace),
        (isolation.user_namespace, Containment::UserPidNamespace),
        (process_table_matches(), Containment::Subreaper),
    ];
    for (wanted, containment) in wanted {
        if !wanted {
            weaker_because.push(format!("{}: not allowed here", containment.as_str()));
            continue;
        }
        around.containment = containment;
        match probe(&around, page, cgroups.as_mut()) {
            Ok(spare) => {
                if cgroups.is_some() && spare.group.is_none() {
                    *cgroups = None;
                    weaker_because.push("cgroup: no process can be forked into one".to_owned());
                }
                return Ok((around, spare));
            }
            Err(why) => {
                let of_user = containment == Containment::UserPidNamespace;
                let setting = refusal_of_namespaces().filter(|_| of_user);
                let setting = setting.map(|setting| format!(" ({setting})")).unwrap_or_default();
                weaker_because.push(format!("{}: {why}{setting}", containment.as_str()));
            }
        }
    }
    Err(format!("no containment works: {}", weaker_because.join("; ")))
}

fn probe(
    around: &Surroundings,
    page: &Page,
    cgroups: Option<&mut Cgroups>,
) -> Result<Init, String> {
    let forked = Init::fork(around, page, cgroups, true);
    let mut init = forked.map_err(|errno| format!("fork: {}", errno.desc()))?;
    let give_up = Instant::now() + Duration::from_millis(PROBE_MS_MAX.into());
    let news = loop {
        let Some(socket) = &init.socket else { break Err("no socket".to_owned()) };
        match socket.receive(false) {
            Received::Frame(InitNews::Up, _) => return Ok(init),
            Received::Frame(InitNews::Unable { reason }, _) => break Err(reason),
            Received::Frame(InitNews::Ended { .. } | InitNews::Probed(_), _) => {
                break Err("it ended".into());
            }
            Received::Malformed(why) => break Err(why),
            Received::End => break Err("it died".into()),
            Received::Nothing if Instant::now() > give_up => break Err("it is stuck".into()),
            Received::Nothing => {
                let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut fds, PollTimeout::from(100_u8));
            }
        }
    };
    init.socket = None;
    discard(init);
    news
}

/// Ends an init that has nothing below it and nothing that it waits for.
fn discard(init: Init) {
    init.kill();
    let _ = nix::sys::wait::waitpid(init.pid, None);
    init.group.iter().for_each(Group::remove);
}
