//! Slices of a budget as a worker draws them, through a scheduler that is away and one that is not, and what
//! becomes of them when their worker dies.

use std::sync::Arc;
use std::time::Duration;

use flyball_core::ids::{LoopKey, LoopUid, Token};
use flyball_core::model::{Amount, SliceError, Slices};
use flyball_core::status::Phase;
use flyball_proto::transport::{Address, Credential};
use flyball_tests::cluster::{Cluster, Options, items};
use flyball_worker::models::{RunSlices, Schedulers};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{manifest, scratch};

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
