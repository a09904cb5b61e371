//! A dead worker's guard tells that nothing is left, so that nobody waits for the lease; and nobody
//! else can say so.

use std::time::{Duration, Instant};

use flyball_core::status::Phase;
use flyball_proto::transport::{self, Credential};
use flyball_proto::v1::ReportGoneRequest;
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_tests::cluster::{Cluster, Options, items};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tonic::Code;

use crate::support::{finish_list, healthy, list, manifest, scratch};
use crate::takeover::{done_once, guard_of, half_way, slowly};

/// So long a lease that waiting for its end would break every bound here.
const LONG: u32 = 300;

fn long_leases() -> Options {
    Options { workers: 2, ttl: LONG, ..Options::default() }
}

#[test]
fn a_killed_workers_loop_goes_on_elsewhere_without_waiting_for_the_lease() {
    let repo = list(&["a", "b", "c", "d", "e", "f"]);
    let mut cluster = Cluster::start(long_leases());
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    let victim = half_way(&cluster, "finish");
    cluster.workers.get_mut(&victim).unwrap().kill();
    let status = done_once(&cluster, &repo, "finish", 6);
    assert_ne!(status.node.unwrap().as_str(), victim);
    assert_eq!(status.runs, 2);
    // The node comes back as if nothing had been.
    cluster.start_worker(&victim);
    cluster.wait_for_nodes(2);
    healthy(&cluster, "healthy");
}

#[test]
fn a_worker_that_ends_gives_its_lease_back() {
    let mut cluster = Cluster::start(Options { ttl: LONG, ..Options::default() });
    cluster.workers.get_mut("n1").unwrap().stop();
    // From another directory it cannot show that the earlier one is gone; it need not.
    let _again = cluster.start_namesake("n1", "again", "elsewhere");
    cluster.apply(&manifest("one", &scratch(json!("touch x"), json!("test -e x"))));
    cluster.wait_for_end("one", Phase::Converged);
}

#[test]
fn without_worker_and_guard_the_lease_decides() {
    let repo = list(&["a", "b", "c", "d"]);
    let mut cluster = Cluster::start(Options { workers: 2, ttl: 6, ..Options::default() });
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    let victim = half_way(&cluster, "finish");
    let guard = guard_of(cluster.workers[&victim].pid());
    let killed = Instant::now();
    kill(Pid::from_raw(guard), Signal::SIGKILL).unwrap();
    cluster.workers.get_mut(&victim).unwrap().kill();
    cluster.wait("finish", "lost", Duration::from_secs(40), |status| status.runs_lost > 0);
    // Heartbeats come every two seconds, so the lease had a good part of its time left.
    assert!(killed.elapsed() > Duration::from_secs(1), "nobody knew before the lease ended");
    let status = done_once(&cluster, &repo, "finish", 4);
    assert_ne!(status.node.unwrap().as_str(), victim);
}

#[test]
fn a_foreign_report_is_refused() {
    let repo = list(&["a", "b", "c", "d"]);
    let cluster = Cluster::start(long_leases());
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    let node = half_way(&cluster, "finish");
    let (incarnation, lease) = claim_of(&cluster, &node);
    let other = if node == "n1" { "n2" } else { "n1" };
    for (node, incarnation, lease) in [
        (node.as_str(), "0123456789abcdef0123456789abcdef", lease),
        (node.as_str(), incarnation.as_str(), lease + 1),
        (other, incarnation.as_str(), lease),
    ] {
        let refused = report(&cluster, node, incarnation, lease);
        assert_eq!(refused, Err(Code::FailedPrecondition));
    }
    for (node, incarnation, lease) in [("N 1", "x", 1), ("n1", "", 1), ("n1", "x", 0)] {
        let refused = report(&cluster, node, incarnation, lease);
        assert_eq!(refused, Err(Code::InvalidArgument));
    }
    assert_eq!(report(&cluster, "n7", "x", 1), Ok(false));
    let status = done_once(&cluster, &repo, "finish", 4);
    assert_eq!((status.node.unwrap().as_str(), status.runs), (node.as_str(), 1));
}

#[test]
fn a_lie_that_knows_everything_costs_work_only() {
    let repo = list(&["a", "b", "c", "d", "e", "f"]);
    // Heartbeats are what tells the node.
    let cluster = Cluster::start(Options { workers: 2, ttl: 4, ..Options::default() });
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    let node = half_way(&cluster, "finish");
    let (incarnation, lease) = claim_of(&cluster, &node);
    assert_eq!(report(&cluster, &node, &incarnation, lease), Ok(true));
    assert_ne!(report(&cluster, &node, &incarnation, lease), Ok(true), "it ends once");
    let status = done_once(&cluster, &repo, "finish", 6);
    assert!(status.runs >= 2, "{status:#?}");
}

/// Incarnation and lease of the owner of the only claim.
fn claim_of(cluster: &Cluster, node: &str) -> (String, i64) {
    let claims = cluster.json(&["get", "claims", "-o", "json"]);
    let claim =
        items(&claims).find(|claim| claim["claim"]["node"] == node).unwrap()["claim"].clone();
    let lease = i64::from_str_radix(claim["leaseId"].as_str().unwrap(), 16).unwrap();
    (claim["incarnation"].as_str().unwrap().to_owned(), lease)
}

/// Says that a life is over; whether the scheduler ended it.
fn report(cluster: &Cluster, node: &str, life: &str, lease_id: i64) -> Result<bool, Code> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = cluster.address(1).parse().unwrap();
        let connection = transport::connect(&address, Credential::none()).await.unwrap();
        let (node, incarnation) = (node.to_owned(), life.to_owned());
        let request = ReportGoneRequest { node, incarnation, lease_id };
        let answer = SessionsClient::new(connection).report_gone(request).await;
        answer.map(|answer| answer.into_inner().ended).map_err(|status| status.code())
    })
}
