//! What operators do: take nodes out and back, and ask what is wrong. Leases are so long here that
//! anything that waited for one would break the bound.

use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options, items};
use flyball_tests::etcd;
use serde_json::Value;

use crate::support::{FINISH_ONE, ended, finish_list, healthy, list, processes};

/// Longest wait for anything here; a third of the leases.
const BOUND: Duration = Duration::from_secs(40);
const TTL: u32 = 120;

fn two_workers() -> Cluster {
    Cluster::start(Options { workers: 2, ttl: TTL, ..Options::default() })
}

#[track_caller]
fn done(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.cli(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn node(cluster: &Cluster, name: &str) -> Value {
    let found = cluster.json(&["get", "node", name, "-o", "json"]);
    items(&found).next().cloned().unwrap_or_default()
}

/// Waits until the loop runs on this node and has more iterations kept than before.
fn goes_on(cluster: &Cluster, name: &str, on: &str) {
    let before = cluster.status(name).map_or(0, |status| status.progress.accepted);
    cluster.wait(name, "going on there", BOUND, |status| {
        status.node.as_ref().is_some_and(|node| node.as_str() == on)
            && status.phase == Phase::Running
            && status.progress.accepted > before
    });
}

#[test]
fn a_planned_handover_waits_for_no_lease() {
    let names: Vec<String> = (0..40).map(|number| format!("i{number}")).collect();
    let repo = list(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut cluster = two_workers();
    cluster.apply(&finish_list("finish", &repo, &format!("sleep 0.2; {FINISH_ONE}"), ""));
    let begun = cluster.wait("finish", "begun", BOUND, |status| status.progress.accepted >= 1);
    let first = begun.node.unwrap().to_string();
    let other = if first == "n1" { "n2" } else { "n1" };
    // Drained: at the iteration's edge it goes to the other one at once.
    done(&cluster, &["drain", &first, "--reason", "kernel update", "--wait", "--timeout", "40s"]);
    goes_on(&cluster, "finish", other);
    // A drained node that restarts stays drained, and says who, why and until when.
    cluster.workers.get_mut(&first).unwrap().stop();
    cluster.start_worker(&first);
    cluster.wait_for_nodes(2);
    let record = node(&cluster, &first)["node"].clone();
    assert_eq!(
        (&record["mark"], &record["markReason"]),
        (&"Draining".into(), &"kernel update".into())
    );
    assert!(record["markBy"].as_str().unwrap().contains('@'), "{record}");
    assert!(record["markAt"].is_string() && record["markDeadline"].is_string(), "{record}");
    let wide = done(&cluster, &["get", "nodes", "-o", "wide"]);
    let hour = wide.contains("in 60m") || wide.contains("in 59m");
    assert!(wide.contains("kernel update") && hour, "{wide}");
    // Back in, and the other one's process is asked to end, as by systemctl stop.
    done(&cluster, &["uncordon", &first]);
    assert!(node(&cluster, &first)["node"]["markReason"].as_str().is_none_or(str::is_empty));
    cluster.workers.get_mut(other).unwrap().stop();
    goes_on(&cluster, "finish", &first);
    let status = cluster.status("finish").unwrap();
    assert_eq!((status.runs, status.runs_lost, status.unsealed), (3, 0, Vec::new()));
    assert_eq!(status.progress.iterations, status.progress.accepted, "no iteration was cut off");
    done(&cluster, &["cancel", "finish"]);
    ended(&cluster, "finish", Phase::Cancelled, Reason::ByUser);
}

#[test]
fn a_drain_stops_at_its_deadline_what_has_not_reached_the_edge() {
    let repo = list(&["a", "b", "c"]);
    let cluster = two_workers();
    let hang = cluster.dir().join("hung");
    // In its second iteration the first owner's agent would never end, nor die by a SIGTERM.
    let agent = format!(
        "grep -q '^a done' list.txt && test ! -e {dir} && {{ trap '' TERM; echo $$ > {dir}; sleep \
         1000 & wait; }}; {FINISH_ONE}",
        dir = hang.display()
    );
    cluster.apply(&finish_list("finish", &repo, &agent, ""));
    cluster.until("the agent hangs", BOUND, |_| hang.exists().then_some(()));
    let first = cluster.status("finish").unwrap().node.unwrap().to_string();
    done(&cluster, &["drain", &first, "--deadline", "1s", "--wait", "--timeout", "40s"]);
    assert_eq!(node(&cluster, &first)["status"]["runs"], serde_json::json!([]));
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_ne!(status.node.unwrap().as_str(), first);
    // Given back with proof: nothing is lost, nothing has to be sealed, nothing is left.
    assert_eq!((status.runs, status.runs_lost, status.unsealed), (2, 0, Vec::new()));
    assert_eq!(status.progress.accepted, 3, "{:#?}", status.progress.recent);
    assert_eq!(processes(&cluster, "finish"), Vec::<String>::new());
    done(&cluster, &["uncordon", &first]);
    healthy(&cluster, "healthy");
}

#[test]
fn an_uncordon_ends_a_drain_and_the_loop_is_done() {
    let repo = list(&["a", "b", "c", "d"]);
    let cluster = Cluster::start(Options { ttl: TTL, ..Options::default() });
    cluster.apply(&finish_list("finish", &repo, &format!("sleep 0.3; {FINISH_ONE}"), ""));
    cluster.wait("finish", "begun", BOUND, |status| status.progress.accepted >= 1);
    done(&cluster, &["drain", "n1"]);
    cluster.wait("finish", "handed over", BOUND, |status| status.phase == Phase::Pending);
    let told = done(&cluster, &["explain", "finish"]);
    assert!(told.contains("draining") && told.contains("uncordon a node"), "{told}");
    done(&cluster, &["uncordon", "n1"]);
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!((status.runs_lost, status.progress.accepted), (0, 4));
}

#[test]
fn the_doctor_and_the_claims_tell_the_same_from_leader_and_standby() {
    if etcd::is_skipped() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let etcd = runtime.block_on(etcd::Etcd::start());
    let options = Options { schedulers: 2, ttl: TTL, ..Options::default() };
    let cluster = Cluster::start(Options { etcd: Some(etcd.endpoint()), ..options });
    let repo = list(&["a", "b"]);
    cluster.apply(&finish_list("finish", &repo, &format!("sleep 3; {FINISH_ONE}"), ""));
    cluster.wait("finish", "running", BOUND, |status| status.phase == Phase::Running);
    let claim = |number: usize| {
        let address = cluster.address(number);
        cluster.until("the claim is told", BOUND, |cluster| {
            let found = cluster.json(&["--addr", &address, "get", "claims", "-o", "json"]);
            items(&found).next().map(|claim| claim["claim"].clone())
        })
    };
    let (one, two) = (claim(1), claim(2));
    assert_eq!((&one["token"], &one["incarnation"]), (&two["token"], &two["incarnation"]));
    for claim in [one, two] {
        let left = claim["leaseTtlSeconds"].as_i64().unwrap();
        assert!((1..=i64::from(TTL)).contains(&left), "{claim}");
        // Margins of 2 % and 500 ms, and the second that the store cuts off.
        let left_ms = claim["deadlineLeftMs"].as_i64().unwrap();
        let ttl_ms = i64::from(TTL) * 1000;
        let kept_back_ms = ttl_ms / 50 + 500;
        assert_eq!(left_ms, ((left + 1) * 1000).min(ttl_ms) - kept_back_ms, "{claim}");
    }
    let (one, two) = (cluster.address(1), cluster.address(2));
    let both = ["doctor", "--addr", &one, "--scheduler", &two, "-o", "json"];
    let diagnosis = cluster.json(&both);
    let findings = diagnosis["findings"].as_array().unwrap();
    let has = |code: &str| findings.iter().any(|one| one["code"] == code);
    for code in ["Reached", "Leader", "Standby", "Quorum", "Writes", "RoundTrip", "Ttl", "Node"] {
        assert!(has(code), "{code}: {diagnosis:#}");
    }
    let ttl = findings.iter().find(|one| one["code"] == "Ttl").unwrap();
    assert_eq!(ttl["figures"]["ttlSeconds"], i64::from(TTL), "{ttl}");
    let incomplete = |one: &&Value| one["level"] != "ok" && one["nextStep"] == "";
    assert_eq!(findings.iter().find(incomplete), None);
    // One that is not there is an error, and the exit code says so.
    let nobody = format!("unix://{}/nobody.sock", cluster.dir().display());
    let output = cluster.cli(&["doctor", "--scheduler", &nobody]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 error, "));
}

#[test]
fn the_schedulers_time_to_live_wins() {
    let options = Options { ttl: 9, ..Options::default() };
    let cluster = Cluster::start(options);
    let page = done(&cluster, &["describe", "node", "n1"]);
    assert!(page.contains("Containment:") && page.contains("Lease:"), "{page}");
    let left = node(&cluster, "n1")["status"]["leaseTtl"].as_i64().unwrap();
    assert!((1..=9).contains(&left), "{left}");
    for bad in ["1", "301", "x"] {
        let output = cluster.cli(&["worker", &format!("--ttl={bad}")]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && text.contains("--ttl"), "{bad}: {text}");
    }
}
