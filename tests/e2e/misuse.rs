//! What nobody should do, done: each ends in a named condition and never in two owners.

use std::path::Path;
use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options, items};
use flyball_tests::poll::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{FINISH_ONE, ended, finding, finish_list, healthy, list};
use crate::takeover::guard_of;

/// Longest wait for anything here.
const BOUND: Duration = Duration::from_secs(40);

/// What a scheduler logs once two live workers want one name.
const TWO_LIVE: &str = "two live workers want one name";

/// What the doctor says of a name that two want.
fn name_taken(cluster: &Cluster) -> Option<Value> {
    finding(cluster, &[], "NameTaken")
}

/// An agent that finishes one item when the file `go` is there.
fn when_told(go: &Path) -> String {
    format!("until test -e {}; do sleep 0.05; done; {FINISH_ONE}", go.display())
}

/// Copies a directory with plain files and directories.
fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_dir(&entry.path(), &target);
        } else if kind.is_file() {
            // Files of the live run may vanish while they are copied.
            let _ = std::fs::copy(entry.path(), target);
        }
    }
}

#[test]
fn a_name_is_waited_for_as_long_as_its_lease_can_last() {
    let mut cluster = Cluster::start(Options { ttl: 18, ..Options::default() });
    copy_dir(&cluster.node_dir("n1"), &cluster.node_dir("copy"));
    // As a machine that is gone: nobody tells of the worker's end.
    let guard = Pid::from_raw(guard_of(cluster.workers["n1"].pid()));
    cluster.workers["n1"].signal(Signal::SIGSTOP);
    kill(guard, Signal::SIGKILL).unwrap();
    cluster.workers.remove("n1").unwrap().kill();
    let mut copy = cluster.start_namesake("n1", "copy", "copy");
    cluster.until("the copy is registered", BOUND, |cluster| {
        cluster.log("copy").contains("session is up").then_some(())
    });
    assert_eq!(copy.ended(), None, "it would ask for a lease of 6 s, and has waited for one of 18");
    assert!(cluster.log("copy").contains("the name is taken"), "{}", cluster.log("copy"));
    // It waited for a lease that nobody renewed.
    assert!(!cluster.log("s1").contains(TWO_LIVE), "{}", cluster.log("s1"));
    assert_eq!(name_taken(&cluster), None);
    healthy(&cluster, "healthy");
}

#[test]
fn a_copied_data_directory_does_not_end_the_original() {
    let repo = list(&["a", "b", "c"]);
    let mut cluster = Cluster::start(Options::default());
    let go = cluster.dir().join("go");
    cluster.apply(&finish_list("finish", &repo, &when_told(&go), ""));
    cluster.wait("finish", "running", BOUND, |status| status.phase == Phase::Running);
    copy_dir(&cluster.node_dir("n1"), &cluster.node_dir("copy"));
    let original = std::fs::read_to_string(cluster.node_dir("n1").join("incarnation")).unwrap();
    let mut copy = cluster.start_namesake("n1", "copy", "copy");
    let end = until("the copy gives up", BOUND, || copy.ended());
    assert!(!end.success());
    let log = cluster.log("copy");
    assert!(log.contains("was copied") && log.contains("another worker is registered"), "{log}");
    assert!(log.contains("its own --node"), "the operator's next step: {log}");
    assert!(cluster.log("s1").contains(TWO_LIVE), "{}", cluster.log("s1"));
    let told = name_taken(&cluster).expect("the doctor names it");
    assert_eq!((&told["subject"], &told["level"]), (&json!("n1"), &json!("warning")), "{told}");
    assert!(told["figures"]["refused"].as_i64().is_some_and(|times| times > 1), "{told}");
    let node = cluster.json(&["get", "node", "n1", "-o", "json"]);
    let holder = items(&node).next().unwrap()["node"]["incarnation"].as_str().unwrap().to_owned();
    assert!(told["message"].as_str().unwrap().contains(&holder), "{told}");
    assert!(told["nextStep"].as_str().unwrap().contains("its own --node"), "{told}");
    // The original has not noticed anything: same life, same run.
    let now = std::fs::read_to_string(cluster.node_dir("n1").join("incarnation")).unwrap();
    assert_eq!(now, original);
    std::fs::write(&go, "").unwrap();
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!((status.runs, status.runs_lost), (1, 0), "{status:#?}");

    // Once the original is gone, its name is free after its lease, for the copy too.
    cluster.workers.remove("n1").unwrap().kill();
    let _copy = cluster.start_namesake("n1", "copy", "copy");
    cluster.until("the copy is registered", BOUND, |cluster| {
        cluster.log("copy").contains("session is up").then_some(())
    });
    assert_eq!(name_taken(&cluster), None, "the one that was refused has the name");
    healthy(&cluster, "healthy");
}
