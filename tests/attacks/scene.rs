//! What an attempt meets: a workspace of its run, and around it what it must not reach, each thing watched
//! from outside.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flyball_sandbox::{Confinement, FAR_AWAY, Guard, GuardConfig, Limits, Overlay, Step, StepEnd};
use flyball_sandbox::{Who, Writable};
use tempfile::TempDir;

use crate::list::PRELUDE;

/// The longest that anything here is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Longest run of one attempt that means to end by itself.
const ATTEMPT_MAX: Duration = Duration::from_secs(20);
/// What must not be read.
pub(crate) const SECRET: &str = "canary-7f3a91";
/// Not below /tmp, where Landlock's rules give a step everything and mounts have to bound it.
const PLACE: &str = "/var/tmp";

pub(crate) struct Scene {
    pub(crate) guard: Guard,
    tcp: TcpListener,
    udp: UdpSocket,
    hidden: UnixListener,
    socket: UnixListener,
    pipe: fs::File,
    victim: Child,
    shm: String,
    runtime: tokio::runtime::Runtime,
    // Last, as fields are dropped in this order: the guard works in it.
    dir: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("flyball-attacks-").tempdir_in(PLACE).unwrap();
        open_to_all(dir.path());
        let path = dir.path().to_owned();
        for name in ["outside", "other", "shown", "agent/home", "agent/tmp", "agent/report"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        for name in ["check/home", "check/tmp", "cache", "changes/upper", "changes/work"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        let pipe = path.join("shown/pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::set_permissions(&pipe, fs::Permissions::from_mode(0o666)).unwrap();
        let pipe =
            fs::File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(pipe).unwrap();
        let name = SocketAddr::from_abstract_name(abstract_name()).unwrap();
        let hidden = UnixListener::bind_addr(&name).unwrap();
        let socket = UnixListener::bind(path.join("outside/socket")).unwrap();
        fs::set_permissions(path.join("outside/socket"), fs::Permissions::from_mode(0o777))
            .unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for result in [hidden.set_nonblocking(true), socket.set_nonblocking(true)] {
            result.unwrap();
        }
        tcp.set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        let victim = Command::new("/usr/bin/perl").args(["-e", "sleep 600", SECRET]).spawn();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let command = vec![std::env::current_exe().unwrap().display().to_string(), "guard".into()];
        let mut config = GuardConfig::new(command, path.join("state"));
        config.lock_timeout = PATIENCE;
        let guard = runtime.block_on(Guard::start(config)).unwrap();
        assert!(guard.extender().extend(FAR_AWAY));
        let script = "my $i=shmget(0,4096,0666|01000); shmwrite($i,$ARGV[0],0,20); print $i";
        let shm = perl(script, SECRET);
        let victim = victim.unwrap();
        let scene = Self { dir, guard, tcp, udp, hidden, socket, pipe, victim, shm, runtime };
        scene.reset();
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts everything back as it was.
    pub(crate) fn reset(&self) {
        let work = self.path("work");
        let _ = fs::remove_dir_all(&work);
        for name in ["own", "others", ".git/hooks"] {
            fs::create_dir_all(work.join(name)).unwrap();
        }
        for name in ["work/others/file", "work/.git/config", "other/file", "outside/canary"] {
            self.put(name, 0o644);
        }
        for (name, mode) in
            [("cache/tool", 0o644), ("shown/brief", 0o644), ("shown/rootonly", 0o600)]
        {
            self.put(name, mode);
        }
        let _ = fs::remove_file(self.path("check/home/.gitconfig"));
        // The kernel's own directory in there is closed to its owner too.
        let closed = self.path("changes/work/work");
        let _ = fs::set_permissions(closed, fs::Permissions::from_mode(0o700));
        for dir in ["changes/upper", "changes/work"] {
            let _ = fs::remove_dir_all(self.path(dir));
            fs::create_dir_all(self.path(dir)).unwrap();
        }
        self.reached();
    }

    fn put(&self, name: &str, mode: u32) {
        let path = self.path(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, SECRET).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What has changed that must not, and who has come that must not.
    pub(crate) fn effects(&mut self) -> Vec<String> {
        let mut found = self.reached();
        let us = nix::unistd::geteuid().as_raw();
        for name in [
            "work/others/file",
            "work/.git/config",
            "other/file",
            "outside/canary",
            "cache/tool",
            "shown/brief",
        ] {
            let path = self.path(name);
            let same = fs::read(&path).is_ok_and(|bytes| bytes == SECRET.as_bytes());
            let mode =
                path.metadata().is_ok_and(|of| of.mode() & 0o7777 == 0o644 && of.uid() == us);
            if !same || !mode {
                found.push(format!("{name} has changed"));
            }
        }
        for (dir, wanted) in [
            ("work", 3),
            ("work/others", 1),
            ("work/.git", 2),
            ("work/.git/hooks", 0),
            ("check/home", 0),
            ("outside", 2),
        ] {
            if fs::read_dir(self.path(dir)).map(Iterator::count).ok() != Some(wanted) {
                found.push(format!("{dir} has other entries"));
            }
        }
        if self.victim.try_wait().unwrap().is_some() {
            found.push("the host's process is dead".to_owned());
        }
        found
    }

    fn reached(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut buffer = [0; 512];
        while self.tcp.accept().is_ok() {
            found.push("the TCP listener was reached".to_owned());
        }
        while self.udp.recv(&mut buffer).is_ok() {
            found.push("the UDP listener was reached".to_owned());
        }
        while self.hidden.accept().is_ok() {
            found.push("the abstract socket was reached".to_owned());
        }
        while self.socket.accept().is_ok() {
            found.push("the Unix socket was reached".to_owned());
        }
        while (&self.pipe).read(&mut buffer).is_ok_and(|length| length > 0) {
            found.push("the pipe was written to".to_owned());
        }
        found
    }

    /// A step as the worker makes one for an agent.
    pub(crate) fn step(&self, script: &str) -> Step {
        let work = self.path("work");
        let whole = ["agent/home", "agent/tmp", "agent/report"];
        let mut write: Vec<Writable> =
            whole.iter().map(|name| Writable::all(self.path(name))).collect();
        write.push(Writable { path: work.clone(), only: Some(vec![work.join("own")]) });
        let cache = self.path("cache");
        let overlay = Overlay { from: cache.clone(), at: cache, changes: self.path("changes") };
        let plan = Confinement {
            who: Who::Agent,
            show: vec![self.path("shown")],
            write,
            protect: vec![work.join(".git")],
            overlays: vec![overlay],
            limits: Limits { temp_bytes: Some(16 << 20), ..Limits::default() },
            ..Confinement::default()
        };
        let script = format!("{PRELUDE}{script}\nprint \"done\\n\";");
        Step {
            argv: ["/usr/bin/perl", "-e", &script].map(str::to_owned).into(),
            cwd: work,
            env: self.environment(),
            output: self.path("out"),
            stdin: None,
            output_bytes_max: 100_000,
            timeout: ATTEMPT_MAX,
            label: "attack".into(),
            confinement: Some(plan),
        }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.path(name).display().to_string();
        let host = nix::unistd::gethostname().unwrap_or_default();
        [
            ("PATH", "/usr/bin:/bin".to_owned()),
            ("HOME", path("agent/home")),
            ("WORK", path("work")),
            ("OWN", path("work/own")),
            ("OUTSIDE", path("outside")),
            ("OTHER", path("other")),
            ("SHOWN", path("shown")),
            ("STATE", path("state")),
            ("CHECK", path("check")),
            ("CACHE", path("cache")),
            ("USER_ID", nix::unistd::geteuid().to_string()),
            ("WORKER", std::process::id().to_string()),
            ("VICTIM", self.victim.id().to_string()),
            ("TCP", self.tcp.local_addr().unwrap().port().to_string()),
            ("UDP", self.udp.local_addr().unwrap().port().to_string()),
            ("ABSTRACT", abstract_name()),
            ("SHM", self.shm.clone()),
            ("HOST", host.to_string_lossy().into_owned()),
            ("SYS_CLONE", nix::libc::SYS_clone.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Runs it to its end: how, and what it said.
    pub(crate) fn run(&self, step: Step) -> (StepEnd, String) {
        let mut handle = self.guard.spawn(step).unwrap();
        let bounded = async { tokio::time::timeout(PATIENCE, handle.wait()).await };
        let end = self.runtime.block_on(bounded).expect("patience ended");
        let said = fs::read(self.path("out")).unwrap_or_default();
        (end, String::from_utf8_lossy(&said).into_owned())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        self.runtime.block_on(self.guard.shut_down());
        self.reset();
        perl("shmctl($ARGV[0],0,0)", &self.shm);
    }
}

fn abstract_name() -> String {
    format!("flyball-attacks-{}", std::process::id())
}

pub(crate) fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn perl(script: &str, argument: &str) -> String {
    let mut command = Command::new("/usr/bin/perl");
    let done = command.args(["-e", script, argument]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}
