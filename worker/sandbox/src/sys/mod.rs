//! The unsafe code of Flyball, all of it: system calls that no safe wrapper offers.
#![expect(unsafe_code, reason = "system calls without a safe wrapper; each with its argument")]

mod mounts;
mod net;

pub(crate) use mounts::{MountAttributes, attach, clone_tree, make_read_only, set_attributes};
pub(crate) use net::bring_loopback_up;

use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::Pid;

/// What [`fork`] returned as.
pub(crate) enum Forked {
    /// In the parent, with the child.
    Parent(Pid),
    /// In the child.
    Child,
}

/// Forks the calling process, into new namespaces if `flags` says so. The caller must be
/// single-threaded; the child must end through [`exit_now`] and never return into the parent's
/// stack frames.
pub(crate) fn fork(flags: CloneFlags) -> nix::Result<Forked> {
    let bits = libc::c_long::from(flags.bits()) | libc::c_long::from(libc::SIGCHLD);
    let zero: libc::c_long = 0;
    // SAFETY: clone without CLONE_VM and with a null stack is fork: the child goes on with a copy
    // of this stack. No other thread exists (the guard never starts one), so no lock can be held
    // by a thread that the child does not have.
    let result = unsafe { libc::syscall(libc::SYS_clone, bits, zero, zero, zero, zero) };
    match Errno::result(result)? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(Pid::from_raw(libc::pid_t::try_from(pid).unwrap_or(-1)))),
    }
}

/// Like [`fork`], with the child in the control group whose directory `group` is, from its first instruction on
/// (kernel 5.7). Moving it later would make the kernel wait for every process of the machine.
pub(crate) fn fork_into(flags: CloneFlags, group: BorrowedFd<'_>) -> nix::Result<Forked> {
    let bits = u64::from(flags.bits().cast_unsigned());
    // CLONE_INTO_CGROUP (linux/sched.h).
    let into = 1_u64 << 33;
    // SAFETY: a plain C struct of integers, for which zero is a valid value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = bits | into;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    arguments.cgroup = u64::try_from(group.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let size = size_of::<libc::clone_args>();
    // SAFETY: as in `fork`: no CLONE_VM and no stack of its own. The arguments live during the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size) };
    match Errno::result(result)? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(Pid::from_raw(libc::pid_t::try_from(pid).unwrap_or(-1)))),
    }
}

/// Ends this process at once: no destructors, no exit handlers. The way out of a forked child.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Closes every file descriptor above standard error that is not in `keep`. What was closed must
/// not be used or dropped afterwards; the callers hold nothing but `keep`.
pub(crate) fn close_all_but(keep: &mut [RawFd]) -> nix::Result<()> {
    keep.sort_unstable();
    let mut from: RawFd = 3;
    for &fd in keep.iter() {
        if fd > from {
            close_range(from, fd - 1)?;
        }
        from = from.max(fd + 1);
    }
    close_range(from, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> nix::Result<()> {
    // SAFETY: closing cannot break memory safety; ownership is the contract of `close_all_but`.
    // The raw call, as older C libraries have no wrapper for it (kernel 5.9).
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Errno::result(result).map(drop)
}

/// Takes ownership of descriptors that the kernel has just installed for a received message.
pub(crate) fn own_received(fds: &[RawFd]) -> Vec<OwnedFd> {
    // SAFETY: recvmsg made these for us; nobody else knows their numbers.
    fds.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Nice value of this thread, which new threads and processes take over.
pub(crate) fn nice() -> i32 {
    // SAFETY: plain integers in and out.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Sets the nice value of this thread (of this process, if it has only one).
pub(crate) fn set_nice(nice: i32) -> nix::Result<()> {
    // SAFETY: plain integers in and out.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// Keeps the pages this process touches in memory, now and later, so that a machine short of
/// memory cannot delay a kill by paging. Not inherited by forked children.
pub(crate) fn lock_memory() -> nix::Result<()> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: changes paging only.
    Errno::result(unsafe { libc::mlockall(flags) }).map(drop)
}

/// Version of the kernel's Landlock interface; 0 where there is none or it is switched off.
pub(crate) fn landlock_abi() -> u32 {
    const VERSION: libc::c_long = 1;
    let (none, size): (*const libc::c_void, libc::size_t) = (std::ptr::null(), 0);
    // SAFETY: with this flag the call takes no attributes, makes nothing and answers a number.
    let found = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, size, VERSION) };
    u32::try_from(found).unwrap_or(0)
}

/// Gives back their default action to all signals that were inherited as ignored, but for SIGPIPE,
/// which is an error code here. A command would inherit them else (e.g. from `nohup`).
pub(crate) fn reset_ignored_signals() {
    // All that Linux has; the C library keeps 32 and 33 for itself and refuses them.
    for number in (1..=64).filter(|&number| number != libc::SIGPIPE) {
        // SAFETY: a zeroed sigaction is a valid value of this plain C struct.
        let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: reads the present action into `old`; no handler is installed or removed.
        let read = unsafe { libc::sigaction(number, std::ptr::null(), &raw mut old) };
        if read == 0 && old.sa_sigaction == libc::SIG_IGN {
            // SAFETY: the default action involves no code of ours.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
    }
}

/// Whether privileges stay as they are when the user for files changes between root and another.
pub(crate) fn keep_privileges(keep: bool) -> nix::Result<()> {
    // SECBIT_NO_SETUID_FIXUP (linux/securebits.h).
    let bits: libc::c_ulong = if keep { 1 << 2 } else { 0 };
    // SAFETY: plain integers in and out.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0) }).map(drop)
}

/// Takes from the next program, and from all that come after it, every privilege that root has.
pub(crate) fn give_up_privileges() -> nix::Result<()> {
    // SECBIT_NOROOT and its lock (linux/securebits.h): being root gives nothing any more.
    let bits: libc::c_ulong = 0b11;
    // SAFETY: plain integers in and out.
    match Errno::result(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0) }) {
        // Root in a container that was given none, and whose programs can get none.
        Err(Errno::EPERM) if !has_bounding_set() => return Ok(()),
        done => done.map(drop)?,
    }
    // All that the kernel may know; those that it does not are refused as invalid.
    for capability in 0..64_u64 {
        // SAFETY: as above.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match Errno::result(dropped) {
            Ok(_) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Whether a program of root's could get any privilege (capabilities(7): the bounding set is what it gets).
fn has_bounding_set() -> bool {
    (0..64_u64).any(|capability| {
        // SAFETY: plain integers in and out; unknown ones are refused as invalid.
        unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) == 1 }
    })
}

/// Gives SIGPIPE its default action back, which Rust's start-up takes away.
pub(crate) fn default_broken_pipe() {
    // SAFETY: the default action involves no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// The words that worker, guard and step inits share.
#[repr(C)]
pub(crate) struct SharedWords {
    /// The deadline in milliseconds of CLOCK_BOOTTIME; 0: none was ever set.
    pub(crate) deadline_ms: AtomicU64,
    /// Not 0: this guard's life is over, whatever the deadline says.
    pub(crate) ended: AtomicU64,
}

/// Bytes that a shared mapping needs.
pub(crate) const SHARED_BYTES: usize = size_of::<SharedWords>();

/// A mapping of [`SharedWords`], shared with other processes.
pub(crate) struct SharedMapping(NonNull<SharedWords>);

// SAFETY: all access is through atomics; the mapping lives as long as the value.
unsafe impl Send for SharedMapping {}
// SAFETY: as above.
unsafe impl Sync for SharedMapping {}

impl SharedMapping {
    /// Maps the start of `file`, which must be at least [`SHARED_BYTES`] long and must not shrink
    /// (the caller seals it).
    pub(crate) fn new(file: &OwnedFd) -> nix::Result<Self> {
        let length = NonZeroUsize::new(SHARED_BYTES).ok_or(Errno::EINVAL)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours.
        let address = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self(address.cast()))
    }

    pub(crate) fn words(&self) -> &SharedWords {
        // SAFETY: mapped and page-aligned until drop; sealed against shrinking; any bit pattern
        // is a valid atomic.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, unmapped once, and no reference outlives `self`. An error would
        // leave a page mapped, which harms nobody.
        let _ = unsafe { munmap(self.0.cast(), SHARED_BYTES) };
    }
}
