//! The first checks of a run go on while its journal is sealed. What they say counts only if the seal holds and the journal
//! tells nothing new.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use flyball_core::record::{IterationRecord, JournalEntry, JournalRecord};
use flyball_core::status::Reason;
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::repo::Repo;
use serde_json::json;

use crate::support::{FINISH_ONE, finish_list, list, manifest, parked, processes, spec, url};
use crate::takeover::done_once;

/// Longest wait for anything here.
const BOUND: Duration = Duration::from_secs(40);

/// Has the repository wait with every push until `gate` is there, and then refuse it.
fn refuse_pushes_after(repo: &Repo, gate: &std::path::Path) {
    let hook = repo.path().join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let wait = format!("while ! test -e {}; do sleep 0.02; done", gate.display());
    std::fs::write(&hook, format!("#!/bin/sh\n{wait}\necho no pushes here >&2; exit 1\n")).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_check_runs_beside_the_seal_and_is_ended_if_that_fails() {
    let cluster = Cluster::start(Options::default());
    let repo = list(&["a"]);
    let (gate, begun) = (cluster.dir().join("gate"), cluster.dir().join("begun"));
    refuse_pushes_after(&repo, &gate);
    let check = format!("echo x >> {}; sleep 600", begun.display());
    cluster.apply(&manifest("ahead", &spec(&url(&repo), json!("true"), json!(check))));
    cluster.until("a check runs while the seal waits", BOUND, |_| begun.exists().then_some(()));
    std::fs::write(&gate, "").unwrap();
    parked(&cluster, "ahead", Reason::Hold, "PushRejected");
    // The loop was given back, so nothing of it may be left.
    assert_eq!(processes(&cluster, "ahead"), Vec::<String>::new());
    assert_eq!(std::fs::read_to_string(&begun).unwrap(), "x\n", "it is not tried again");
    assert!(!cluster.log("n1").contains("node fault"), "{}", cluster.log("n1"));
    assert_eq!(repo.journals(), Vec::<String>::new());
}

/// The records of iterations in a journal, oldest first.
fn iterations(repo: &Repo) -> Vec<IterationRecord> {
    let Some(journal) = repo.journals().pop() else { return Vec::new() };
    let options = ["log", "--first-parent", "--reverse", "-z", "--format=%b", &journal];
    let of = |body: &str| match serde_json::from_str::<JournalRecord>(body).unwrap().entry {
        JournalEntry::Iteration(iteration) => Some(*iteration),
        _ => None,
    };
    repo.git(&options).split('\0').filter(|body| !body.trim().is_empty()).filter_map(of).collect()
}

#[test]
fn what_the_journal_knows_better_is_measured_again() {
    let repo = list(&["a", "b", "c", "d"]);
    let mut cluster = Cluster::start(Options { workers: 2, ttl: 10, ..Options::default() });
    let (acts, gate) = (cluster.dir().join("acts"), cluster.dir().join("gate"));
    // The second iteration's agent waits, so that the scheduler can go while nothing is asked of it.
    let wait = format!(
        "grep -q '^a done' list.txt && test ! -e {acts} && {{ echo > {acts}; \
         while ! test -e {gate}; do sleep 0.02; done; }}; {FINISH_ONE}",
        acts = acts.display(),
        gate = gate.display()
    );
    cluster.apply(&finish_list("behind", &repo, &wait, ""));
    cluster.until("the second agent acts", BOUND, |_| acts.exists().then_some(()));
    let victim = cluster.status("behind").unwrap().node.unwrap().to_string();
    cluster.schedulers.get_mut(&1).unwrap().kill();
    std::fs::write(&gate, "").unwrap();
    // What it did is pushed, and its report reaches nobody.
    cluster.until("the journal knows more", BOUND, |_| (iterations(&repo).len() > 1).then_some(()));
    cluster.workers.get_mut(&victim).unwrap().kill();
    cluster.start_scheduler(1);
    let status = done_once(&cluster, &repo, "behind", 4);
    assert_ne!(status.node.unwrap().as_str(), victim);
    let records = iterations(&repo);
    let distances = records.iter().map(|record| (record.distance_before, record.distance_after));
    let distances: Vec<_> = distances.collect();
    let joined = distances.windows(2).all(|pair| pair[1].0 == pair[0].1);
    assert!(joined, "each begins with what the one before has reached: {distances:?}");
}
