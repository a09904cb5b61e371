//! Definitions that loops need: what is in use cannot be deleted, and a loop waits for what is not there yet.

use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::provider::{Provider, Reply};
use serde_json::json;

use crate::support::{builtin, list, models, parked};

const BOUND: Duration = Duration::from_secs(60);

/// An agent of the installation's own, which needs no model.
const HAND: &str = "apiVersion: flyball.dev/v1
kind: Agent
metadata: {name: hand}
spec:
  version: \"1\"
  command: [sh, -c, \"sed -i '0,/ open$/s// done/' list.txt\"]
";

/// A loop whose agent is `hand`.
fn by_hand(name: &str, repo: &flyball_tests::repo::Repo) -> String {
    builtin(name, repo, "Finish the list.", "").replace("use: builtin", "use: hand")
}

/// Deletes, and gives what was said.
fn delete(cluster: &Cluster, what: &[&str]) -> (bool, String) {
    let output = cluster.cli(&[&["delete"], what].concat());
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn refused(cluster: &Cluster, what: &[&str], words: &str) {
    let (done, said) = delete(cluster, what);
    assert!(!done && said.contains(words), "{what:?}: {said}");
}

#[test]
fn a_route_an_agent_and_a_provider_in_use_are_not_deleted_and_their_users_are_named() {
    let cluster = Cluster::start(Options::default());
    let provider = Provider::start(|_| Reply::text("done").paced(BOUND));
    cluster.apply(&models(&provider, json!({})));
    cluster.apply(HAND);
    let (one, two) = (list(&["a"]), list(&["a"]));
    cluster.apply(&builtin("calls", &one, "Finish the list.", ""));
    // It has nowhere to run, so it is not over.
    let elsewhere = "  placement: {requiredLabels: {place: nowhere}}\n";
    cluster.apply(&format!("{}{elsewhere}", by_hand("waits", &two)));

    refused(&cluster, &["agent", "hand"], "agent hand is used by loop default/waits");
    let only = "modelroute all is the only route for the agent of loop default/calls";
    refused(&cluster, &["modelroute", "all"], only);
    refused(&cluster, &["provider", "shared"], "provider shared is named by modelroute all");

    for name in ["calls", "waits"] {
        let (done, said) = delete(&cluster, &[name]);
        assert!(done, "{name}: {said}");
        cluster.until("the loop is gone", BOUND, |c| c.status(name).is_none().then_some(()));
    }
    // In the order in which they need each other.
    for what in [["agent", "hand"], ["modelroute", "all"], ["provider", "shared"]] {
        let (done, said) = delete(&cluster, &what);
        assert!(done, "{what:?}: {said}");
    }
}

#[test]
fn a_loop_that_waits_for_an_unknown_agent_goes_on_when_it_is_applied() {
    let cluster = Cluster::start(Options::default());
    let repo = list(&["a"]);
    cluster.apply(&by_hand("x", &repo));
    let status = parked(&cluster, "x", Reason::Backoff, "there is no agent hand");
    assert!(status.parked_until.is_some(), "{status:#?}");
    let explained = cluster.cli(&["explain", "x"]);
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("there is no agent hand"), "{explained}");
    cluster.apply(HAND);
    cluster.wait_for_end("x", Phase::Converged);
    assert_eq!(repo.file("main", "list.txt"), "a done\n");
}
