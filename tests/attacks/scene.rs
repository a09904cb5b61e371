//! What an attempt meets: a workspace of its run, and around it what it must not reach, each thing watched
//! from outside.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use flyball_sandbox::{Confinement, FAR_AWAY, Guard, GuardConfig, Limits, Overlay, Step, StepEnd};
use flyball_sandbox::{StepHandle, Who, Writable};
use tempfile::TempDir;

use crate::list::PRELUDE;
use crate::tools::{abstract_name, find_process, open_to_all, perl, special};

/// Directories of a scene.
const DIRS: [&str; 15] = [
    "outside",
    "other",
    "shown",
    "agent/home",
    "agent/tmp",
    "agent/report",
    "check/home",
    "check/tmp",
    "check/changes/upper",
    "check/changes/work",
    "cache",
    "changes/upper",
    "changes/work",
    "verify/own",
    "neighbour/tree",
];
/// What may not change, nor its mode.
const WATCHED: [&str; 7] = [
    "work/others/file",
    "work/.git/config",
    "other/file",
    "outside/canary",
    "cache/tool",
    "shown/brief",
    "neighbour/tree/file",
];

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
    address: Ipv4Addr,
    /// A step of another run under the same guard, and its number on the host.
    neighbour: Option<(StepHandle, u32)>,
    runtime: tokio::runtime::Runtime,
    // Last, as fields are dropped in this order: the guard works in it.
    dir: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::at(Ipv4Addr::LOCALHOST)
    }

    /// With listeners on this address of the host.
    pub(crate) fn at(address: Ipv4Addr) -> Self {
        let dir = tempfile::Builder::new().prefix("flyball-attacks-").tempdir_in(PLACE).unwrap();
        open_to_all(dir.path());
        let path = dir.path().to_owned();
        for name in DIRS {
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
        let tcp = TcpListener::bind((address, 0)).unwrap();
        let udp = UdpSocket::bind((address, 0)).unwrap();
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
        let (victim, neighbour) = (victim.unwrap(), None);
        let mut scene = Self {
            dir,
            guard,
            tcp,
            udp,
            hidden,
            socket,
            pipe,
            victim,
            shm,
            address,
            neighbour,
            runtime,
        };
        scene.reset();
        scene.move_in();
        scene
    }

    /// Starts the step of another run, and waits until the host sees it.
    fn move_in(&mut self) {
        let (work, mark) =
            (self.path("neighbour/tree"), format!("neighbour-{}", std::process::id()));
        let plan = Confinement {
            who: Who::Agent,
            write: vec![Writable::all(&work)],
            ..Confinement::default()
        };
        let step = Step {
            argv: ["/usr/bin/perl", "-e", "sleep 600", &mark].map(str::to_owned).into(),
            cwd: work,
            env: vec![("SECRET".to_owned(), SECRET.to_owned())],
            output: self.path("neighbour/out"),
            stdin: None,
            output_bytes_max: 1000,
            timeout: Duration::from_secs(600),
            label: "neighbour".into(),
            confinement: Some(plan),
        };
        let handle = self.guard.spawn(step).unwrap();
        let give_up = std::time::Instant::now() + PATIENCE;
        let pid = loop {
            if let Some(pid) = find_process(&mark) {
                break pid;
            }
            assert!(std::time::Instant::now() < give_up, "the neighbour is not seen");
            std::thread::yield_now();
        };
        self.neighbour = Some((handle, pid));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts everything back as it was.
    pub(crate) fn reset(&self) {
        for name in ["work", "verify", "agent", "check/home", "check/tmp"] {
            let _ = fs::remove_dir_all(self.path(name));
        }
        for dir in ["changes", "check/changes"] {
            // The kernel's own directory in there is closed to its owner too.
            let closed = self.path(dir).join("work/work");
            let _ = fs::set_permissions(closed, fs::Permissions::from_mode(0o700));
            let _ = fs::remove_dir_all(self.path(dir));
        }
        for name in DIRS.iter().chain(&["work/own", "work/others", "work/.git/hooks"]) {
            fs::create_dir_all(self.path(name)).unwrap();
        }
        WATCHED.iter().for_each(|name| self.put(name, 0o644));
        self.put("agent/home/file", 0o644);
        self.put("shown/rootonly", 0o600);
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
        for name in WATCHED {
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
            ("neighbour/tree", 1),
        ] {
            if fs::read_dir(self.path(dir)).map(Iterator::count).ok() != Some(wanted) {
                found.push(format!("{dir} has other entries"));
            }
        }
        if self.victim.try_wait().unwrap().is_some() {
            found.push("the host's process is dead".to_owned());
        }
        let mark = format!("neighbour-{}", std::process::id());
        if self.neighbour.as_ref().is_some_and(|(_, pid)| find_process(&mark) != Some(*pid)) {
            found.push("the other run's process is dead".to_owned());
        }
        for dir in ["work/own", "verify/own", "agent/tmp"] {
            found.extend(
                fs::read_dir(self.path(dir)).into_iter().flatten().flatten().filter_map(special),
            );
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

    /// A step as the worker makes one for a check.
    pub(crate) fn check(&self, script: &str) -> Step {
        let verify = self.path("verify");
        let cache = self.path("cache");
        let changes = self.path("check/changes");
        let overlay = Overlay { from: cache.clone(), at: cache, changes };
        let plan = Confinement {
            who: Who::Check,
            show: vec![self.path("shown")],
            write: ["check/home", "check/tmp", "verify"]
                .map(|name| Writable::all(self.path(name)))
                .into(),
            overlays: vec![overlay],
            limits: Limits { temp_bytes: Some(16 << 20), ..Limits::default() },
            ..Confinement::default()
        };
        let mut step = Step { cwd: verify.clone(), confinement: Some(plan), ..self.step(script) };
        step.env.retain(|(name, _)| name != "HOME" && name != "OWN");
        for (name, path) in [("HOME", self.path("check/home")), ("OWN", verify.join("own"))] {
            step.env.push((name.to_owned(), path.display().to_string()));
        }
        step
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

    /// What scripts have to know.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
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
            ("AGENT", path("agent")),
            ("NEIGHBOURS", path("neighbour/tree")),
            ("NEIGHBOUR", self.neighbour.as_ref().map_or(0, |(_, pid)| *pid).to_string()),
            ("ADDRESS", self.address.to_string()),
            ("SYS_PTRACE", nix::libc::SYS_ptrace.to_string()),
            ("SYS_SETNS", nix::libc::SYS_setns.to_string()),
            ("SYS_MEMFD_CREATE", nix::libc::SYS_memfd_create.to_string()),
            ("SYS_MKNODAT", nix::libc::SYS_mknodat.to_string()),
            ("SYS_OPENAT2", nix::libc::SYS_openat2.to_string()),
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
