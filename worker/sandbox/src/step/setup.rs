//! What a step init does to itself before it takes a command.

use std::fs;
use std::os::fd::{AsRawFd, RawFd};

use flyball_core::isolation::{Layer, is_off};
use flyball_core::planted::{self, Bug};
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::setsid;

use crate::abilities::Containment;
use crate::confine::Enforcement;
use crate::socket::Socket;
use crate::sys;

/// What a step init has to know of the guard it was forked from.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// How it contains its step.
    pub(crate) containment: Containment,
    /// The state lock; kept open, so that the lock is held until this process has ended too.
    pub(crate) lock: RawFd,
    /// The nice value to go back to, if the guard raised its own priority.
    pub(crate) nice: Option<i32>,
    /// The out-of-memory score to go back to, if the guard lowered its own.
    pub(crate) oom_score_adj: Option<String>,
    /// The user and group, as they are outside a user namespace.
    pub(crate) user: (u32, u32),
    /// The guard's process number.
    pub(crate) guard: u32,
    /// What steps are confined by.
    pub(crate) enforcement: Enforcement,
}

impl Surroundings {
    /// Whether steps become users of their own: only root may let them.
    pub(crate) fn steps_change_user(&self) -> bool {
        self.containment == Containment::PidNamespace && self.user.0 == 0
    }

    /// The namespaces that a step init is forked into.
    pub(crate) fn namespaces(&self) -> CloneFlags {
        let own = match is_off(Layer::Pid) {
            false => CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS,
            true => CloneFlags::CLONE_NEWNS,
        };
        match self.containment {
            Containment::PidNamespace => own,
            Containment::UserPidNamespace => own | CloneFlags::CLONE_NEWUSER,
            Containment::Subreaper => CloneFlags::empty(),
        }
    }
}

/// Sets this process up; the error says which part failed.
pub(super) fn set_up(around: &Surroundings, socket: &Socket) -> Result<(), String> {
    let failed = |what: &'static str| move |errno: nix::Error| format!("{what}: {}", errno.desc());
    // First of all: copies of the guard's descriptors would hide the guard's death from others.
    sys::close_all_but(&mut [socket.as_raw_fd(), around.lock]).map_err(failed("close_range"))?;
    setsid().map_err(failed("setsid"))?;
    if planted::is(Bug::ParentDeathOnly) {
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("pdeathsig"))?;
    }
    // The guard is closed to its own user, and a process that is so can neither map its user nor, unless it is root's,
    // change its score for the memory killer. For as long as it is open, other steps are kept from it by their filters.
    let maps_user = around.containment == Containment::UserPidNamespace;
    if maps_user || around.oom_score_adj.is_some() {
        prctl::set_dumpable(true).map_err(failed("dumpable"))?;
    }
    if maps_user {
        map_user(around.user).map_err(|error| format!("user namespace: {error}"))?;
    }
    if around.containment.is_pid_namespace() {
        own_process_table().map_err(failed("mounting /proc"))?;
    }
    if !around.containment.is_pid_namespace() || is_off(Layer::Pid) {
        prctl::set_child_subreaper(true).map_err(failed("child subreaper"))?;
    }
    if let Some(nice) = around.nice {
        sys::set_nice(nice).map_err(failed("nice"))?;
    }
    if let Some(score) = &around.oom_score_adj {
        fs::write("/proc/self/oom_score_adj", score)
            .map_err(|error| format!("oom_score_adj: {error}"))?;
    }
    // The step must not look into us or change us, as it is what we say of it that counts.
    prctl::set_dumpable(false).map_err(failed("dumpable"))?;
    // A descendant that could become another user could also become unkillable for this one.
    prctl::set_no_new_privs().map_err(failed("no_new_privs"))
}

/// The same user and group inside as outside.
fn map_user((user, group): (u32, u32)) -> std::io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// A /proc that shows the processes of this namespace, under the numbers they have in it. Other
/// mounts that the host makes later still arrive.
fn own_process_table() -> nix::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none)
}
