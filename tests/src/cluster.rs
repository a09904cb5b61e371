//! A control plane of real processes, driven through the command line as a user would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use flyball_core::status::{LoopStatus, Phase};
use serde_json::Value;

use crate::binary::flyball;
use crate::poll::until;

/// Longest wait for a process to be ready or to end.
const PROCESS_MAX: Duration = Duration::from_secs(30);

/// What to bring up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Worker processes, named `n1`, `n2`, …
    pub workers: usize,
    /// Most runs at a time per worker.
    pub slots: u32,
    /// Lease time to live in seconds.
    pub ttl: u32,
    /// Endpoint of a real etcd; the embedded store without.
    pub etcd: Option<String>,
    /// Scheduler processes; more than one needs etcd.
    pub schedulers: usize,
    /// Further arguments of every scheduler.
    pub scheduler_args: Vec<String>,
    /// Further arguments of every worker.
    pub worker_args: Vec<String>,
    /// Address by which a node reaches the schedulers, where it is not theirs.
    pub links: BTreeMap<String, String>,
    /// Further environment of every process, the command line included.
    pub env: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 1,
            slots: 4,
            ttl: 2,
            etcd: None,
            schedulers: 1,
            scheduler_args: Vec::new(),
            worker_args: Vec::new(),
            links: BTreeMap::new(),
            env: Vec::new(),
        }
    }
}

/// A running process, killed when dropped.
pub struct Process {
    child: Child,
}

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self { child }
    }
}

impl Process {
    /// Its id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids fit")
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        // One that has ended by itself is as dead.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it has ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal)
            .expect("the process is there");
    }

    /// SIGTERM, and waits until it has ended by itself.
    pub fn stop(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        until("the process has ended", PROCESS_MAX, || self.child.try_wait().ok().flatten());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The control plane.
pub struct Cluster {
    options: Options,
    dir: tempfile::TempDir,
    /// Scheduler processes by number, from 1.
    pub schedulers: BTreeMap<usize, Process>,
    /// Worker processes by node name.
    pub workers: BTreeMap<String, Process>,
}

impl Cluster {
    /// Brings everything up and waits until every worker is registered.
    pub fn start(options: Options) -> Self {
        let dir = tempfile::Builder::new().prefix("fb").tempdir().expect("a temporary directory");
        let mut cluster = Self {
            options: options.clone(),
            dir,
            schedulers: BTreeMap::new(),
            workers: BTreeMap::new(),
        };
        (1..=options.schedulers).for_each(|number| cluster.start_scheduler(number));
        (1..=options.workers).for_each(|number| cluster.start_worker(&format!("n{number}")));
        cluster.wait_for_nodes(options.workers);
        cluster
    }

    /// The directory with everything in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Address of a scheduler.
    pub fn address(&self, number: usize) -> String {
        format!("unix://{}/s{number}/s.sock", self.dir().display())
    }

    fn spawn(&self, name: &str, args: &[String]) -> Process {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir().join(format!("{name}.log")))
            .expect("a log file");
        let child = Command::new(flyball())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .env("FLYBALL_LOG", std::env::var("FLYBALL_LOG").unwrap_or_else(|_| "info".into()))
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            // Runs are confined as anywhere; their agents leave word of what they do here.
            .env("FLYBALL_TEST_SHARE", self.dir())
            .envs(self.options.env.iter().cloned())
            .spawn()
            .expect("the binary can be started");
        Process { child }
    }

    /// Starts a scheduler, also again after it was killed.
    pub fn start_scheduler(&mut self, number: usize) {
        let dir = self.dir().join(format!("s{number}"));
        std::fs::create_dir_all(&dir).expect("a directory");
        let mut args = vec![
            "scheduler".to_owned(),
            format!("--listen={}", self.address(number)),
            "--election-ttl=2".to_owned(),
            format!("--session-ttl={}", self.options.ttl),
        ];
        match &self.options.etcd {
            Some(url) => args.push(format!("--etcd={url}")),
            None => args.push(format!("--data-dir={}", dir.display())),
        }
        args.extend(self.options.scheduler_args.iter().cloned());
        let process = self.spawn(&format!("s{number}"), &args);
        self.schedulers.insert(number, process);
    }

    /// Starts a worker, also again after it was killed.
    pub fn start_worker(&mut self, node: &str) {
        let addresses = match self.options.links.get(node) {
            Some(link) => vec![link.clone()],
            None => (1..=self.options.schedulers).map(|number| self.address(number)).collect(),
        };
        let mut args = vec![
            "worker".to_owned(),
            format!("--scheduler={}", addresses.join(",")),
            format!("--node={node}"),
            format!("--data-dir={}", self.node_dir(node).display()),
            format!("--slots={}", self.options.slots),
            format!("--ttl={}", self.options.ttl),
        ];
        args.extend(self.options.worker_args.iter().cloned());
        let process = self.spawn(node, &args);
        self.workers.insert(node.to_owned(), process);
    }

    /// Starts another worker under the name of a node, with the data directory of `dir`. Its log is
    /// that of `alias`.
    pub fn start_namesake(&self, node: &str, alias: &str, dir: &str) -> Process {
        let address = self.address(1);
        let dir = self.node_dir(dir);
        self.spawn(
            alias,
            &[
                "worker".to_owned(),
                format!("--scheduler={address}"),
                format!("--node={node}"),
                format!("--data-dir={}", dir.display()),
                format!("--ttl={}", self.options.ttl),
            ],
        )
    }

    /// A node's data directory.
    pub fn node_dir(&self, node: &str) -> PathBuf {
        self.dir().join(node)
    }

    /// A process's log.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Every log, for a failed assertion.
    pub fn logs(&self) -> String {
        let names = self.schedulers.keys().map(|n| format!("s{n}"));
        let names = names.chain(self.workers.keys().cloned());
        names.map(|name| format!("--- {name}\n{}", self.log(&name))).collect()
    }

    /// Waits until so many nodes are online.
    pub fn wait_for_nodes(&self, count: usize) {
        self.until(&format!("{count} nodes are online"), PROCESS_MAX, |cluster| {
            let nodes = cluster.try_json(&["get", "nodes", "-o", "json"])?;
            let online = items(&nodes).filter(|node| node["status"]["online"] == true).count();
            (online >= count).then_some(())
        });
    }

    /// Polls with every log in the failure's text.
    #[track_caller]
    pub fn until<T>(&self, what: &str, bound: Duration, look: impl Fn(&Self) -> Option<T>) -> T {
        let begun = std::time::Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(
                begun.elapsed() < bound,
                "waited {bound:?} in vain until {what}\n{}\n{}",
                String::from_utf8_lossy(&self.cli(&["get", "loops", "-o", "wide"]).stdout),
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Runs the command line against the first scheduler that is up.
    pub fn cli(&self, args: &[&str]) -> Output {
        self.cli_with_input(args, "")
    }

    /// The same with text on standard input.
    pub fn cli_with_input(&self, args: &[&str], input: &str) -> Output {
        self.client().run(args, input)
    }

    /// A user of the first scheduler that is up, for other threads.
    pub fn client(&self) -> User {
        let number = self.schedulers.keys().next().copied().unwrap_or(1);
        User { address: self.address(number), env: self.options.env.clone() }
    }

    fn try_json(&self, args: &[&str]) -> Option<Value> {
        let output = self.cli(args);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).ok()).flatten()
    }

    /// JSON output of a command.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.cli(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("valid JSON")
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        let output = self.cli_with_input(&["apply", "-f", "-"], manifest);
        assert!(
            output.status.success(),
            "apply: {}\n{manifest}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// A loop's status, if it is there.
    pub fn status(&self, name: &str) -> Option<LoopStatus> {
        let object = self.try_json(&["get", "loop", name, "-o", "json"])?;
        serde_json::from_value(object["status"].clone()).ok()
    }

    /// Waits until a loop's status satisfies `wanted`.
    #[track_caller]
    pub fn wait(
        &self,
        name: &str,
        what: &str,
        bound: Duration,
        wanted: impl Fn(&LoopStatus) -> bool,
    ) -> LoopStatus {
        let what = format!("{name} is {what}");
        self.until(&what, bound, |cluster| cluster.status(name).filter(&wanted))
    }

    /// Waits until a loop has ended, and checks how.
    #[track_caller]
    pub fn wait_for_end(&self, name: &str, phase: Phase) -> LoopStatus {
        let ended = |status: &LoopStatus| status.phase.is_terminal();
        let status = self.wait(name, "over", Duration::from_secs(60), ended);
        assert_eq!(status.phase, phase, "{name}: {status:#?}\n{}", self.logs());
        status
    }
}

/// Somebody at the command line.
#[derive(Debug, Clone)]
pub struct User {
    address: String,
    env: Vec<(String, String)>,
}

impl User {
    /// Runs the command line with text on standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, args: &[&str], input: &str) -> Output {
        use std::io::Write;
        let mut child = Command::new(flyball())
            .args(args)
            .env("FLYBALL_ADDR", &self.address)
            .env("NO_COLOR", "1")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .envs(self.env.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A command that does not read its input may have closed it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("the command ends")
    }
}

/// The objects of a list, or the object itself.
pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    let many = list["items"].as_array().or_else(|| list.as_array());
    let one = many.is_none().then_some(list);
    many.into_iter().flatten().chain(one)
}
