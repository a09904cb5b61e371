//! A store that others meddle with, that goes back in time, fills up or goes away, on a real etcd: each
//! ends in a named condition, never in two owners, and everything goes on afterwards.

use std::time::{Duration, Instant};

use etcd_client::{Client, CompactionOptions, DeleteOptions, GetOptions};
use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options, items};
use flyball_tests::etcd::{self, Etcd};
use tokio::runtime::Runtime;

use crate::support::{
    FINISH_ONE, ended, finish_list, healthy, list, manifest, parked, processes, scratch,
};

/// Longest wait for anything here.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// A real etcd, and what a foreign client does to it.
pub(crate) struct Rogue {
    pub(crate) runtime: Runtime,
    pub(crate) etcd: Etcd,
}

impl Rogue {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let runtime = Runtime::new().unwrap();
        let etcd = runtime.block_on(Etcd::start_with(arguments));
        Self { runtime, etcd }
    }

    pub(crate) fn cluster(&self, options: Options) -> Cluster {
        Cluster::start(Options { etcd: Some(self.etcd.endpoint()), ..options })
    }

    fn client(&self) -> Client {
        let _inside = self.runtime.enter();
        self.runtime.block_on(Client::from_channel(self.etcd.channel(), None)).unwrap()
    }

    pub(crate) fn put(
        &self,
        key: &str,
        value: impl Into<Vec<u8>>,
    ) -> Result<(), etcd_client::Error> {
        self.runtime.block_on(self.client().put(key, value, None)).map(drop)
    }

    /// All keys under a prefix with their values, and leases.
    fn under(&self, prefix: &str) -> Vec<(String, Vec<u8>, i64)> {
        let options = GetOptions::new().with_prefix();
        let found = self.runtime.block_on(self.client().get(prefix, Some(options))).unwrap();
        let kvs = found.kvs().iter();
        kvs.map(|kv| (kv.key_str().unwrap().to_owned(), kv.value().to_vec(), kv.lease())).collect()
    }

    fn delete(&self, prefix: &str) {
        let options = DeleteOptions::new().with_prefix();
        self.runtime.block_on(self.client().delete(prefix, Some(options))).unwrap();
    }

    pub(crate) fn revision(&self) -> i64 {
        let found = self.runtime.block_on(self.client().get("x", None)).unwrap();
        found.header().unwrap().revision()
    }
}

/// An agent that finishes one item when the file `go` is there.
fn when_told(cluster: &Cluster) -> String {
    format!(
        "until test -e {}; do sleep 0.05; done; {FINISH_ONE}",
        cluster.dir().join("go").display()
    )
}

fn go(cluster: &Cluster) {
    std::fs::write(cluster.dir().join("go"), "").unwrap();
}

pub(crate) fn said(cluster: &Cluster, name: &str, words: &str) {
    cluster.until(&format!("{name} says {words:?}"), BOUND, |cluster| {
        cluster.log(name).contains(words).then_some(())
    });
}

fn is_running(status: &flyball_core::status::LoopStatus) -> bool {
    status.phase == Phase::Running
}

#[test]
fn what_a_foreign_writer_leaves_is_named_and_harms_nobody() {
    if etcd::is_skipped() {
        return;
    }
    let rogue = Rogue::start(&[]);
    let mut cluster = rogue.cluster(Options::default());
    let junk = [
        "loops/default/x/spec",
        "loops/default/x/status",
        "loops/default/y/other",
        "claims/default/x",
        "owners/x/git/junk",
        "owners/r/git/junk/default/x",
        "nodes/zz",
        "sessions/zz",
        "events/default/x/junk",
        "timers/1/x",
        "nobody",
    ];
    for key in junk {
        rogue.put(&format!("/flyball/v1/{key}"), b"\xff\x00junk".as_slice()).unwrap();
    }
    said(&cluster, "s1", "UnreadableKey");
    said(&cluster, "s1", "/flyball/v1/sessions/zz");
    healthy(&cluster, "beside");
    // A scheduler that starts on it, and one whose leadership is overwritten.
    cluster.schedulers.get_mut(&1).unwrap().kill();
    cluster.start_scheduler(1);
    cluster.wait_for_nodes(1);
    healthy(&cluster, "after-a-restart");
    rogue.put("/flyball/v1/leader", "junk").unwrap();
    cluster.schedulers.get_mut(&1).unwrap().kill();
    cluster.start_scheduler(1);
    cluster.wait_for_nodes(1);
    healthy(&cluster, "after-another-leader");
    rogue.delete("/flyball/v1/timers/");
    said(&cluster, "s1", "a condition is over");
    // The names that were made unusable are usable when the junk is gone.
    for key in junk {
        rogue.delete(&format!("/flyball/v1/{key}"));
    }
    healthy(&cluster, "x");
}

#[test]
fn keys_that_lost_their_lease_block_nobody() {
    if etcd::is_skipped() {
        return;
    }
    let rogue = Rogue::start(&[]);
    let mut cluster = rogue.cluster(Options::default());
    let repo = list(&["a", "b", "c"]);
    cluster.apply(&finish_list("finish", &repo, &when_told(&cluster), ""));
    cluster.wait("finish", "running", BOUND, is_running);
    let prefixes = ["/flyball/v1/claims/", "/flyball/v1/owners/", "/flyball/v1/sessions/"];
    let mut meddled = 0;
    for (key, value, lease) in prefixes.iter().flat_map(|prefix| rogue.under(prefix)) {
        assert_ne!(lease, 0, "{key} is bound to its owner");
        rogue.put(&key, value).unwrap();
        said(&cluster, "s1", &key);
        meddled += 1;
    }
    assert!(meddled >= 3, "claim, owner and session");
    said(&cluster, "s1", "PermanentKey");
    // The owner is alive, so it is still the owner.
    assert!(cluster.status("finish").is_some_and(|status| is_running(&status)));
    cluster.workers.remove("n1").unwrap().kill();
    cluster.start_worker("n2");
    go(&cluster);
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!(status.node.unwrap().as_str(), "n2");
    assert!(status.runs >= 2);
    for prefix in ["/flyball/v1/claims/", "/flyball/v1/owners/"] {
        assert_eq!(rogue.under(prefix), [], "nothing is left over");
    }
    // The name of the dead worker is free, too.
    cluster.start_worker("n1");
    cluster.wait_for_nodes(2);
    healthy(&cluster, "healthy");
}

#[test]
fn a_store_restored_from_an_old_state_is_refused_until_its_revision_is_raised() {
    if etcd::is_skipped() {
        return;
    }
    let mut rogue = Rogue::start(&[]);
    let mut cluster = rogue.cluster(Options::default());
    let repo = list(&["a", "b", "c"]);
    let wanted = finish_list("finish", &repo, &when_told(&cluster), "");
    cluster.apply(&wanted);
    cluster.wait("finish", "running", BOUND, is_running);
    let snapshot = cluster.dir().join("snapshot");
    save(&rogue, &snapshot);
    // Time goes on: the store by some revisions, the loop by an owner with a later token.
    for number in 0..300 {
        rogue.put("raise", format!("{number}")).unwrap();
    }
    cluster.workers.get_mut("n1").unwrap().kill();
    cluster.start_worker("n1");
    let claims = ["get", "claims", "-o", "json"];
    let token = cluster.until("a later owner", BOUND, |cluster| {
        let token = |claim: &serde_json::Value| {
            claim["claim"]["token"].to_string().trim_matches('"').parse::<i64>().ok()
        };
        let found = items(&cluster.json(&claims)).find_map(token);
        let sealed = repo.journals().pop().map(|journal| repo.subjects(&journal).len());
        found.filter(|token| *token > 300 && sealed >= Some(2))
    });
    cluster.workers.get_mut("n1").unwrap().kill();
    cluster.schedulers.get_mut(&1).unwrap().kill();
    let Rogue { runtime, etcd } = &mut rogue;
    runtime.block_on(etcd.restore(&snapshot));
    assert!(rogue.revision() < token);

    // The worker knows better, and says so; the scheduler does not take it.
    cluster.start_scheduler(1);
    cluster.start_worker("n1");
    said(&cluster, "n1", "store-behind");
    said(&cluster, "s1", "StoreBehind");
    // A worker that knows nothing is not enough: the journal knows.
    cluster.workers.get_mut("n1").unwrap().kill();
    std::fs::remove_file(cluster.node_dir("n1").join("token-mark")).unwrap();
    cluster.start_worker("n1");
    let tokens = token.to_string();
    let status = parked(&cluster, "finish", Reason::StoreBehindJournal, &tokens);
    assert!(status.message.contains("--bump-revision"), "the next step: {}", status.message);
    let told = cluster.cli(&["explain", "finish"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("StoreBehindJournal"), "{told}");

    while rogue.revision() <= token {
        rogue.put("raise", "again").unwrap();
    }
    go(&cluster);
    // It would go on by itself within a minute; a changed spec is faster.
    cluster.apply(&format!("{wanted}  governor: {{patience: 7}}\n"));
    ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!(repo.file("main", "list.txt"), "a done\nb done\nc done\n");
}

pub(crate) fn save(rogue: &Rogue, file: &std::path::Path) {
    let mut bytes = Vec::new();
    rogue.runtime.block_on(async {
        let client = Client::from_channel(rogue.etcd.channel(), None).await.unwrap();
        let mut stream = client.maintenance_client().snapshot().await.unwrap();
        while let Some(part) = stream.message().await.unwrap() {
            bytes.extend_from_slice(part.blob());
        }
    });
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_full_store_keeps_owners_and_takes_deletes_and_nothing_else() {
    if etcd::is_skipped() {
        return;
    }
    let rogue = Rogue::start(&["--quota-backend-bytes=16777216"]);
    let cluster = rogue.cluster(Options::default());
    let repo = list(&["a", "b"]);
    cluster.apply(&manifest("old", &scratch(serde_json::json!(null), serde_json::json!("true"))));
    ended(&cluster, "old", Phase::Converged, Reason::None);
    cluster.apply(&finish_list("finish", &repo, &when_told(&cluster), ""));
    cluster.wait("finish", "running", BOUND, is_running);
    let full = (0..64).find_map(|n| rogue.put(&format!("junk/{n}"), vec![b'x'; 1 << 20]).err());
    assert!(full.unwrap().to_string().contains("space exceeded"));
    said(&cluster, "s1", "StoreFull");

    let refused = manifest("new", &scratch(serde_json::json!(null), serde_json::json!("true")));
    let answer = cluster.cli_with_input(&["apply", "-f", "-"], &refused);
    let words = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(!answer.status.success(), "{answer:?}\n{}", cluster.logs());
    for part in ["NOSPACE", "disarm", "try again"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(cluster.status("new").is_none());
    let answer = cluster.cli(&["delete", "old"]);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    cluster.until("the old loop is gone", BOUND, |cluster| {
        cluster.status("old").is_none().then_some(())
    });
    // Three leases long nobody loses anything.
    hold(Duration::from_secs(6), || {
        assert!(!processes(&cluster, "finish").is_empty(), "{}", cluster.logs());
    });
    assert!(!cluster.log("n1").contains("beginning anew"), "{}", cluster.log("n1"));
    go(&cluster);

    rogue.delete("junk/");
    let revision = rogue.revision();
    rogue.runtime.block_on(async {
        let mut client = Client::from_channel(rogue.etcd.channel(), None).await.unwrap();
        let physical = CompactionOptions::new().with_physical();
        client.compact(revision, Some(physical)).await.unwrap();
        client.defragment().await.unwrap();
    });
    disarm(&rogue);
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!((status.runs, status.runs_lost), (1, 0), "{status:#?}");
    // Other conditions end as well, so the last word is the store's.
    cluster.until("submissions are taken again", BOUND, |cluster| {
        cluster.cli_with_input(&["apply", "-f", "-"], &refused).status.success().then_some(())
    });
    ended(&cluster, "new", Phase::Converged, Reason::None);
}

fn disarm(rogue: &Rogue) {
    let disarmed = std::process::Command::new(etcd::etcdctl().unwrap())
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", rogue.etcd.endpoint()))
        .args(["alarm", "disarm"])
        .output()
        .unwrap();
    assert!(disarmed.status.success(), "{}", String::from_utf8_lossy(&disarmed.stderr));
}

#[test]
fn a_store_that_is_away_for_ten_leases_stops_everything_and_then_it_goes_on() {
    if etcd::is_skipped() {
        return;
    }
    let mut rogue = Rogue::start(&[]);
    let cluster = rogue.cluster(Options { workers: 2, ..Options::default() });
    let repo = list(&["a", "b", "c"]);
    cluster.apply(&finish_list("finish", &repo, &when_told(&cluster), ""));
    cluster.wait("finish", "running", BOUND, is_running);
    cluster.until("the agent works", BOUND, |cluster| {
        (!processes(cluster, "finish").is_empty()).then_some(())
    });
    rogue.etcd.kill();
    let gone = Instant::now();
    cluster.until("the owner has fenced itself", BOUND, |cluster| {
        processes(cluster, "finish").is_empty().then_some(())
    });
    let refused = manifest("new", &scratch(serde_json::json!(null), serde_json::json!("true")));
    let answer = cluster.cli_with_input(&["apply", "-f", "-"], &refused);
    assert!(!answer.status.success());
    let words = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(words.contains("the store cannot be used now"), "{words}");
    said(&cluster, "s1", "StoreUnavailable");
    hold(Duration::from_secs(20).saturating_sub(gone.elapsed()), || {
        assert_eq!(processes(&cluster, "finish"), Vec::<String>::new());
    });
    let Rogue { runtime, etcd } = &mut rogue;
    runtime.block_on(etcd.start_again());
    go(&cluster);
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert!(status.runs >= 2, "{status:#?}");
    cluster.wait_for_nodes(2);
    healthy(&cluster, "healthy");
}

/// Checks something for as long as a fault lasts.
fn hold(time: Duration, check: impl Fn()) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        check();
        std::thread::sleep(Duration::from_millis(200));
    }
}
