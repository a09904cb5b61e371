//! F33: the collector of traces accepts connections and never answers.

use std::net::TcpListener;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F33",
    title: "telemetry collector swallows everything",
    usual: true,
    owners: Owners::Change,
    run,
};

/// Far above what a process needs, far below what unsent spans without a bound would take.
const MEMORY_MAX_KIB: u64 = 400 * 1024;

fn resident_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

fn run(attempt: &Attempt) -> Outcome {
    // Connections are made by the kernel and never taken.
    let hole = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    hole.set_nonblocking(true).expect("a socket");
    let url = format!("http://{}", hole.local_addr().expect("an address"));
    let env = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), url),
        // So few that most spans are dropped: work goes on with a queue that is full.
        ("OTEL_BSP_MAX_QUEUE_SIZE".to_owned(), "8".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "200".to_owned()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT".to_owned(), "500".to_owned()),
    ];
    let mut fleet = Fleet::start(attempt, Shape { env, ..Shape::default() });
    fleet.fault("swallow all telemetry");
    let victim = fleet.victim();
    fleet.kill_worker(&victim.node);
    fleet.lost_everything(&victim);
    fleet.start_worker(&victim.node);
    flyball_tests::poll::until("somebody wants to send", NOTICE_MAX, || hole.accept().ok());
    fleet.bite("a connection was never answered");
    // Each says how many are lost.
    for name in fleet.workers.keys().filter(|name| **name != victim.node) {
        fleet.logs(name, 0, &["spans were lost", "lost="]);
    }
    for (name, process) in fleet.workers.iter().chain(&fleet.schedulers) {
        let kib = resident_kib(process.pid());
        assert!(kib < MEMORY_MAX_KIB, "{name} has grown to {kib} KiB");
    }
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
