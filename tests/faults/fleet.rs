//! A fleet of real processes: etcd members, schedulers and workers, with a proxy on every edge, work
//! in a repository with hooks, clients that ask all the time, and a history of it all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use flyball_core::status::Phase;
use flyball_store::Store;
use flyball_tests::binary::flyball;
use flyball_tests::cluster::Process;
use flyball_tests::history::{Event, Writer};
use flyball_tests::members::Members;
use flyball_tests::poll::until;
use tokio::runtime::Runtime;

use super::client::{Client, Operations};
use super::dice::Dice;
use super::net::Net;
use super::proxy::{Mode, Proxy, Target};
use super::recorder::{self, Record, View};
use super::runner::{Attempt, Owners};
use super::secrets::{self, Secrets};
pub(crate) use super::shape::Shape;
use super::site::Site;

/// Longest wait for a process to be ready, or for a fleet to notice something.
pub(crate) const NOTICE_MAX: Duration = Duration::from_secs(60);
/// Bound on the end of all work after the last fault; a loop takes about 5 s on an idle machine.
pub(crate) const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Everything that runs. Dropping it ends it.
pub(crate) struct Fleet {
    pub(crate) shape: Shape,
    pub(crate) dice: Dice,
    pub(crate) workers: BTreeMap<String, Process>,
    pub(crate) schedulers: BTreeMap<String, Process>,
    /// Addresses of the schedulers themselves, past all proxies.
    pub(crate) addresses: BTreeMap<String, String>,
    pub(crate) net: Net,
    pub(crate) members: Members,
    pub(crate) record: Arc<Record>,
    pub(crate) site: Site,
    /// Keys of the loops, `namespace/name`.
    pub(crate) loops: Vec<String>,
    pub(crate) runtime: Runtime,
    pub(crate) operations: Operations,
    pub(super) readers: Vec<tokio::task::JoinHandle<()>>,
    /// Set when readers are to end.
    pub(super) enough: Arc<AtomicBool>,
    /// Processes that were stopped and not yet continued.
    pub(super) stopped: Vec<i32>,
    /// Where leaders send workers: to nobody, so that every session goes through an edge.
    hint: Proxy,
    /// Where history and logs stay.
    pub(crate) dir: PathBuf,
    /// Node directories, removed at the end.
    data: tempfile::TempDir,
    pub(crate) secrets: Secrets,
    /// Processes that are of this version where there is an earlier one.
    pub(crate) upgraded: BTreeSet<String>,
    /// Faults that have begun and are not over.
    pub(super) faults: Vec<String>,
    pub(super) bites: u32,
    /// The last moment at which something had to be dead, microseconds.
    pub(super) dead_at_us: u64,
}

impl Fleet {
    /// Brings everything up, submits the loops and lets clients ask.
    pub(crate) fn start(attempt: &Attempt, shape: Shape) -> Self {
        Self::start_after(attempt, shape, |_| {})
    }

    /// The same, with something to do before the first process starts.
    pub(crate) fn start_after(
        attempt: &Attempt,
        shape: Shape,
        before: impl FnOnce(&mut Self),
    ) -> Self {
        let mut fleet = Self::prepare(attempt, shape);
        fleet.record.event(Event::Start {
            scenario: attempt.id.to_owned(),
            seed: attempt.seed,
            ttl_ms: fleet.shape.ttl * 1000,
            kill_budget_ms: u64::try_from(fleet.shape.kill_budget().as_millis()).unwrap_or(0),
            settle_ms: u64::try_from(SETTLE_MAX.as_millis()).unwrap_or(0),
            slots: fleet.shape.slots,
        });
        if let Owners::Stay(why) = attempt.owners {
            fleet.record.event(Event::OwnersStay { why: why.to_owned() });
        }
        fleet.plant_secrets();
        before(&mut fleet);
        fleet.start_members();
        for number in 1..=fleet.shape.schedulers {
            fleet.start_scheduler(&format!("s{number}"));
        }
        for number in 1..=fleet.shape.workers {
            fleet.start_worker(&format!("n{number}"));
        }
        let count = fleet.shape.workers;
        fleet.until("every node has a session", NOTICE_MAX, |view| {
            (view.sessions.len() >= count).then_some(())
        });
        if fleet.shape.secret {
            fleet.set_secret_of_checks();
        }
        for number in 1..=fleet.shape.loops {
            fleet.submit(number);
        }
        fleet.ask_all_the_time();
        fleet
    }

    fn prepare(attempt: &Attempt, shape: Shape) -> Self {
        let history = Writer::create(&attempt.dir.join("history.jsonl")).expect("a history");
        let names: Vec<_> =
            (1..=shape.loops + shape.spare).map(|number| format!("l{number}")).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let hint = runtime.block_on(Proxy::start()).expect("a free port");
        hint.set_both(Mode::Close);
        let data = tempfile::Builder::new().prefix("fbn").tempdir().expect("a directory");
        // Not below what the agents share with the harness.
        let own = data.path().join("own");
        std::fs::create_dir(&own).expect("a directory");
        Self {
            members: Members::prepare(shape.members, &shape.etcd),
            dice: Dice::new(attempt.seed),
            workers: BTreeMap::new(),
            schedulers: BTreeMap::new(),
            addresses: BTreeMap::new(),
            net: Net::default(),
            record: Arc::new(Record { history, view: std::sync::Mutex::new(View::default()) }),
            site: Site::new(&names, shape.items, &attempt.dir, shape.served),
            loops: Vec::new(),
            operations: Operations::default(),
            readers: Vec::new(),
            enough: Arc::default(),
            stopped: Vec::new(),
            hint,
            dir: attempt.dir.clone(),
            data,
            secrets: Secrets::new(&own),
            upgraded: BTreeSet::new(),
            faults: Vec::new(),
            bites: 0,
            dead_at_us: 0,
            runtime,
            shape,
        }
    }

    fn start_members(&mut self) {
        self.runtime.block_on(self.members.start());
        let stores = async {
            let mut stores = Vec::new();
            for number in self.members.numbers() {
                let store = Store::from_channel(self.members.channel(number)).await;
                stores.push(store.expect("a store"));
            }
            stores
        };
        let stores = self.runtime.block_on(stores);
        self.runtime.spawn(recorder::watch(stores, self.record.clone()));
    }

    fn spawn(&self, name: &str, wrap: &[String], args: &[String]) -> Process {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path(name));
        let own = self.program(name).display().to_string();
        let first = wrap.first();
        let mut command = Command::new(first.unwrap_or(&own));
        command.args(wrap.iter().skip(1)).args(first.map(|_| &own));
        let child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"))
            .env("FLYBALL_LOG", std::env::var("FLYBALL_LOG").unwrap_or_else(|_| "info".into()))
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            // Runs are confined as anywhere; their agents leave word of what they do here.
            .env("FLYBALL_TEST_SHARE", &self.dir)
            .env(secrets::VARIABLE, self.secrets.environment())
            .envs(self.shape.env.iter().cloned())
            .spawn()
            .expect("the binary can be started");
        Process::from(child)
    }

    /// What a process is started from: the earlier version, if there is one, until it is upgraded.
    fn program(&self, name: &str) -> &Path {
        let earlier = self.shape.earlier.as_deref().filter(|_| !self.upgraded.contains(name));
        earlier.unwrap_or_else(|| flyball())
    }

    /// Starts a scheduler, also again, and waits until it listens.
    pub(crate) fn start_scheduler(&mut self, name: &str) {
        let mut endpoints = Vec::new();
        for number in self.members.numbers() {
            let member = format!("m{number}");
            endpoints.push(self.runtime.block_on(self.net.add(name, &member)));
            let socket = self.members.socket(number);
            self.net.edge(name, &member).lead_to(Target::Unix(socket));
        }
        let mut args = vec![
            "scheduler".to_owned(),
            format!("--id={name}"),
            format!("--etcd={}", endpoints.join(",")),
            "--listen=http://127.0.0.1:0".to_owned(),
            format!("--advertise={}", self.hint.url()),
            format!("--token-file={}", self.secrets.token_file().display()),
            format!("--election-ttl={}", self.shape.ttl),
            format!("--session-ttl={}", self.shape.ttl),
        ];
        if self.shape.secret {
            args.push(format!("--secrets-key={}", self.secrets.sealing_key().display()));
        }
        let before = self.log(name).len();
        let process = self.spawn(name, &[], &args);
        self.schedulers.insert(name.to_owned(), process);
        let address = until(&format!("{name} listens"), NOTICE_MAX, || {
            let log = self.log(name);
            let line = log.get(before..)?.lines().find(|line| line.contains("listening"))?;
            let port = line.split("127.0.0.1:").nth(1)?;
            let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
            Some(format!("127.0.0.1:{digits}"))
        });
        self.addresses.insert(name.to_owned(), format!("http://{address}"));
        self.net.lead_to(name, &self.target(name));
    }

    /// Where a scheduler listens now.
    pub(super) fn target(&self, scheduler: &str) -> Target {
        let address = self.addresses[scheduler].trim_start_matches("http://");
        Target::Tcp(address.parse().expect("an address"))
    }

    /// Starts a worker, also again.
    pub(crate) fn start_worker(&mut self, node: &str) {
        let process = self.start_worker_as(node, node);
        self.workers.insert(node.to_owned(), process);
    }

    /// Starts a worker that says it is `node`, with directory and log of its own.
    pub(crate) fn start_worker_as(&mut self, node: &str, alias: &str) -> Process {
        let mut addresses = Vec::new();
        for number in 1..=self.shape.schedulers {
            let scheduler = format!("s{number}");
            addresses.push(self.runtime.block_on(self.net.add(node, &scheduler)));
            self.net.edge(node, &scheduler).lead_to(self.target(&scheduler));
        }
        let mut args = vec![
            "worker".to_owned(),
            format!("--scheduler={}", addresses.join(",")),
            format!("--token-file={}", self.secrets.token_file().display()),
            format!("--node={node}"),
            format!("--data-dir={}", self.node_dir(alias).display()),
            format!("--slots={}", self.shape.slots),
            format!("--ttl={}", self.shape.ttl),
        ];
        // The agents are this program. Versions that do not confine their runs show them everything.
        let program = std::env::current_exe().expect("a program knows its own file");
        if worker_knows(self.program(alias), "--show") {
            args.push(format!("--show={}", program.display()));
        }
        args.extend(self.shape.worker.iter().cloned());
        self.spawn(alias, &self.shape.wrap, &args)
    }

    /// A node's data directory.
    pub(crate) fn node_dir(&self, node: &str) -> PathBuf {
        self.data.path().join(node)
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// What a process has logged so far.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    /// A client of its own name.
    pub(crate) fn client(&self, name: &str) -> Client {
        Client {
            name: name.to_owned(),
            record: self.record.clone(),
            operations: self.operations.clone(),
            credential: self.secrets.credential(),
        }
    }

    /// Waits until the store, as last seen, shows something.
    #[track_caller]
    pub(crate) fn until<T>(
        &self,
        what: &str,
        bound: Duration,
        look: impl Fn(&View) -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = self.record.see(&look) {
                return found;
            }
            let seen = || self.record.see(|view| format!("{view:#?}"));
            assert!(
                begun.elapsed() < bound,
                "waited {bound:?} in vain until {what}; the store: {}",
                seen()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a loop has so many accepted iterations and runs; gives its node.
    #[track_caller]
    pub(crate) fn half_way(&self, key: &str, accepted: u32) -> String {
        self.until(&format!("{key} is half-way"), NOTICE_MAX, |view| {
            let status = view.statuses.get(key)?;
            assert!(!status.phase.is_terminal(), "{key} was too fast for the fault");
            // Not again before it has got on: a loop that only loses runs is put aside.
            let begun = status.phase == Phase::Running
                && status.progress.accepted >= accepted
                && status.runs_lost == 0;
            let claim = view.claims.get(key)?;
            begun.then(|| claim.node.clone())
        })
    }

    /// Directory of everything that is kept.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.continue_all();
        // Logs of members are in their own directory, which goes with them.
        for number in self.members.numbers() {
            let _ =
                std::fs::copy(self.members.log(number), self.dir.join(format!("m{number}.log")));
        }
    }
}

/// Whether a version's worker has an option.
fn worker_knows(program: &Path, option: &str) -> bool {
    let help = Command::new(program).args(["worker", "--help"]).output();
    let help = help.expect("the binary can be started").stdout;
    String::from_utf8_lossy(&help).contains(option)
}
