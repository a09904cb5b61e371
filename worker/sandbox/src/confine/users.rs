//! The user that a step becomes. Under root that is a number which owns nothing on this host, and
//! mounts that map it to root's files; otherwise it is the worker's own user without any privilege.

use std::cell::RefCell;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Uid, getegid, geteuid, setgroups, setresgid, setresuid};

use super::Who;
use crate::sys::{self, Forked};

/// The step's user and group as it sees them itself: what the first person on a Debian has. Not 0, as
/// some agents refuse to work as root.
const INNER: u32 = 1000;
/// First of the numbers that steps become under root. Above what distributions, service managers and
/// containers hand out, below 2^31, which some programs take for the largest.
const OUTER_FIRST: u32 = 0x6000_0000;
/// Step inits of one guard that are told apart; more than can be at work at a time.
const INITS: u32 = 1 << 10;
/// Guards of one host that are told apart, by their process numbers.
const GUARDS: u32 = 1 << 18;

/// The numbers that the steps of one init become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OuterUsers {
    agent: u32,
}

impl OuterUsers {
    /// Those of the `init`th init of the guard with this process number.
    pub(crate) fn of(guard: u32, init: u32) -> Self {
        Self { agent: OUTER_FIRST + ((guard % GUARDS) * INITS + init % INITS) * 2 }
    }

    /// The user, and group, of a step.
    pub(crate) fn of_step(self, who: Who) -> u32 {
        match who {
            Who::Agent => self.agent,
            Who::Check => self.agent + 1,
        }
    }
}

/// User namespaces that only describe a mapping, made once for each user of an init.
#[derive(Default)]
pub(crate) struct UserMaps(RefCell<Vec<(u32, OwnedFd)>>);

impl UserMaps {
    /// A descriptor of the mapping of root's files to `user`.
    pub(crate) fn get(&self, user: u32) -> nix::Result<OwnedFd> {
        let mut known = self.0.borrow_mut();
        if let Some((_, fd)) = known.iter().find(|(of, _)| *of == user) {
            return fd.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE);
        }
        let fd = make_map(user)?;
        let copy = fd.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
        known.push((user, fd));
        Ok(copy)
    }
}

/// A namespace lives as long as somebody holds it; the process that it takes to make one does not.
fn make_map(user: u32) -> nix::Result<OwnedFd> {
    let pid = match sys::fork(CloneFlags::CLONE_NEWUSER)? {
        Forked::Child => loop {
            nix::unistd::pause();
        },
        Forked::Parent(pid) => pid,
    };
    let mapped = map(&format!("/proc/{pid}"), 0, user)
        .and_then(|()| fs::File::open(format!("/proc/{pid}/ns/user")));
    // It is our child, and not reaped yet.
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
    mapped.map(OwnedFd::from).map_err(|error| errno(&error))
}

fn map(process: &str, inner: u32, outer: u32) -> std::io::Result<()> {
    fs::write(format!("{process}/uid_map"), format!("{inner} {outer} 1"))?;
    fs::write(format!("{process}/gid_map"), format!("{inner} {outer} 1"))
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Becomes the step's user, inside a user namespace of its own. From here on nothing that this process
/// or its descendants may do reaches beyond that namespace.
pub(super) fn become_user(outer: Option<u32>) -> nix::Result<()> {
    if let Some(outer) = outer {
        let (user, group) = (Uid::from_raw(outer), Gid::from_raw(outer));
        setgroups(&[])?;
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
    }
    // Whoever cannot be looked into cannot map its own user either. Nobody else is in here to look,
    // and the command that is executed next starts anew.
    prctl::set_dumpable(true)?;
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    let own = "/proc/self";
    let write = |file: &str, text: String| {
        fs::write(format!("{own}/{file}"), text).map_err(|error| errno(&error))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{INNER} {user} 1"))?;
    write("gid_map", format!("{INNER} {group} 1"))
}

/// The lines about the step's user in its own `/etc/passwd` and `/etc/group`.
pub(super) fn account_files() -> (String, String) {
    let passwd = format!(
        "root:x:0:0:root:/:/usr/sbin/nologin\n\
         flyball:x:{INNER}:{INNER}:Flyball:/tmp:/bin/sh\n\
         nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
    );
    (passwd, format!("root:x:0:\nflyball:x:{INNER}:\nnogroup:x:65534:\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_steps_share_a_user() {
        let mut seen = std::collections::BTreeSet::new();
        for (guard, init) in [(1, 0), (1, 1), (1, 1023), (2, 0), (2, 1), (262_143, 1023)] {
            let users = OuterUsers::of(guard, init);
            for who in [Who::Agent, Who::Check] {
                let user = users.of_step(who);
                assert!(seen.insert(user) && (OUTER_FIRST..1 << 31).contains(&user));
            }
        }
    }
}
