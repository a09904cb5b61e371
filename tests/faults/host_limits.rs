//! More that the host lends to cases: a limit on processes, clocks with an offset.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::hands::{parent, processes};

/// A cgroup that limits how many processes and threads are in it.
pub(crate) struct PidLimit(PathBuf);

impl PidLimit {
    /// Makes one, in version 1 or 2 of cgroups.
    pub(crate) fn create(max: u32) -> Result<Self, String> {
        let two = std::fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control");
        let root = match two {
            Ok(controllers) if controllers.contains("pids") => PathBuf::from("/sys/fs/cgroup"),
            _ => PathBuf::from("/sys/fs/cgroup/pids"),
        };
        let dir = root.join(format!("flyball-faults-pids-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let limit = Self(dir);
        let file = limit.0.join("pids.max");
        std::fs::write(&file, max.to_string()).map_err(|error| format!("pids.max: {error}"))?;
        Ok(limit)
    }

    /// Moves processes and all their descendants here. What they start later is here too.
    pub(crate) fn take_in(&self, pids: &[i32]) {
        let (all, mut family, mut at) = (processes(), pids.to_vec(), 0);
        while let Some(one) = family.get(at).copied() {
            family.extend(all.iter().filter(|pid| parent(**pid) == Some(one)));
            at += 1;
        }
        for pid in &family {
            // One that has ended meanwhile needs no move.
            let _ = std::fs::write(self.0.join("cgroup.procs"), pid.to_string());
        }
    }
}

impl Drop for PidLimit {
    fn drop(&mut self) {
        // The fleet ends first; its last processes may take a moment.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether processes can be given clocks with an offset.
pub(crate) fn can_offset_clocks() -> Result<(), String> {
    let tried = Command::new("unshare")
        .args(["--time", "--boottime", "864000", "--fork", "true"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(format!("no time namespace: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Err(error) => Err(format!("unshare: {error}")),
    }
}
