//! Repositories and requests that cannot be used: clear words, nothing lost, the worker healthy.

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::repo::{Repo, git};
use serde_json::json;

use crate::support::{ended, healthy, list, manifest, parked, spec, url};

/// An agent and a check that are done at once.
const DONE: &str = "echo done > result.txt";
const IS_DONE: &str = "test -f result.txt";

#[test]
fn repositories_that_cannot_be_used() {
    let cluster = Cluster::start(Options::default());
    let (repo, without_atomic) = (list(&["a"]), list(&["a"]));
    without_atomic.config("receive.advertiseAtomic", "false");
    let taken = list(&["a"]);
    taken.git(&["branch", "flyball/taken", "main"]);
    taken.commit(&[("list.txt", "of somebody else\n")], "foreign");
    taken.git(&["branch", "--force", "flyball/taken", "main"]);
    taken.git(&["update-ref", "refs/heads/main", "main~1"]);
    let foreign = taken.git(&["rev-parse", "flyball/taken"]);

    let apply = |name: &str, repo: &str| {
        cluster.apply(&manifest(name, &spec(repo, json!(DONE), json!(IS_DONE))));
    };
    let dir = tempfile::tempdir().unwrap();
    let late = dir.path().join("late.git");
    apply("late", &late.display().to_string());
    apply("away", "/nonexistent/flyball.git");
    apply("no-atomic", &url(&without_atomic));
    apply("taken", &url(&taken));
    let mut no_ref = spec(&url(&repo), json!(DONE), json!(IS_DONE));
    no_ref["workspace"]["git"]["ref"] = json!("no-such-branch");
    cluster.apply(&manifest("no-ref", &no_ref));

    parked(&cluster, "away", Reason::Backoff, "the repository cannot be reached");
    let status = ended(&cluster, "no-ref", Phase::Failed, Reason::MissingRef);
    assert!(status.message.contains("no-such-branch"), "{}", status.message);
    parked(&cluster, "no-atomic", Reason::Hold, "AtomicPushUnsupported");
    assert_eq!(without_atomic.journals(), Vec::<String>::new(), "nothing was pushed");
    let status = parked(&cluster, "taken", Reason::Backoff, "PublishBranchTaken");
    assert_eq!(taken.git(&["rev-parse", "flyball/taken"]), foreign, "it is left alone");
    assert_eq!(status.progress.accepted, 1, "the work is kept as a checkpoint");
    // One that comes back is found by the next try.
    parked(&cluster, "late", Reason::Backoff, "the repository cannot be reached");
    git(dir.path(), &["clone", "--quiet", "--bare", &url(&repo), "late.git"]);
    ended(&cluster, "late", Phase::Converged, Reason::None);
    // A parked loop can be ended.
    assert!(cluster.cli(&["cancel", "away", "taken", "no-atomic"]).status.success());
    ended(&cluster, "away", Phase::Cancelled, Reason::ByUser);
    healthy(&cluster, "healthy");
}

#[test]
fn requests_that_cannot_be_met() {
    let cluster = Cluster::start(Options::default());
    let repo = Repo::with(&[("a.txt", "a\n")]);
    let mut large = spec(&url(&repo), json!(DONE), json!(IS_DONE));
    large["goal"] = json!("x".repeat(300 * 1024));
    let refused = cluster.cli_with_input(&["apply", "-f", "-"], &manifest("large", &large));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{error}");
    assert!(error.contains("too large") || error.contains("at most"), "{error}");
    assert!(error.len() < 4096, "the request is not repeated in the error");
    assert!(cluster.status("large").is_none());

    let mut never = spec(&url(&repo), json!(DONE), json!(IS_DONE));
    never["needs"] = json!({"cpu": "4000", "memory": "1Gi"});
    let applied = cluster.cli_with_input(&["apply", "-f", "-"], &manifest("never", &never));
    let warning = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert!(applied.status.success(), "{warning}");
    assert!(warning.contains("n1") && warning.contains("4000"), "names the nearest: {warning}");
    let explained = cluster.json(&["explain", "never", "-o", "json"]).to_string();
    assert!(explained.contains("4000") && explained.contains("n1"), "{explained}");
    let what = "known never to fit";
    let bound = std::time::Duration::from_secs(20);
    cluster.until(what, bound, |cluster| {
        let object = cluster.json(&["get", "loop", "never", "-o", "json"]);
        object.to_string().contains("NeverFits").then_some(())
    });
    healthy(&cluster, "healthy");
}
