//! What the host lends to cases: a cgroup to freeze, a small disk to fill, a tracer that makes system
//! calls slow or fail. All of it needs root or a capability; cases are skipped without, and say so.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flyball_tests::etcd;
use flyball_tests::poll::until;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::hands::{parent, processes};

/// Longest wait for the host.
const HOST_MAX: Duration = Duration::from_secs(20);

/// A cgroup of version 2.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one, where the tree of version 2 is on this host.
    pub(crate) fn create() -> Result<Self, String> {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        let root = roots.iter().find(|root| root.join("cgroup.controllers").exists());
        let root = root.ok_or("no cgroup v2 tree")?;
        let dir = root.join(format!("flyball-faults-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let cgroup = Self(dir);
        let freeze = cgroup.0.join("cgroup.freeze");
        if !freeze.exists() {
            return Err(format!("{} is missing", freeze.display()));
        }
        Ok(cgroup)
    }

    /// Moves a process and all its descendants here.
    pub(crate) fn take_in(&self, pid: i32) {
        // New ones may be forked while the known ones are moved.
        until("all descendants are in the cgroup", HOST_MAX, || {
            let inside = std::fs::read_to_string(self.0.join("cgroup.procs")).expect("a cgroup");
            let inside: Vec<i32> = inside.lines().filter_map(|line| line.parse().ok()).collect();
            let mut family = vec![pid];
            let mut at = 0;
            let all = processes();
            while let Some(one) = family.get(at).copied() {
                family.extend(all.iter().filter(|pid| parent(**pid) == Some(one)));
                at += 1;
            }
            family.retain(|pid| !inside.contains(pid));
            for pid in &family {
                // One that has ended meanwhile needs no move.
                let _ = std::fs::write(self.0.join("cgroup.procs"), pid.to_string());
            }
            family.is_empty().then_some(())
        });
    }

    /// Freezes or thaws everything in it, and waits until it is so.
    pub(crate) fn freeze(&self, frozen: bool) {
        let value = u8::from(frozen).to_string();
        std::fs::write(self.0.join("cgroup.freeze"), &value).expect("cgroups can be frozen");
        if frozen {
            until("the cgroup is frozen", HOST_MAX, || {
                let events = std::fs::read_to_string(self.0.join("cgroup.events")).ok()?;
                events.contains("frozen 1").then_some(())
            });
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.freeze"), "0");
        // It may hold processes for a moment more; they are killed when the fleet ends.
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A disk in memory.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one, of so many bytes.
    pub(crate) fn mount(at: &Path, bytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let options = format!("size={bytes},mode=700");
        let none: Option<&str> = None;
        mount(none, at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .map_err(|errno| format!("mounting a tmpfs: {errno}"))?;
        Ok(Self(at.to_owned()))
    }

    /// Leaves no room.
    pub(crate) fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.join("filler")).expect("a file");
        while file.write_all(&[0; 64 * 1024]).is_ok() {}
        while file.write_all(&[0; 512]).is_ok() {}
    }

    /// Makes room again, and more of it: etcd repairs a torn log by writing it anew.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it is there");
        let (none, options): (Option<&str>, _) = (None, Some("size=1g,mode=700"));
        mount(none, &self.0, none, MsFlags::MS_REMOUNT, options).expect("a disk can grow");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also while a member is still using it.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// `strace`, found or fetched.
pub(crate) struct Strace(PathBuf);

/// Finds one that may trace.
pub(crate) fn strace() -> Result<Strace, String> {
    let path = etcd::strace()?;
    let tried = Command::new(&path).args(["-o", "/dev/null", "true"]).output();
    match tried {
        Ok(output) if output.status.success() => Ok(Strace(path)),
        Ok(output) => Err(format!("strace: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("strace: {error}")),
    }
}

/// A tracer at work.
pub(crate) struct Injected {
    child: Child,
    log: PathBuf,
}

impl Strace {
    /// Changes every `fsync` and `fdatasync` of a process, until the end.
    pub(crate) fn inject(&self, pid: i32, what: &str, log: &Path) -> Injected {
        let child = Command::new(&self.0)
            .args(["--follow-forks", "--quiet=attach,exit", "-p", &pid.to_string()])
            .args(["-e", "trace=fsync,fdatasync"])
            .args(["-e", &format!("inject=fsync,fdatasync:{what}")])
            .arg("-o")
            .arg(log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace can be started");
        Injected { child, log: log.to_owned() }
    }
}

impl Injected {
    /// Ends the tracing; gives how many calls were changed.
    pub(crate) fn end(mut self) -> usize {
        let pid = i32::try_from(self.child.id()).expect("process ids fit");
        // It lets go of what it traces. It may have ended together with that.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        until("the tracer has ended", HOST_MAX, || self.child.try_wait().ok().flatten());
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("(INJECTED)") || line.contains("(DELAYED)")).count()
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
