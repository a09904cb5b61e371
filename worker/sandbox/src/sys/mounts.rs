//! The kernel's newer mount calls: trees that are cloned, changed and put somewhere by descriptor.
#![expect(unsafe_code, reason = "system calls without a safe wrapper; each with its argument")]

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

/// What is set on a tree of mounts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttributes<'a> {
    /// Nothing can be written through it.
    pub(crate) read_only: bool,
    /// Nothing in it can be executed.
    pub(crate) no_exec: bool,
    /// Device files in it work; elsewhere they do not.
    pub(crate) devices: bool,
    /// A user namespace that says who is seen as the owner of what its files' owners own.
    pub(crate) idmap: Option<BorrowedFd<'a>>,
}

fn text(path: &Path) -> nix::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

/// A copy of the mount at `path` that is attached nowhere; `whole` takes mounts below it too.
pub(crate) fn clone_tree(path: &Path, whole: bool) -> nix::Result<OwnedFd> {
    let path = text(path)?;
    let recursive = if whole { libc::AT_RECURSIVE } else { 0 };
    // OPEN_TREE_CLONE is 1 in the kernel's interface (linux/mount.h).
    let flags = 1 | libc::O_CLOEXEC | recursive;
    // SAFETY: the path is a C string that outlives the call, which makes a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: just made, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets attributes of a tree, of all its mounts if `whole`. Set-user-id programs never work in one.
pub(crate) fn set_attributes(
    tree: BorrowedFd<'_>,
    whole: bool,
    attributes: MountAttributes<'_>,
) -> nix::Result<()> {
    let mut set = libc::MOUNT_ATTR_NOSUID;
    set |= if attributes.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    set |= if attributes.no_exec { libc::MOUNT_ATTR_NOEXEC } else { 0 };
    set |= if attributes.devices { 0 } else { libc::MOUNT_ATTR_NODEV };
    set |= if attributes.idmap.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
    let userns = attributes.idmap.map_or(0, |fd| u64::try_from(fd.as_raw_fd()).unwrap_or(0));
    change(tree.as_raw_fd(), c"", libc::AT_EMPTY_PATH, whole, set, userns)
}

/// Makes the mount at `path` read-only, but none below it.
pub(crate) fn make_read_only(path: &Path) -> nix::Result<()> {
    change(libc::AT_FDCWD, &text(path)?, 0, false, libc::MOUNT_ATTR_RDONLY, 0)
}

fn change(
    dir: RawFd,
    path: &std::ffi::CStr,
    flags: libc::c_int,
    whole: bool,
    set: u64,
    userns: u64,
) -> nix::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: userns };
    let flags = flags | if whole { libc::AT_RECURSIVE } else { 0 };
    let size = size_of::<libc::mount_attr>();
    // SAFETY: the path and the attributes outlive the call, which only reads them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size,
        )
    };
    Errno::result(done).map(drop)
}

/// Puts a tree at a path.
pub(crate) fn attach(tree: BorrowedFd<'_>, at: &Path) -> nix::Result<()> {
    let at = text(at)?;
    // MOVE_MOUNT_F_EMPTY_PATH (linux/mount.h).
    let flags: libc::c_uint = 4;
    // SAFETY: both paths are C strings that outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            at.as_ptr(),
            flags,
        )
    };
    Errno::result(done).map(drop)
}
