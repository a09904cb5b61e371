//! Loops that a user ends or changes while they run.

use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use serde_json::json;

use crate::support::{
    FINISH_ONE, ended, finish_list, healthy, list, manifest, processes, scratch, spec, url,
};

/// Longest wait for anything here.
const BOUND: Duration = Duration::from_secs(30);

/// Waits until the loop's agent runs.
fn acting(cluster: &Cluster, name: &str) {
    cluster.until(&format!("{name} has an agent process"), BOUND, |cluster| {
        let activity = cluster.status(name)?.progress.activity;
        (activity == "agent" && !processes(cluster, name).is_empty()).then_some(())
    });
}

#[test]
fn a_running_loop_is_cancelled_with_its_processes() {
    let repo = list(&["a"]);
    let cluster = Cluster::start(Options::default());
    let agent = json!("setsid sleep 1000 & sleep 1000");
    cluster.apply(&manifest("long", &spec(&url(&repo), agent.clone(), json!("false"))));
    acting(&cluster, "long");
    let output = cluster.cli(&["cancel", "long", "--reason", "no longer wanted"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let status = ended(&cluster, "long", Phase::Cancelled, Reason::ByUser);
    // The end is told only when nothing is left.
    assert_eq!(processes(&cluster, "long"), Vec::<String>::new());
    assert!(status.message.contains("cancelled") || status.message.contains("no longer wanted"));
    let journal = repo.journals().pop().unwrap();
    let last = &repo.subjects(&journal)[0];
    assert!(last.contains("Cancelled") || last.contains("cancelled"), "{last}");

    cluster.apply(&manifest("deleted", &spec(&url(&repo), agent, json!("false"))));
    acting(&cluster, "deleted");
    let output = cluster.cli(&["delete", "deleted"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    cluster.until("deleted is gone", BOUND, |cluster| {
        (!cluster.cli(&["get", "loop", "deleted"]).status.success()).then_some(())
    });
    assert_eq!(processes(&cluster, "deleted"), Vec::<String>::new());
    let claims = cluster.json(&["get", "claims", "-o", "json"]);
    assert!(!claims.to_string().contains("deleted"), "{claims}");
    healthy(&cluster, "healthy");
    assert_eq!(std::fs::read_dir(cluster.node_dir("n1").join("runs")).unwrap().count(), 0);
}

#[test]
fn a_changed_spec_starts_over_and_is_judged_by_its_own_checks() {
    let repo = list(&["a", "b"]);
    let cluster = Cluster::start(Options::default());
    let first = finish_list("finish", &repo, FINISH_ONE, "");
    cluster.apply(&first);
    ended(&cluster, "finish", Phase::Converged, Reason::None);
    // The result is on main; now more is wanted of it.
    let agent = format!("{FINISH_ONE}; grep -q more list.txt || echo more done >> list.txt");
    let second = finish_list("finish", &repo, &agent, "").replace(
        "! grep -q ' open$' list.txt",
        "! grep -q ' open$' list.txt && grep -q '^more done' list.txt",
    );
    assert_ne!(first, second);
    cluster.apply(&second);
    let status = cluster.wait("finish", "over again", Duration::from_secs(60), |status| {
        status.observed_generation == 2 && status.phase.is_terminal()
    });
    assert_eq!(status.phase, Phase::Converged, "{status:#?}");
    assert_eq!(repo.file("main", "list.txt"), "a done\nb done\nmore done\n", "{status:#?}");
    assert_eq!(status.progress.iterations, 1, "counted anew: {:#?}", status.progress.recent);
}

#[test]
fn loops_without_a_workspace() {
    let cluster = Cluster::start(Options::default());
    let writes = scratch(json!("echo 42 > answer.txt"), json!("grep -q 42 answer.txt"));
    cluster.apply(&manifest("writes", &writes));
    cluster.apply(&manifest("observes", &scratch(json!(null), json!("true"))));
    cluster.apply(&manifest("hopeless", &scratch(json!(null), json!("false"))));
    let status = ended(&cluster, "writes", Phase::Converged, Reason::None);
    assert_eq!((status.progress.iterations, status.progress.accepted), (1, 1));
    let status = ended(&cluster, "observes", Phase::Converged, Reason::None);
    assert_eq!(status.progress.iterations, 0);
    ended(&cluster, "hopeless", Phase::Unreachable, Reason::NoProgress);
    assert_eq!(std::fs::read_dir(cluster.node_dir("n1").join("runs")).unwrap().count(), 0);
}
