//! Secrets of a fleet, and the search for them wherever they must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use etcd_client::GetOptions;
use flyball_proto::transport::Credential;
use flyball_tests::collector::Collector;
use flyball_tests::history::Event;
use flyball_tests::poll::until;
use flyball_tests::secret::{Secret, Seeker};

use super::fleet::{Fleet, NOTICE_MAX};
use super::leak::{CUT, SEEN, SEEN_PARTS};

/// Variable of every process of a fleet, as operators' credentials are.
pub(super) const VARIABLE: &str = "OPERATOR_SECRET";
/// What the checks' secret is called, as a secret and as a variable.
const OF_CHECKS: &str = "for-checks";
pub(super) const CHECKS_VARIABLE: &str = "CHECK_SECRET";
/// The only check.
const CHECK: &str = "check/list";
/// Where all of our keys are.
const PREFIX: &str = "/flyball/";
/// Keys that are asked for at a time: their values have to fit into one message.
const KEYS_AT_ONCE: i64 = 200;

/// Values that nobody else has, new for every run.
pub(crate) struct Secrets {
    /// What schedulers, workers and clients show each other.
    token: Secret,
    /// In the environment of all processes, for whatever an operator's tools need.
    environment: Secret,
    /// What checks are given, and agents are not, where a fleet has it.
    of_checks: Secret,
    /// Where files with them are: nothing of it is shown to any run.
    dir: PathBuf,
    /// Where spans go, if they go anywhere.
    pub(crate) collector: Option<Collector>,
}

impl Secrets {
    /// Makes them, with a file for each that is read from one.
    pub(super) fn new(dir: &Path) -> Self {
        let secrets = Self {
            token: Secret::random("token"),
            environment: Secret::random("environment"),
            of_checks: Secret::random(OF_CHECKS),
            dir: dir.to_owned(),
            collector: None,
        };
        for secret in [&secrets.token, &secrets.of_checks] {
            let mut options = fs::File::options();
            let file = options.create_new(true).write(true).mode(0o600).open(secrets.file(secret));
            let written = file.and_then(|mut file| file.write_all(secret.value().as_bytes()));
            written.expect("a file for a secret");
        }
        secrets
    }

    /// The token, for whoever may have it.
    pub(crate) fn token(&self) -> &str {
        self.token.value()
    }

    /// The same as clients show it.
    pub(crate) fn credential(&self) -> Credential {
        Credential::bearer(self.token()).expect("a plain token")
    }

    /// The value of [`VARIABLE`].
    pub(super) fn environment(&self) -> &str {
        self.environment.value()
    }

    /// The file that schedulers and workers read the token from.
    pub(super) fn token_file(&self) -> PathBuf {
        self.file(&self.token)
    }

    /// The key that loops' secrets are sealed with.
    pub(super) fn sealing_key(&self) -> PathBuf {
        self.dir.join("secrets.key")
    }

    fn file(&self, secret: &Secret) -> PathBuf {
        self.dir.join(secret.id())
    }
}

/// A search under way.
struct Search<'a> {
    secrets: Vec<&'a Secret>,
    seeker: Seeker,
    /// Bytes that were searched, by surface.
    sought: BTreeMap<String, u64>,
    /// Which secret was seen, on which surface and where.
    seen: BTreeSet<(String, String, String)>,
}

impl Search<'_> {
    fn look(&mut self, surface: &str, place: &str, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        *self.sought.entry(surface.to_owned()).or_default() += length;
        for number in self.seeker.seek(bytes) {
            let secret = self.secrets[number].id().to_owned();
            self.seen.insert((secret, surface.to_owned(), place.to_owned()));
        }
    }

    fn look_into_file(&mut self, surface: &str, file: &Path) {
        let bytes = match fs::read(file) {
            // What went meanwhile is nowhere any more.
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            read => read.unwrap_or_else(|error| panic!("{}: {error}", file.display())),
        };
        self.look(surface, &file.display().to_string(), &bytes);
    }

    /// A surface that has to hold something: one that is empty, or is never met, fails the history.
    fn expect(&mut self, surface: &str) {
        self.sought.entry(surface.to_owned()).or_default();
    }

    /// Every file below a directory.
    fn look_into(&mut self, surface: &str, dir: &Path) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.look_into(surface, &entry.path()),
                Ok(kind) if kind.is_file() => self.look_into_file(surface, &entry.path()),
                _ => {}
            }
        }
    }
}

impl Fleet {
    /// The secrets that are somewhere in this fleet, and where.
    fn planted(&self) -> Vec<(&Secret, &'static str)> {
        let own = &self.secrets;
        let mut planted = vec![
            (&own.token, "the token file, schedulers, workers and clients"),
            (&own.environment, "the environment of schedulers and workers"),
        ];
        if self.shape.secret {
            planted.push((&own.of_checks, "sealed in the store; the checks' environment"));
        }
        planted
    }

    /// Says what is planted.
    pub(super) fn plant_secrets(&self) {
        for (secret, place) in self.planted() {
            let (secret, place) = (secret.id().to_owned(), place.to_owned());
            self.record.event(Event::SecretPlanted { secret, place });
        }
    }

    /// Gives the store what loops' checks are to have.
    pub(super) fn set_secret_of_checks(&self) {
        let file = self.secrets.file(&self.secrets.of_checks).display().to_string();
        let said = self.cli(&["secret", "set", OF_CHECKS, "--from-file", &file]);
        assert!(said.contains("created"), "{said}");
    }

    /// The part of a manifest that names it.
    pub(super) fn secrets_of_loop(&self) -> serde_json::Value {
        serde_json::json!([{"name": OF_CHECKS, "to": [CHECK], "env": CHECKS_VARIABLE}])
    }

    /// Files of workers that no run may see.
    pub(crate) fn secret_files(&self) -> Vec<PathBuf> {
        let own = &self.secrets;
        let nodes = self.workers.keys().map(|node| self.node_dir(node).join("incarnation"));
        let planted = [own.token_file(), own.file(&own.of_checks), own.sealing_key()];
        let hosts = ["/etc/shadow", "/proc/1/environ"].map(PathBuf::from);
        nodes.chain(planted).chain(hosts).collect()
    }

    /// Searches everything for all secrets, and writes down what was searched and what was found: logs, store and
    /// repository of every fleet; the rest where runs look for secrets.
    pub(super) fn seek_secrets(&self) {
        let secrets: Vec<&Secret> = self.planted().into_iter().map(|(secret, _)| secret).collect();
        let seeker = Seeker::new(secrets.iter().map(|secret| secret.value()));
        let (sought, seen) = (BTreeMap::new(), BTreeSet::new());
        let mut search = Search { secrets, seeker, sought, seen };
        ["logs", "store", "repository"].into_iter().for_each(|surface| search.expect(surface));
        self.search_logs(&mut search);
        self.runtime.block_on(self.search_store(&mut search));
        search.look("repository", "objects and names of refs", self.site.contents().as_bytes());
        if self.shape.secret {
            self.search_sandboxes(&mut search);
            self.search_nodes(&mut search);
            // All that was ever written to a member, also what is deleted.
            search.look_into("store", &self.members.dir(1));
        }
        if let Some(collector) = &self.secrets.collector {
            until("runs have ended in spans", NOTICE_MAX, || {
                collector.spans().iter().any(|span| span.name == "run").then_some(())
            });
            search.look("spans", "what was exported", collector.text().as_bytes());
        }
        for secret in &search.secrets {
            for (surface, bytes) in &search.sought {
                let (secret, surface) = (secret.id().to_owned(), surface.clone());
                self.record.event(Event::SecretSought { secret, surface, bytes: *bytes });
            }
        }
        for (secret, surface, place) in search.seen {
            self.record.event(Event::SecretSeen { secret, surface, place });
        }
    }

    /// What every process of the fleet, members of etcd and the agents have logged.
    fn search_logs(&self, search: &mut Search<'_>) {
        for entry in fs::read_dir(self.dir()).expect("the fleet's directory").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                search.look_into_file("logs", &entry.path());
            }
        }
        for number in self.members.numbers() {
            search.look_into_file("logs", &self.members.log(number));
        }
    }

    /// Every key and value that the store has now.
    async fn search_store(&self, search: &mut Search<'_>) {
        let mut client = self.raw().await;
        let (mut from, end) = (PREFIX.as_bytes().to_vec(), PREFIX.replace("ll/", "ll0"));
        loop {
            let options = GetOptions::new().with_range(end.clone()).with_limit(KEYS_AT_ONCE);
            let found = client.get(from.clone(), Some(options)).await.expect("etcd answers");
            for pair in found.kvs() {
                let key = String::from_utf8_lossy(pair.key()).into_owned();
                search.look("store", &key, pair.key());
                search.look("store", &key, pair.value());
            }
            match found.kvs().last().filter(|_| found.more()) {
                // The first key behind the last one.
                Some(last) => from = [last.key(), b"\0"].concat(),
                None => return,
            }
        }
    }

    /// What agents saw. It stays for whoever looks for the leak, if there is one.
    fn search_sandboxes(&self, search: &mut Search<'_>) {
        let surface = |part: &str| format!("sandbox/{part}");
        for part in SEEN_PARTS {
            search.expect(&surface(part));
        }
        for entry in fs::read_dir(self.dir()).expect("the fleet's directory").flatten() {
            if !entry.file_name().to_string_lossy().starts_with(SEEN) {
                continue;
            }
            assert!(!entry.path().join(CUT).exists(), "{:?}: there was more to see", entry.path());
            let before = search.seen.len();
            for part in SEEN_PARTS {
                search.look_into_file(&surface(part), &entry.path().join(part));
            }
            if search.seen.len() == before {
                // Megabytes of nothing; a directory that stays does no harm.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// The bounded output of agents and checks that workers keep, and all else in their directories.
    fn search_nodes(&self, search: &mut Search<'_>) {
        ["output", "nodes"].into_iter().for_each(|surface| search.expect(surface));
        for node in self.workers.keys() {
            for entry in fs::read_dir(self.node_dir(node)).into_iter().flatten().flatten() {
                let surface = if entry.file_name() == "logs" { "output" } else { "nodes" };
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => search.look_into(surface, &entry.path()),
                    Ok(kind) if kind.is_file() => search.look_into_file(surface, &entry.path()),
                    _ => {}
                }
            }
        }
    }
}
