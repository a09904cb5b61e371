//! Slices of a budget as a worker draws them, through a scheduler that is away and one that is not, and what
//! becomes of them when their worker dies.

use std::sync::Arc;
use std::time::Duration;

use flyball_core::ids::{LoopKey, LoopUid, Token};
use flyball_core::model::{Amount, BudgetReport, SliceError, Slices};
use flyball_core::status::Phase;
use flyball_proto::transport::{Address, Credential};
use flyball_tests::cluster::{Cluster, Options, items};
use flyball_tests::collector::{collector, exporting_to};
use flyball_tests::poll;
use flyball_tests::provider::{Provider, Reply};
use flyball_worker::models::{RunSlices, Schedulers};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{builtin, list, manifest, models, scratch};

/// Longest wait for anything here.
const BOUND: Duration = Duration::from_secs(60);

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, ..Amount::default() }
}

/// The loop's claim, as it is shown.
fn claim(cluster: &Cluster, name: &str) -> Option<Value> {
    let claims = cluster.json(&["get", "claims", "-o", "json"]);
    let mut found = items(&claims).filter(|one| one["metadata"]["name"] == name);
    found.next().map(|one| one["claim"].clone())
}

/// What the run of a claim draws through, `token` of its own or another one.
fn slices(cluster: &Cluster, claim: &Value, token: i64) -> Arc<RunSlices> {
    let text = |field: &str| claim[field].as_str().unwrap().to_owned();
    let away: Address = format!("unix://{}/away.sock", cluster.dir().display()).parse().unwrap();
    let here: Address = cluster.address(1).parse().unwrap();
    let schedulers = Arc::new(Schedulers::new(vec![away, here], Credential::none()));
    let (node, incarnation) = (text("node").into(), text("incarnation").into());
    let (key, uid) = (LoopKey::new("default", "x"), LoopUid(text("uid")));
    Arc::new(RunSlices::new(schedulers, &node, &incarnation, (&key, &uid, Token(token))))
}

fn used(cluster: &Cluster) -> u64 {
    let budget = cluster.json(&["budget", "get", "x", "-o", "json"]);
    let budget = budget.get(0).cloned().unwrap_or(budget);
    ["spent", "held"].iter().map(|part| budget[part]["tokens"].as_u64().unwrap()).sum()
}

#[test]
fn slices_never_exceed_a_budget_and_those_of_a_lost_worker_are_spent() {
    let mut cluster = Cluster::start(Options::default());
    let mut spec = scratch(json!("exec sleep 1000"), json!("false"));
    spec["budget"] = json!({ "tokens": 1000 });
    cluster.apply(&manifest("x", &spec));
    cluster.wait("x", "running", BOUND, |status| status.phase == Phase::Running);
    let claim = claim(&cluster, "x").unwrap();
    let token = claim["token"].as_i64().unwrap();
    let runtime = Runtime::new().unwrap();

    let own = slices(&cluster, &claim, token);
    let granted = runtime.block_on(async {
        let mut calls = tokio::task::JoinSet::new();
        for call in 0..64 {
            let own = own.clone();
            calls.spawn(async move {
                let drawn = own.draw(format!("c{call}"), tokens(100), tokens(100)).await;
                match drawn {
                    Ok(amount) => assert_eq!(amount, tokens(100)),
                    Err(SliceError::Ended(_)) => return None,
                    Err(other) => panic!("{other}"),
                }
                Some(format!("c{call}"))
            });
        }
        calls.join_all().await.into_iter().flatten().collect::<Vec<_>>()
    });
    assert_eq!((granted.len(), used(&cluster)), (10, 1000));
    runtime.block_on(async {
        for id in &granted[..5] {
            for _ in 0..2 {
                own.settle(id.clone(), tokens(50)).await.unwrap();
            }
        }
        let other = slices(&cluster, &claim, token - 1);
        let refused = other.draw("z".to_owned(), tokens(1), tokens(1)).await.unwrap_err();
        assert!(matches!(refused, SliceError::Fenced(_)), "{refused}");
    });
    assert_eq!(used(&cluster), 750);

    // What it has in hand is spent, whatever it would say.
    let node = claim["node"].as_str().unwrap().to_owned();
    cluster.workers.get_mut(&node).unwrap().kill();
    cluster.until("the run is lost", BOUND, |cluster| {
        let before = self::claim(cluster, "x");
        before.is_none_or(|now| now["token"] != claim["token"]).then_some(())
    });
    let late = runtime.block_on(own.settle(granted[9].clone(), tokens(0))).unwrap_err();
    assert!(matches!(late, SliceError::Fenced(_)), "{late}");
    assert_eq!(used(&cluster), 750);
    let page = cluster.cli(&["describe", "loop", "x"]);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("In all:       1000 tokens"), "{page}");
}

/// Each run has room for the two calls of one iteration. The loop goes on in the next, and what it cost in all of them
/// is told when it has converged.
#[test]
fn a_runs_own_bound_ends_the_run_and_its_loop_goes_on_in_the_next() {
    let runtime = Runtime::new().unwrap();
    let (collector, address) = collector(&runtime);
    let provider = Provider::turns(vec![
        Reply::tool("shell", json!({ "command": "sed -i '0,/ open$/s// done/' list.txt" })),
        Reply::tool("report", json!({ "note": "finished one" })),
    ]);
    let repo = list(&["a", "b", "c"]);
    let cluster = Cluster::start(exporting_to(&address));
    cluster.apply(&models(&provider, json!({})));
    let budget = "  budget: {calls: 100, perRun: {calls: 2}}\n";
    cluster.apply(&builtin("x", &repo, "Finish every item of the list.", budget));
    let status = cluster.wait("x", "over", BOUND, |status| status.phase.is_terminal());
    assert_eq!(status.phase, Phase::Converged, "{status:#?}\n{}", cluster.logs());
    assert_eq!(provider.totals().0, 6);
    assert_eq!(status.runs, 3, "two calls fit in a run: {status:#?}");

    let report = cluster.json(&["budget", "get", "x", "-o", "json"]);
    let report: BudgetReport = serde_json::from_value(report).unwrap();
    assert_eq!(report.spent.calls, 6);
    let cost = report.spent.money.0 as f64 / 1e6;
    let same = |one: f64| (one - cost).abs() < 1e-9;
    poll::until("the loop's cost arrives", BOUND, || {
        let (count, sum) = collector.histogram("flyball.loop.cost");
        (count == 1 && same(sum)).then_some(())
    });
    // Iterations that found no room have cost nothing.
    poll::until("the iterations' cost arrives", BOUND, || {
        let (count, sum) = collector.histogram("flyball.iteration.cost");
        (count >= 3 && same(sum)).then_some(())
    });
    poll::until("the agents' own counts arrive", BOUND, || {
        let (count, off) = collector.histogram("flyball.agent.usage.difference");
        (count >= 3 && off == 0.0).then_some(())
    });
    poll::until("the part of dearer calls arrives", BOUND, || {
        let (count, part) = collector.histogram("flyball.iteration.escalation_ratio");
        (count == 3 && part == 0.0).then_some(())
    });
}
