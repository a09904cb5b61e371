//! Accounts that have no room for longer than a call waits, and providers that do not answer: the loop leaves its node to
//! others, and goes on by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use flyball_core::status::{LoopStatus, Phase, Reason};
use flyball_tests::cluster::{Cluster, Options, items};
use flyball_tests::provider::{Asked, Provider, Reply};
use serde_json::json;

use crate::support::{FINISH_ONE, builtin, finish_list, list, models, parked};

/// Longest wait for anything here.
const BOUND: Duration = Duration::from_secs(90);
/// Longest wait of a call for quota, in seconds.
const QUOTA_WAIT: u64 = 2;
/// What the provider says of its limit, in seconds.
const RETRY_AFTER: u64 = 4;

/// One worker that runs one loop at a time, and whose calls do not wait long.
fn cluster() -> Cluster {
    Cluster::start(Options {
        slots: 1,
        worker_args: vec![format!("--quota-wait={QUOTA_WAIT}")],
        // All of it is back when the account says so: here the slices are short.
        scheduler_args: vec!["--quota-window=10".to_owned()],
        ..Options::default()
    })
}

/// The agent's conversation: something that is no progress, then the work.
fn work(asked: &Asked) -> Reply {
    match asked.turn() {
        0 => Reply::tool("shell", json!({ "command": "echo more open >> list.txt" })),
        1 => Reply::tool("shell", json!({ "command": "sed -i 's/ open$/ done/' list.txt" })),
        _ => Reply::tool("report", json!({ "note": "finished the list", "claim": "done" })),
    }
}

fn goal(name: &str) -> String {
    format!("The work of {name}.")
}

/// It has converged as if it had never waited.
fn converged(cluster: &Cluster, name: &str) -> LoopStatus {
    let status = cluster.wait(name, "over", BOUND, |status| status.phase.is_terminal());
    assert_eq!(status.phase, Phase::Converged, "{name}: {status:#?}\n{}", cluster.logs());
    assert_eq!(status.progress.iterations, 1, "what quota ended was no iteration: {status:#?}");
    status
}

#[test]
fn a_providers_limit_parks_the_loop_and_its_node_goes_to_others() {
    let full = Arc::new(AtomicBool::new(true));
    let provider = Provider::start({
        let full = full.clone();
        move |asked| match asked.turn() {
            1 if full.load(Ordering::SeqCst) => Reply::status(429, Some(RETRY_AFTER)),
            _ => work(asked),
        }
    });
    let cluster = cluster();
    cluster.apply(&models(&provider, json!({})));
    let (repo, other) = (list(&["a"]), list(&["b"]));
    cluster.apply(&builtin("x", &repo, &goal("x"), "  budget: {calls: 4}\n"));
    let status = parked(&cluster, "x", Reason::Quota, "the account of provider shared has no room");
    let (until, since) = (status.parked_until.unwrap(), status.since.unwrap());
    let pause = until.duration_since(since).as_millis();
    let least = i128::from(RETRY_AFTER) * 1000;
    // The provider said it a little earlier.
    assert!(pause > least - 1000 && pause <= least * 3 / 2 + 100, "{pause} ms");
    let claims = cluster.json(&["get", "claims", "-o", "json"]);
    assert_eq!(items(&claims).count(), 0, "{claims}");
    let told = cluster.cli(&["explain", "x"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("flyball quota list"), "{told}");

    full.store(false, Ordering::SeqCst);
    cluster.apply(&finish_list("y", &other, FINISH_ONE, ""));
    cluster.wait_for_end("y", Phase::Converged);
    let status = converged(&cluster, "x");
    assert_eq!((status.runs, status.runs_lost), (2, 0), "{status:#?}");
    // Its budget of four calls was enough: a refusal for a limit is none of them.
    assert_eq!(provider.totals().0, 4);
    assert_eq!(repo.file("main", "list.txt"), "a done\nmore done\n");
}

#[test]
fn a_pool_without_room_parks_the_loop_until_there_is() {
    let provider = Provider::start(work);
    let cluster = cluster();
    cluster.apply(&models(&provider, json!({ "quota": { "requestsPerMinute": 3 } })));
    let repos = [list(&["a"]), list(&["b"])];
    cluster.apply(&builtin("x", &repos[0], &goal("x"), ""));
    converged(&cluster, "x");
    cluster.apply(&builtin("y", &repos[1], &goal("y"), ""));
    parked(&cluster, "y", Reason::Quota, "the account of provider shared has no room");
    assert_eq!(provider.totals().0, 3, "nobody was asked in vain");
    converged(&cluster, "y");
    assert_eq!(provider.totals().0, 6);
}

/// For longer than a loop without progress goes on.
#[test]
fn a_provider_that_does_not_answer_parks_the_loop_and_is_no_lack_of_progress() {
    let away = Arc::new(AtomicBool::new(true));
    let provider = Provider::start({
        let away = away.clone();
        move |asked| match asked.turn() {
            // Its key is not taken any more.
            1 if away.load(Ordering::SeqCst) => Reply::status(401, None),
            _ => work(asked),
        }
    });
    let cluster = cluster();
    cluster.apply(&models(&provider, json!({})));
    let repo = list(&["a"]);
    cluster.apply(&builtin("x", &repo, &goal("x"), "  governor: {patience: 1}\n"));
    let thrice = "no model answered its agent (try 3): shared m: 401";
    let status = cluster.wait("x", "parked for the third time", BOUND, |status| {
        status.phase.is_terminal() || status.message.contains(thrice)
    });
    assert_eq!((status.phase, status.reason), (Phase::Parked, Reason::Backoff), "{status:#?}");
    away.store(false, Ordering::SeqCst);
    let status = converged(&cluster, "x");
    assert!(status.runs >= 4 && status.runs_lost == 0, "{status:#?}");
    assert_eq!(repo.file("main", "list.txt"), "a done\nmore done\n");
}

/// What its calls wait in all is longer than it may run.
#[test]
fn waiting_for_quota_does_not_use_up_a_loops_time() {
    /// A call asks thrice in the time that it waits, and is then refused: five runs wait ten seconds.
    const LIMITS: usize = 15;
    const WALL_TIME: u64 = 6;
    let limits = Arc::new(AtomicUsize::new(0));
    let provider = Provider::start({
        let limits = limits.clone();
        move |asked| match asked.turn() {
            1 if limits.fetch_add(1, Ordering::SeqCst) < LIMITS => Reply::status(429, Some(1)),
            _ => work(asked),
        }
    });
    let cluster = cluster();
    let rests_briefly = r#""spec":{"onError":{"coolDown":"100ms"},"tiers"#;
    cluster.apply(&models(&provider, json!({})).replace(r#""spec":{"tiers"#, rests_briefly));
    let repo = list(&["a"]);
    let wall_time = format!("  governor: {{wallTime: {WALL_TIME}s}}\n");
    cluster.apply(&builtin("x", &repo, &goal("x"), &wall_time));
    let status = converged(&cluster, "x");
    let in_runs = Duration::from_millis(status.progress.run_ms);
    assert!(in_runs < Duration::from_secs(WALL_TIME), "{status:#?}");
    assert!(limits.load(Ordering::SeqCst) >= LIMITS && status.runs >= 3, "{status:#?}");
}
