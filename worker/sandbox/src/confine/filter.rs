//! The system call filters of a step: what is known to be dangerous is refused by name, and of the
//! rest only what is known to be harmless exists at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

use super::system_calls::{ALLOWED, REFUSED};

/// New namespaces, in the flags of `clone`.
const NEW_NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    // CLONE_NEWTIME (linux/sched.h), which `clone` does not take yet.
    0x80,
];
/// Requests that put characters into a terminal as if they had been typed.
const TYPING: [libc::c_ulong; 2] =
    [libc::TIOCSTI, 0x541c /* TIOCLINUX, asm-generic/ioctls.h */];
/// The old way to raw packets (linux/net.h); the C library's own constant is deprecated.
const SOCK_PACKET: libc::c_int = 10;
/// The part of a socket's type that is not a flag.
const SOCKET_TYPE: u64 = 0xf;

/// File modes that make a program run as its owner. What a step makes belongs to the worker's user outside, under
/// root to root, so such a file would be a way up for whoever reaches it on the host.
const SET_ID: [u32; 2] = [libc::S_ISUID, libc::S_ISGID];
/// Calls that take a mode, and where.
const WITH_MODE: &[(i64, u8)] = &[
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    // fchmodat2, newer than the C library's list.
    (452, 2),
    (libc::SYS_mknodat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1),
];
/// Calls that take a mode behind their flags if those say that a file is made, and where the flags are.
const WITH_FLAGS: &[(i64, u8)] = &[
    (libc::SYS_openat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1),
];

/// Compiled filters, in the order in which they are put on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(Arc<Vec<BpfProgram>>);

impl Filters {
    /// Compiles them. `own_network`: sockets of the step's network lead nowhere; otherwise there are
    /// none of the internet's but TCP's, which Landlock then forbids to connect.
    pub(crate) fn compile(own_network: bool) -> Result<Self, String> {
        let failed = |error: seccompiler::BackendError| error.to_string();
        let known = ALLOWED.iter().chain(REFUSED).map(|call| (*call, Vec::new())).collect();
        let allow = filter(known, SeccompAction::Errno(errno(libc::ENOSYS)), SeccompAction::Allow)?;
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            REFUSED.iter().map(|call| (*call, Vec::new())).collect();
        for (call, more) in by_argument(own_network).map_err(failed)? {
            rules.entry(call).or_default().extend(more);
        }
        let refuse = filter(rules, SeccompAction::Allow, SeccompAction::Errno(errno(libc::EPERM)))?;
        // Its flags are behind a pointer, where no filter sees them; who calls it goes on with `clone`.
        let clone3 = [(libc::SYS_clone3, Vec::new())].into();
        let unknown =
            filter(clone3, SeccompAction::Allow, SeccompAction::Errno(errno(libc::ENOSYS)))?;
        // Of equal actions that of the last one put on is taken: refusals by name before "unknown".
        Ok(Self(Arc::new(vec![allow, refuse, unknown])))
    }

    /// Puts them on this process and its descendants, for ever.
    pub(crate) fn apply(&self) -> Result<(), String> {
        if self.0.is_empty() {
            return Err("no filter was compiled".to_owned());
        }
        self.0.iter().try_for_each(|one| apply_filter(one).map_err(|error| error.to_string()))
    }
}

fn errno(value: libc::c_int) -> u32 {
    value.unsigned_abs()
}

fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, String> {
    let arch = std::env::consts::ARCH.try_into();
    let arch = arch.map_err(|error: seccompiler::BackendError| error.to_string())?;
    SeccompFilter::new(rules, otherwise, matching, arch)
        .and_then(TryInto::try_into)
        .map_err(|error: seccompiler::BackendError| error.to_string())
}

/// Calls that are refused for some of their arguments.
fn by_argument(
    own_network: bool,
) -> Result<Vec<(i64, Vec<SeccompRule>)>, seccompiler::BackendError> {
    let narrow = |index, op, value: u64| SeccompCondition::new(index, Width::Dword, op, value);
    let wide = |index, op, value: u64| SeccompCondition::new(index, Width::Qword, op, value);
    let number = |value: libc::c_int| u64::from(value.unsigned_abs());
    let mut clone = Vec::new();
    for flag in NEW_NAMESPACES.map(number) {
        // Truncated by the kernel too, so that only the lower half counts.
        clone.push(SeccompRule::new(vec![wide(0, Op::MaskedEq(flag), flag)?])?);
    }
    let mut ioctl = Vec::new();
    for request in TYPING {
        ioctl.push(SeccompRule::new(vec![narrow(1, Op::Eq, request & 0xffff_ffff)?])?);
    }
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(number);
    let other: Result<Vec<_>, _> =
        families.into_iter().map(|family| narrow(0, Op::Ne, family)).collect();
    let netlink = vec![
        narrow(0, Op::Eq, number(libc::AF_NETLINK))?,
        narrow(2, Op::Ne, number(libc::NETLINK_ROUTE))?,
    ];
    let mut socket = vec![SeccompRule::new(other?)?, SeccompRule::new(netlink)?];
    let kinds: &[libc::c_int] = match own_network {
        true => &[libc::SOCK_RAW, SOCK_PACKET],
        false => &[libc::SOCK_RAW, SOCK_PACKET, libc::SOCK_DGRAM],
    };
    for family in [libc::AF_INET, libc::AF_INET6].map(number) {
        for kind in kinds.iter().copied().map(number) {
            let of_kind = narrow(1, Op::MaskedEq(SOCKET_TYPE), kind)?;
            socket.push(SeccompRule::new(vec![narrow(0, Op::Eq, family)?, of_kind])?);
        }
    }
    let mut all =
        vec![(libc::SYS_clone, clone), (libc::SYS_ioctl, ioctl), (libc::SYS_socket, socket)];
    all.extend(of_set_id()?);
    Ok(all)
}

/// Making a file that runs as its owner, or one of that.
fn of_set_id() -> Result<Vec<(i64, Vec<SeccompRule>)>, seccompiler::BackendError> {
    let has =
        |index: u8, bits: u64| SeccompCondition::new(index, Width::Dword, Op::MaskedEq(bits), bits);
    let mut all = Vec::new();
    for (call, mode) in WITH_MODE {
        let rules = SET_ID.map(|bit| SeccompRule::new(vec![has(*mode, u64::from(bit))?]));
        all.push((*call, rules.into_iter().collect::<Result<_, _>>()?));
    }
    for (call, flags) in WITH_FLAGS {
        let mut rules = Vec::new();
        for made in [libc::O_CREAT, libc::O_TMPFILE].map(|flag| u64::from(flag.unsigned_abs())) {
            for bit in SET_ID.map(u64::from) {
                let conditions = vec![has(*flags, made)?, has(flags + 1, bit)?];
                rules.push(SeccompRule::new(conditions)?);
            }
        }
        all.push((*call, rules));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_compile_and_no_call_is_both() {
        assert_eq!(Filters::compile(true).unwrap().0.len(), 3);
        assert!(Filters::compile(false).is_ok());
        for call in REFUSED {
            assert!(!ALLOWED.contains(call), "{call}");
        }
    }
}
