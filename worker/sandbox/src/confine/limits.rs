//! Bounds that the kernel holds for each process or each user: resource limits and processors.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use super::Limits;

/// A process may map this many times what all of a step may have resident: allocators take memory that
/// they never touch. What is resident is watched besides.
const DATA_FACTOR: u64 = 4;

/// Keeps this process and its descendants on as many processors as they are worth, other ones for
/// each step.
pub(super) fn set_processors(cpu_millis: Option<u64>, step: u64) -> nix::Result<()> {
    let Some(millis) = cpu_millis.filter(|millis| *millis > 0) else { return Ok(()) };
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let here: Vec<usize> =
        (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    let wanted = usize::try_from(millis.div_ceil(1000)).unwrap_or(usize::MAX);
    if wanted >= here.len() {
        return Ok(());
    }
    let first = usize::try_from(step).unwrap_or_default().wrapping_mul(wanted);
    let mut set = CpuSet::new();
    for offset in 0..wanted {
        set.set(here[first.wrapping_add(offset) % here.len()])?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Bytes of a page of main memory.
pub(super) fn page_bytes() -> u64 {
    let found = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    found.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0).unwrap_or(4096)
}

/// Bounds what System V segments of this IPC namespace may take together, as they can be there without any
/// process that has them. Only root may; for others those that are attached are seen by the watch of memory.
pub(super) fn set_shared_segments(limits: &Limits) {
    let Some(bytes) = limits.memory_bytes else { return };
    let _ = std::fs::write("/proc/sys/kernel/shmall", (bytes / page_bytes()).to_string());
}

/// Sets the limits; the number of processes counts in the user namespace that this process is in. Where a group holds
/// the memory (`memory_held`), a process may map what it likes: only what it touches counts.
pub(super) fn set_limits(limits: &Limits, memory_held: bool) -> nix::Result<()> {
    let data = limits.memory_bytes.filter(|_| !memory_held);
    let bounds = [
        // A dump could hold what the step was given, and would be written where nobody looks.
        (Resource::RLIMIT_CORE, Some(0)),
        (Resource::RLIMIT_NPROC, limits.processes),
        (Resource::RLIMIT_NOFILE, limits.files),
        (Resource::RLIMIT_FSIZE, limits.disk_bytes),
        (Resource::RLIMIT_DATA, data.map(|bytes| bytes.saturating_mul(DATA_FACTOR))),
    ];
    for (resource, bound) in bounds {
        let Some(bound) = bound else { continue };
        let (_, hard) = getrlimit(resource)?;
        let bound = bound.min(RLIM_INFINITY - 1).min(hard);
        setrlimit(resource, bound, bound)?;
    }
    Ok(())
}
