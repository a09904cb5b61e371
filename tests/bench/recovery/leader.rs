//! The leading of two schedulers on a real etcd is killed, or asked to end. Measured until the first
//! check of a loop runs that was submitted to the other one right after.

use std::time::Duration;

use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::etcd::{self, Etcd};
use flyball_tests::measure::{Samples, at_most, monotonic_ns};
use flyball_tests::poll::until;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{agent, show};

const BOUND: Duration = Duration::from_secs(60);
/// Election TTL of the schedulers that [`Cluster`] starts, seconds.
const ELECTION_TTL: f64 = 2.0;

/// SIGKILL: the next leads when the lease of the last has ended.
pub(crate) fn killed(trials: usize) {
    println!("leading scheduler killed (SIGKILL) -> check of a new loop started");
    let took = measure(trials, Signal::SIGKILL);
    show("next assignment at work", &took, "ms");
    let seconds: Samples = [took.median() / 1e3].into_iter().collect();
    println!("  goal election TTL + 1 s: {}", at_most(&seconds, ELECTION_TTL + 1.0));
}

/// SIGTERM: it resigns.
pub(crate) fn ended(trials: usize) {
    println!("leading scheduler asked to end (SIGTERM) -> check of a new loop started");
    let took = measure(trials, Signal::SIGTERM);
    show("next assignment at work", &took, "ms");
}

fn measure(trials: usize, signal: Signal) -> Samples {
    if etcd::is_skipped() {
        println!("  skipped: no etcd");
        return Samples::default();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let etcd = runtime.block_on(Etcd::start());
    let options = Options {
        schedulers: 2,
        ttl: 6,
        etcd: Some(etcd.endpoint()),
        worker_args: agent::shown(),
        ..Options::default()
    };
    let mut cluster = Cluster::start(options);
    let mut took = Samples::default();
    for trial in 0..trials {
        let leader = leader(&cluster);
        let manifest = manifest(trial, &agent::stamp());
        let mut ended = cluster.schedulers.remove(&leader).unwrap();
        let from = monotonic_ns();
        ended.signal(signal);
        // The command line goes to the one that is left.
        cluster.apply(&manifest);
        let node = cluster.node_dir("n1");
        let stream = format!("check/only-{trial}");
        let started = until("the check has started", BOUND, || {
            agent::stamps(std::iter::once(node.clone()), &stream).first().copied()
        });
        took.add((started - from) as f64 / 1e6);
        until("it has ended", BOUND, || ended.ended());
        cluster.start_scheduler(leader);
        cluster.wait_for_nodes(1);
    }
    took
}

/// The number of the scheduler that leads.
fn leader(cluster: &Cluster) -> usize {
    cluster.until("the leader is known", BOUND, |cluster| {
        cluster.schedulers.keys().copied().find(|number| {
            let address = cluster.address(*number);
            let output = cluster.cli(&["--addr", &address, "version", "-o", "json"]);
            let version: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
            version.is_some_and(|version| version["server"]["leader"] == true)
        })
    })
}

fn manifest(trial: usize, check: &[String]) -> String {
    let name = format!("after-{trial}");
    json!({
        "apiVersion": "flyball.dev/v1",
        "kind": "Loop",
        "metadata": { "name": name },
        "spec": {
            "goal": "be done",
            "owns": [format!("bench:{name}")],
            "checks": [{ "name": format!("only-{trial}"), "run": check }],
        },
    })
    .to_string()
}
