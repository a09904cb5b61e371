//! A control plane over TLS with certificates on both sides: an authority made by the command line, a
//! scheduler on the loopback, on a real etcd that wants certificates too, and workers that have joined.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use flyball_core::status::{LoopStatus, Phase};
use flyball_tests::binary::flyball;
use flyball_tests::cluster::{Process, items};
use flyball_tests::etcd::{self, Etcd};
use flyball_tests::poll::until;
use serde_json::Value;

/// Longest wait for anything here.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// The control plane; everything ends when it is dropped.
pub(crate) struct Fleet {
    // Before the directory, which they use.
    pub(crate) workers: BTreeMap<String, Process>,
    pub(crate) scheduler: Option<Process>,
    pub(crate) etcd: Option<Etcd>,
    _runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
    /// The scheduler's `https://` address.
    pub(crate) address: String,
    /// Arguments of a scheduler that say where its store is.
    store: Vec<String>,
}

impl Fleet {
    /// Starts a scheduler that signs, on a real etcd unless it is to be the embedded store.
    pub(crate) fn start(on_etcd: bool, node_life: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("fbp").tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut fleet = Self {
            workers: BTreeMap::new(),
            scheduler: None,
            etcd: None,
            _runtime: runtime,
            dir,
            address: String::new(),
            store: Vec::new(),
        };
        let pki = format!("--dir={}", fleet.path("pki").display());
        fleet.good(None, &["pki", "init", &pki]);
        fleet.issue("--scheduler=s1", Some("127.0.0.1"), "s1");
        fleet.issue("--user=ada", None, "ada");
        let mut store = vec![format!("--data-dir={}", fleet.path("store").display())];
        if on_etcd {
            fleet.issue("--etcd=e1", Some("127.0.0.1"), "e1");
            fleet.issue("--etcd-client=scheduler", None, "etcd-client");
            let (etcd, url) = fleet._runtime.block_on(etcd::secured(&fleet.path("e1")));
            fleet.etcd = Some(etcd);
            let identity = fleet.path("etcd-client");
            store =
                vec![format!("--etcd={url}"), format!("--etcd-identity={}", identity.display())];
        }
        fleet.store = store;
        let args = [
            format!("--listen={}", fleet.owner()),
            format!("--sign-with={}", fleet.path("pki").display()),
            format!("--node-certificate-life={node_life}"),
        ];
        let (scheduler, address) = fleet.start_scheduler("s1", &args);
        (fleet.scheduler, fleet.address) = (Some(scheduler), address);
        fleet
    }

    /// Starts a scheduler with the identity of this name on the fleet's store; where it listens too.
    pub(crate) fn start_scheduler(&self, name: &str, more: &[String]) -> (Process, String) {
        let mut args = vec![
            "scheduler".to_owned(),
            "--listen=https://127.0.0.1:0".to_owned(),
            format!("--identity={}", self.path(name).display()),
            "--election-ttl=2".to_owned(),
            "--session-ttl=2".to_owned(),
        ];
        args.extend(more.iter().chain(&self.store).cloned());
        let process = format!("{name}-process");
        let scheduler = self.spawn(&process, &args);
        let address = until("the scheduler listens", BOUND, || {
            let log = self.log(&process);
            let (_, rest) = log.split_once("https://127.0.0.1:")?;
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            log.contains("listening").then(|| format!("https://127.0.0.1:{port}"))
        });
        (scheduler, address)
    }

    /// Where etcd is asked over TLS.
    pub(crate) fn etcd_url(&self) -> &str {
        self.store[0].strip_prefix("--etcd=").expect("a fleet on etcd")
    }

    /// A name in the directory of everything.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The owner's socket.
    pub(crate) fn owner(&self) -> String {
        format!("unix://{}", self.path("owner.sock").display())
    }

    pub(crate) fn issue(&self, whose: &str, host: Option<&str>, out: &str) {
        self.issue_for(whose, host, out, None);
    }

    /// The same, for as long as is said.
    pub(crate) fn issue_for(&self, whose: &str, host: Option<&str>, out: &str, life: Option<&str>) {
        let (pki, out) = (self.path("pki"), self.path(out));
        let (pki, out) = (format!("--dir={}", pki.display()), format!("--out={}", out.display()));
        let mut args = vec!["pki", "issue", whose, &pki, &out, "--force"];
        let host = host.map(|host| format!("--host={host}"));
        let life = life.map(|life| format!("--lifetime={life}"));
        args.extend(host.as_deref().into_iter().chain(life.as_deref()));
        self.good(None, &args);
    }

    fn spawn(&self, name: &str, args: &[String]) -> Process {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(&format!("{name}.log")))
            .unwrap();
        let child = Command::new(flyball())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .env("FLYBALL_LOG", "info")
            .env("FLYBALL_TEST_SHARE", self.dir.path())
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .spawn()
            .unwrap();
        child.into()
    }

    /// A process's log.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// Runs the command line as the owner, or over TLS with an identity of this directory.
    pub(crate) fn run(&self, identity: Option<&Path>, args: &[&str], input: &str) -> Output {
        use std::io::Write;
        let mut command = Command::new(flyball());
        command.args(args).env("NO_COLOR", "1").env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        match identity {
            Some(dir) => {
                command.env("FLYBALL_ADDR", &self.address).env("FLYBALL_IDENTITY", dir);
            }
            None => {
                command.env("FLYBALL_ADDR", self.owner());
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // One that does not read its input may have closed it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// The same; what it prints, and it has to succeed.
    #[track_caller]
    pub(crate) fn good(&self, identity: Option<&Path>, args: &[&str]) -> String {
        let out = self.run(identity, args, "");
        let (text, error) = said(&out);
        assert!(out.status.success(), "{args:?}: {text}{error}\n{}", self.log("s1-process"));
        text
    }

    /// The same; what it complains of, and it has to fail.
    #[track_caller]
    pub(crate) fn bad(&self, identity: Option<&Path>, args: &[&str]) -> String {
        let out = self.run(identity, args, "");
        let (text, error) = said(&out);
        assert!(!out.status.success(), "{args:?} succeeded: {text}");
        error
    }

    /// Makes a join token as the owner.
    pub(crate) fn token(&self, args: &[&str]) -> String {
        let all = [&["node", "token", "create"], args].concat();
        self.good(None, &all).trim().to_owned()
    }

    /// Arguments that join into a directory.
    pub(crate) fn joining(&self, token: &str, dir: &str, more: &[&str]) -> Vec<String> {
        let mut args: Vec<String> = ["node", "join"].map(str::to_owned).to_vec();
        args.push(format!("--scheduler={}", self.address));
        args.push(format!("--token={token}"));
        args.push(format!("--dir={}", self.path(dir).display()));
        args.extend(more.iter().map(|&one| one.to_owned()));
        args
    }

    /// Joins, and starts the worker.
    pub(crate) fn add_worker(&mut self, node: &str) {
        let token = self.token(&["--node", node]);
        let args = self.joining(&token, &format!("{node}-identity"), &["--force"]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.good(None, &args);
        self.start_worker(node);
    }

    pub(crate) fn start_worker(&mut self, node: &str) {
        let args = [
            "worker".to_owned(),
            format!("--scheduler={}", self.address),
            format!("--identity={}", self.path(&format!("{node}-identity")).display()),
            format!("--data-dir={}", self.path(node).display()),
            "--ttl=2".to_owned(),
        ];
        let process = self.spawn(node, &args);
        self.workers.insert(node.to_owned(), process);
        self.wait_online(node, true);
    }

    pub(crate) fn wait_online(&self, node: &str, online: bool) {
        let what = format!("{node} is online: {online}\n{}", self.log(node));
        until(&what, BOUND, || {
            let nodes = self.run(None, &["get", "nodes", "-o", "json"], "");
            let nodes: Value = serde_json::from_slice(&nodes.stdout).ok()?;
            let is =
                |one: &Value| one["metadata"]["name"] == node && one["status"]["online"] == true;
            (items(&nodes).any(is) == online).then_some(())
        });
    }

    pub(crate) fn apply(&self, identity: Option<&Path>, manifest: &str) {
        let out = self.run(identity, &["apply", "-f", "-"], manifest);
        assert!(out.status.success(), "{}", said(&out).1);
    }

    /// Waits until a loop's status is as wanted.
    #[track_caller]
    pub(crate) fn wait(&self, name: &str, wanted: impl Fn(&LoopStatus) -> bool) -> LoopStatus {
        until(&format!("loop {name} is as wanted"), BOUND, || {
            let out = self.run(None, &["get", "loop", name, "-o", "json"], "");
            let object: Value = serde_json::from_slice(&out.stdout).ok()?;
            let status: LoopStatus = serde_json::from_value(object["status"].clone()).ok()?;
            wanted(&status).then_some(status)
        })
    }

    #[track_caller]
    pub(crate) fn converged(&self, name: &str) -> LoopStatus {
        let status = self.wait(name, |status| status.phase.is_terminal());
        assert_eq!(status.phase, Phase::Converged, "{status:#?}");
        status
    }
}

/// What was printed, and what was complained of.
pub(crate) fn said(out: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&out.stdout), text(&out.stderr))
}
