//! Schedulers die, come back and take over from each other while loops run.

use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options, items};
use flyball_tests::etcd;
use serde_json::json;

use crate::support::{FINISH_ONE, ended, finish_list, healthy, list, manifest, scratch};

/// Longest wait for anything here.
const BOUND: Duration = Duration::from_secs(40);

fn slowly() -> String {
    format!("sleep 0.3; {FINISH_ONE}")
}

/// The token of a loop's claim.
fn token(cluster: &Cluster, name: &str) -> String {
    let claims = cluster.json(&["get", "claims", "-o", "json"]);
    let of = |claim: &&serde_json::Value| claim.to_string().contains(name);
    let claim = items(&claims).find(of).expect("the loop has a claim");
    claim["claim"]["token"].as_i64().expect("a token").to_string()
}

#[test]
fn a_killed_scheduler_adopts_the_runs_it_finds() {
    let repo = list(&["a", "b", "c", "d", "e", "f"]);
    let mut cluster = Cluster::start(Options { ttl: 6, ..Options::default() });
    cluster.apply(&manifest("before", &scratch(json!(null), json!("true"))));
    ended(&cluster, "before", Phase::Converged, Reason::None);
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    cluster.wait("finish", "half-way", BOUND, |status| status.progress.accepted >= 1);
    let before = token(&cluster, "finish");
    cluster.schedulers.get_mut(&1).unwrap().kill();
    cluster.start_scheduler(1);
    cluster.wait("finish", "going on", BOUND, |status| status.progress.accepted >= 3);
    if cluster.status("finish").unwrap().phase == Phase::Running {
        assert_eq!(token(&cluster, "finish"), before);
    }
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!((status.runs, status.runs_lost), (1, 0), "adopted, never dispatched again");
    let journal = repo.journals().pop().unwrap();
    let subjects = repo.subjects(&journal);
    assert_eq!(subjects.iter().filter(|s| s.contains("takes over")).count(), 1, "{subjects:?}");
    // What had been stored before is all there.
    let earlier = cluster.status("before").unwrap();
    assert_eq!(earlier.phase, Phase::Converged);
    assert_eq!(cluster.log("n1").matches("beginning anew").count(), 0, "{}", cluster.log("n1"));
    healthy(&cluster, "healthy");
}

#[test]
fn everything_is_there_after_all_was_down() {
    let repo = list(&["a", "b", "c", "d"]);
    let mut cluster = Cluster::start(Options::default());
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    cluster.wait("finish", "half-way", BOUND, |status| status.progress.accepted >= 1);
    let uid = cluster.json(&["get", "loop", "finish", "-o", "json"])["metadata"]["uid"].clone();
    cluster.workers.get_mut("n1").unwrap().kill();
    cluster.schedulers.get_mut(&1).unwrap().kill();
    cluster.start_scheduler(1);
    cluster.start_worker("n1");
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!(status.progress.accepted, 4, "{:#?}", status.progress.recent);
    let object = cluster.json(&["get", "loop", "finish", "-o", "json"]);
    assert_eq!(object["metadata"]["uid"], uid);
    // Once more with nobody at work: the end is there too.
    cluster.schedulers.get_mut(&1).unwrap().stop();
    cluster.start_scheduler(1);
    let again = cluster.wait("finish", "there", BOUND, |_| true);
    assert_eq!((again.phase, again.progress), (status.phase, status.progress));
    healthy(&cluster, "healthy");
}

#[test]
fn a_second_scheduler_leads_when_the_first_is_killed() {
    if etcd::is_skipped() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let etcd = runtime.block_on(etcd::Etcd::start());
    let repo = list(&["a", "b", "c", "d", "e", "f"]);
    let options = Options { schedulers: 2, workers: 2, ttl: 6, ..Options::default() };
    let mut cluster = Cluster::start(Options { etcd: Some(etcd.endpoint()), ..options });
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    cluster.wait("finish", "half-way", BOUND, |status| status.progress.accepted >= 1);
    let before = token(&cluster, "finish");
    let leader = leader(&cluster);
    // Output comes through the leader, whichever scheduler is asked for it.
    let stand_by = cluster.address(3 - leader);
    let logs = cluster.cli(&["logs", "finish", "--addr", &stand_by]);
    assert!(logs.status.success(), "{logs:?}");
    cluster.schedulers.remove(&leader).unwrap().kill();
    let others = 3 - leader;
    cluster.until("the other leads", BOUND, |cluster| {
        cluster.log(&format!("s{others}")).contains("INFO leading").then_some(())
    });
    cluster.wait("finish", "going on", BOUND, |status| status.progress.accepted >= 3);
    if cluster.status("finish").is_some_and(|status| status.phase == Phase::Running) {
        assert_eq!(token(&cluster, "finish"), before);
    }
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!((status.runs, status.runs_lost), (1, 0));
    healthy(&cluster, "healthy");
    // The first comes back as a stand-by, and the other may go.
    cluster.start_scheduler(leader);
    cluster.wait_for_nodes(2);
}

#[test]
fn runs_go_on_when_all_schedulers_and_etcd_are_killed_together() {
    if etcd::is_skipped() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut etcd = runtime.block_on(etcd::Etcd::start());
    let repo = list(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    // A lease that outlives the outage on a slow machine: what is shown is adoption, not expiry.
    let options = Options { schedulers: 2, workers: 2, ttl: 30, ..Options::default() };
    let mut cluster = Cluster::start(Options { etcd: Some(etcd.endpoint()), ..options });
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    cluster.wait("finish", "half-way", BOUND, |status| status.progress.accepted >= 1);
    let before = token(&cluster, "finish");
    for scheduler in cluster.schedulers.values_mut() {
        scheduler.kill();
    }
    runtime.block_on(etcd.crash_and_restart());
    cluster.start_scheduler(1);
    cluster.start_scheduler(2);
    cluster.wait("finish", "going on", BOUND, |status| status.progress.accepted >= 3);
    if cluster.status("finish").is_some_and(|status| status.phase == Phase::Running) {
        assert_eq!(token(&cluster, "finish"), before);
    }
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!((status.runs, status.runs_lost), (1, 0), "adopted, never dispatched again");
    healthy(&cluster, "healthy");
}

/// The number of the scheduler that has nodes attached.
fn leader(cluster: &Cluster) -> usize {
    cluster.until("somebody leads", BOUND, |cluster| {
        (1..=2).find(|number| cluster.log(&format!("s{number}")).contains("a worker is attached"))
    })
}
