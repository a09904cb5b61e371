//! The machine's disk: a small Debian, made from packages without being root, kept in a cache directory.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Kernel 6.12, systemd 257.
const SUITE: &str = "trixie";
/// What the cases need besides the smallest system.
const PACKAGES: &str = "systemd-sysv,dbus,libpam-systemd,dbus-user-session,procps,iproute2,git,perl,apparmor,\
                        linux-image-cloud-amd64,initramfs-tools";
/// Room for the payload and what cases write; a hole in the file until then.
const DISK: &str = "6G";

/// The cache directory.
pub(crate) fn dir() -> PathBuf {
    let named = std::env::var_os("FLYBALL_VM_CACHE").map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/vm-cache"))
}

/// Makes disk, kernel and initial file system. Under `fakeroot`, so that files are root's on the disk.
pub(crate) fn install() -> Result<(), String> {
    for (program, package) in [
        ("mmdebstrap", "mmdebstrap"),
        ("fakeroot", "fakeroot"),
        ("mke2fs", "e2fsprogs"),
        ("qemu-system-x86_64", "qemu-system-x86"),
    ] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
        if !found.is_ok_and(|done| done.status.success()) {
            return Err(format!("{program} is missing: install Debian's {package}"));
        }
    }
    let dir = dir();
    std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let tar = dir.join("root.tar");
    run(Command::new("mmdebstrap")
        .args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE])
        .arg(&tar))?;
    let script = format!(
        "set -e; rm -rf root; mkdir root; tar -xf root.tar -C root; \
         mv root/boot/vmlinuz-* kernel; mv root/boot/initrd.img-* initrd; rm -rf root/var/cache/apt root/var/lib/apt \
         root/usr/share/doc root/usr/share/locale; \
         rm -f disk; mke2fs -q -t ext4 -d root disk {DISK}; rm -rf root root.tar"
    );
    run(Command::new("fakeroot").args(["sh", "-c", &script]).current_dir(&dir))
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let status = command.status().map_err(|error| format!("{shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown}: {status}")) }
}
