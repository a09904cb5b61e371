//! One trace per loop, from the command line on and across a takeover; and a collector that is dead
//! costs nothing but its data.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use flyball_core::status::Phase;
use flyball_tests::cluster::Cluster;
use flyball_tests::collector::{collector, exporting_to};
use flyball_tests::poll;

use crate::support::{FINISH_ONE, finish_list, list};

#[test]
fn one_trace_from_the_command_line_across_a_takeover() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (collector, address) = collector(&runtime);
    let repo = list(&["a", "b", "c", "d", "e", "f"]);
    let mut cluster = Cluster::start(exporting_to(&address));
    let agent = format!("sleep 0.3; echo trace $TRACEPARENT; {FINISH_ONE}");
    cluster.apply(&finish_list("traced", &repo, &agent, ""));
    let before = cluster
        .wait("traced", "begun", Duration::from_secs(30), |status| status.progress.accepted >= 1);
    // A span that ended just before the kill may die with its worker: one has to be here.
    poll::until("an iteration's span arrives", Duration::from_secs(20), || {
        collector.spans().iter().any(|span| span.name == "iteration").then_some(())
    });
    cluster.workers.get_mut(before.node.unwrap().as_str()).unwrap().kill();
    cluster.wait_for_end("traced", Phase::Converged);
    let traces = |name: &str| -> BTreeSet<Vec<u8>> {
        let seen = collector.spans();
        seen.iter().filter(|span| span.name == name).map(|span| span.trace.clone()).collect()
    };
    let wait = Duration::from_secs(20);
    let root = poll::until("the root span arrives", wait, || traces("loop.apply").pop_first());
    let wanted = ["loop.submit", "iteration", "invoke_agent command", "check list", "run"];
    for name in wanted {
        poll::until(&format!("a span {name} of the trace arrives"), wait, || {
            traces(name).contains(&root).then_some(())
        });
    }
    let workers: BTreeSet<String> = {
        let seen = collector.spans();
        let ours = seen.iter().filter(|span| span.trace == root && span.name == "iteration");
        ours.map(|span| span.instance.clone()).collect()
    };
    assert_eq!(workers.len(), 2, "both workers' iterations are in the trace: {workers:?}");
    // The agent was told too.
    let hex: String = root.iter().map(|byte| format!("{byte:02x}")).collect();
    let logs = cluster.cli(&["logs", "traced", "--stream", "agent"]);
    assert!(String::from_utf8_lossy(&logs.stdout).contains(&hex), "{logs:?}");
}

#[test]
fn a_dead_collector_costs_nothing_but_its_data() {
    // It accepts connections into its backlog and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let repo = list(&["a", "b"]);
    let cluster = Cluster::start(exporting_to(&address));
    cluster.apply(&finish_list("untraced", &repo, FINISH_ONE, ""));
    cluster.wait_for_end("untraced", Phase::Converged);
}
