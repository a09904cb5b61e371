//! A git server in front of a repository, killed and started again as a case asks for.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::hands::{parent, processes};

/// `git daemon` on a port of its own.
pub(crate) struct Served {
    bare: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Served {
    /// Serves one bare repository.
    pub(crate) fn start(bare: &Path) -> Self {
        // The port must stay the same after a restart, so it is chosen here.
        let free = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let mut served = Self { bare: bare.to_owned(), port, child: None };
        served.restart();
        served
    }

    /// How loops name the repository.
    pub(crate) fn url(&self) -> String {
        let name = self.bare.file_name().expect("a name").to_string_lossy();
        format!("git://127.0.0.1:{}/{name}", self.port)
    }

    /// SIGKILL to the server and everything it has begun; gives how many connections that cut.
    pub(crate) fn kill(&mut self) -> usize {
        let Some(mut child) = self.child.take() else { return 0 };
        let root = i32::try_from(child.id()).expect("process ids fit");
        let (all, mut family, mut at) = (processes(), vec![root], 0);
        while let Some(one) = family.get(at).copied() {
            family.extend(all.iter().filter(|pid| parent(**pid) == Some(one)));
            at += 1;
        }
        for pid in &family {
            // One that has ended by itself needs no signal.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        let _ = child.wait();
        family.len() - 1
    }

    /// Waits for a connection for at most so long, lets it work for `depth`, then kills; gives how many
    /// connections that cut.
    pub(crate) fn kill_at_work(&mut self, patience: Duration, depth: Duration) -> usize {
        let begun = Instant::now();
        let root = self.child.as_ref().map_or(0, |child| i32::try_from(child.id()).unwrap_or(0));
        while begun.elapsed() < patience
            && !processes().into_iter().any(|pid| parent(pid) == Some(root))
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(depth);
        self.kill()
    }

    /// Starts the server again. What operators do first is done: git never removes the locks of
    /// processes that were killed, and refuses the refs as long as they are there.
    pub(crate) fn restart(&mut self) {
        remove_locks(&self.bare.join("refs"));
        let base = self.bare.parent().expect("a directory");
        let child = Command::new("git")
            .args(["daemon", "--reuseaddr", "--export-all", "--enable=receive-pack"])
            .args(["--listen=127.0.0.1", &format!("--port={}", self.port)])
            .arg(format!("--base-path={}", base.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("git daemon can be started"));
    }
}

fn remove_locks(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            remove_locks(&path);
        } else if path.extension().is_some_and(|ending| ending == "lock") {
            // It may be of a process that has just ended by itself.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
    }
}
