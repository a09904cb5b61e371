//! Seal duties that outlive their loop, and the operator's way out when one can never be fulfilled.

use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options, items};
use serde_json::{Value, json};

use crate::support::{ended, list, manifest, parked, scratch, spec, url};

const BOUND: Duration = Duration::from_secs(40);

fn seals(cluster: &Cluster) -> Vec<Value> {
    items(&cluster.json(&["seal", "list", "-A", "-o", "json"])).cloned().collect()
}

/// A loop without a repository that wants the same environment.
fn same_environment() -> Value {
    let mut same = scratch(Value::Null, json!("true"));
    same["owns"] = json!(["env:staging"]);
    same
}

/// A loop that owns the environment and works on the repository, whose node is killed in the middle,
/// and which is then deleted: only its seal duty is left.
fn leave_a_duty(cluster: &mut Cluster, url: &str) {
    let mut deploy = spec(url, json!("sleep 1000"), json!("false"));
    deploy["owns"] = json!(["env:staging", "list.txt"]);
    cluster.apply(&manifest("deploy", &deploy));
    cluster.wait("deploy", "its agent works", BOUND, |status| status.progress.activity == "agent");
    cluster.workers.get_mut("n1").unwrap().kill();
    cluster.wait("deploy", "lost", BOUND, |status| !status.unsealed.is_empty());
    assert!(cluster.cli(&["delete", "deploy"]).status.success());
    cluster.until("the loop is gone", BOUND, |cluster| {
        cluster.status("deploy").is_none().then_some(())
    });
}

#[test]
fn a_deleted_loops_seal_duty_is_carried_by_the_next_owner_and_ends() {
    let repo = list(&["a"]);
    let mut cluster = Cluster::start(Options::default());
    leave_a_duty(&mut cluster, &url(&repo));
    let left = seals(&cluster);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["metadata"]["name"], "deploy", "{left:?}");
    assert_eq!(left[0]["seal"]["removed"], true, "{left:?}");
    cluster.start_worker("n2");
    cluster.apply(&manifest("next", &same_environment()));
    ended(&cluster, "next", Phase::Converged, Reason::None);
    cluster
        .until("nothing is left to seal", BOUND, |cluster| seals(cluster).is_empty().then_some(()));
    // Its journal says that it was taken over.
    let journal = repo.journals();
    assert_eq!(journal.len(), 1, "{journal:?}");
    assert!(repo.subjects(&journal[0]).len() >= 2, "{:?}", repo.subjects(&journal[0]));
}

#[test]
fn a_seal_in_a_repository_that_is_gone_is_given_up_by_an_operator() {
    let repo = list(&["a"]);
    let mut cluster = Cluster::start(Options::default());
    leave_a_duty(&mut cluster, &url(&repo));
    std::fs::remove_dir_all(repo.path()).unwrap();
    cluster.start_worker("n2");
    cluster.apply(&manifest("next", &same_environment()));
    parked(&cluster, "next", Reason::Backoff, "Unsealed: the journal of default/deploy");
    let uid = seals(&cluster)[0]["seal"]["uid"].as_str().unwrap().to_owned();
    let way_out = format!("flyball seal abandon {uid}");
    cluster.until("explain tells the way out", BOUND, |cluster| {
        let told = cluster.cli(&["explain", "next"]);
        String::from_utf8_lossy(&told.stdout).contains(&way_out).then_some(())
    });
    // Not without a reason, and not what is not there.
    assert!(!cluster.cli(&["seal", "abandon", &uid]).status.success());
    assert!(!cluster.cli(&["seal", "abandon", &uid, "--reason", " "]).status.success());
    assert!(!cluster.cli(&["seal", "abandon", "nobody", "--reason", "x"]).status.success());
    assert_eq!(seals(&cluster).len(), 1);
    let reason = "the repository was deleted and n1 is scrapped";
    let done = cluster.cli(&["seal", "abandon", &uid, "--reason", reason]);
    let warned = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && warned.contains("env:staging"), "{warned}");
    ended(&cluster, "next", Phase::Converged, Reason::None);
    assert_eq!(seals(&cluster), Vec::<Value>::new());
    cluster.until("it is on record", BOUND, |cluster| {
        let events = cluster.cli(&["events", "deploy"]);
        let events = String::from_utf8_lossy(&events.stdout).into_owned();
        (events.contains("SealAbandoned") && events.contains(reason) && events.contains('@'))
            .then_some(())
    });
}
