//! What the gateway adds to a model call, and how many it passes: direct, through nginx as a pure pass-through, through
//! ours with everything on (key, route, budget, meter, spans and metrics to a collector), and through other gateways
//! where they are installed (`--install` does it). One stand-in server and one load generator for all, which take
//! turns; all processes share the machine.
//!
//! `-- cells`: whole calls, plain and streamed. `-- slow`: 200 slow streams, and what is added to each event.
//! `-- memory`: over 100 000 streamed calls. `--without-peers`: only direct and ours.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first fault")]

#[path = "gateway/load.rs"]
mod load;
#[path = "gateway/peers.rs"]
mod peers;
#[path = "gateway/roles.rs"]
mod roles;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use flyball_tests::measure::{Samples, at_least, at_most, cpu_seconds};
use load::{Cell, Target, Wanted};

/// One cell lasts so long, of which the first fifth is not counted.
const CELL: Duration = Duration::from_secs(2);
/// How often each cell is measured; the paths take turns.
const ROUNDS: usize = 3;

/// How long slow streams are listened to.
const SLOW: Duration = Duration::from_secs(4);

/// A process of this bench, ended with it.
struct Role {
    child: Child,
    address: SocketAddr,
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Role {
    /// Starts this program in a role, and waits for its address.
    fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(args)
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap() }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Resident memory, in MiB.
    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["stand-in"] => roles::stand_in(),
        ["collector"] => roles::collector(),
        ["gateway", upstream] => roles::gateway(upstream),
        wanted => bench(wanted),
    }
    ExitCode::SUCCESS
}

fn bench(wanted: &[&str]) {
    let unknown = |arg: &&&str| {
        !matches!(**arg, "cells" | "slow" | "memory" | "--install" | "--without-peers")
    };
    if let Some(arg) = wanted.iter().find(unknown) {
        println!("{arg}: unknown; there are cells, slow, memory, --install, --without-peers");
        return;
    }
    if wanted.contains(&"--install") {
        peers::install();
    }
    let stand_in = Role::start(&["stand-in"], &[]);
    let collector = Role::start(&["collector"], &[]);
    let endpoint = format!("http://{}", collector.address);
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let gateway = Role::start(&["gateway", &stand_in.address.to_string()], &env);
    let others = match wanted.contains(&"--without-peers") {
        true => Vec::new(),
        false => peers::start(stand_in.address),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("load average before: {}", std::fs::read_to_string("/proc/loadavg").unwrap().trim());

    let mut targets = vec![Target::new("direct", stand_in.address, roles::KEY)];
    targets.push(Target::new("flyball", gateway.address, roles::KEY));
    for (_, target) in &others {
        peers::wait(&runtime, target);
        targets.push(target.clone());
    }
    let all = !wanted.iter().any(|arg| matches!(*arg, "cells" | "slow" | "memory"));
    if all || wanted.contains(&"cells") {
        cells(&runtime, &targets, &gateway);
    }
    if all || wanted.contains(&"slow") {
        slow(&runtime, &targets);
    }
    if all || wanted.contains(&"memory") {
        memory(&runtime, &targets, &gateway);
    }
    println!("load average after: {}", std::fs::read_to_string("/proc/loadavg").unwrap().trim());
}

/// The figures of one path over all rounds.
#[derive(Default)]
struct Figures {
    rate: Samples,
    p50: Samples,
    p99: Samples,
    first: Samples,
    failed: usize,
}

fn cells(runtime: &tokio::runtime::Runtime, targets: &[Target], gateway: &Role) {
    let mut plain = f64::NAN;
    for (connections, stream) in [(1, false), (1, true), (32, false), (32, true)] {
        let mut figures: Vec<Figures> = targets.iter().map(|_| Figures::default()).collect();
        let mut cpu = 0.0;
        let mut calls = 0;
        for _ in 0..ROUNDS {
            for (target, figures) in targets.iter().zip(&mut figures) {
                let before = cpu_seconds(gateway.pid());
                let cell = runtime.block_on(load::run(target, connections, stream, CELL));
                if target.name == "flyball" {
                    cpu += cpu_seconds(gateway.pid()) - before;
                    calls += cell.total();
                }
                figures.add(&cell);
            }
        }
        let kind = if stream { "stream" } else { "plain" };
        println!("\n{kind}, {connections} connection(s); req/s; p50 us; p99 us; first byte p50 us");
        let direct = &figures[0];
        for (target, one) in targets.iter().zip(&figures) {
            println!(
                "  {:<14} {}; {}; {}; {}  failed {}",
                target.name, one.rate, one.p50, one.p99, one.first, one.failed
            );
            println!(
                "  {:<14} added p50 {:.0} us, p99 {:.0} us; {:.3} of direct's req/s",
                "",
                one.p50.median() - direct.p50.median(),
                one.p99.median() - direct.p99.median(),
                one.rate.median() / direct.rate.median()
            );
        }
        println!(
            "  flyball's gateway: {:.4} ms of processor time a call",
            cpu * 1000.0 / calls as f64
        );
        let ours = targets.iter().position(|one| one.name == "flyball");
        let ours = ours.map_or(f64::NAN, |at| figures[at].p50.median());
        if stream {
            let ratio: Samples = [ours / plain].into_iter().collect();
            println!("  streamed p50 over plain p50: {ratio}  {}", at_most(&ratio, 1.5));
        }
        plain = ours;
        goals(targets, &figures, connections, stream);
    }
}

/// Goals: 110 us are what sglang-router adds on a quiet machine of two cores.
fn goals(targets: &[Target], figures: &[Figures], connections: usize, stream: bool) {
    let of = |name: &str| targets.iter().position(|one| one.name == name).map(|at| &figures[at]);
    let (Some(direct), Some(ours)) = (of("direct"), of("flyball")) else { return };
    if connections == 1 && !stream {
        let added: Samples = [ours.p50.median() - direct.p50.median()].into_iter().collect();
        println!("  added p50 us: {}", at_most(&added, 110.0));
    }
    if let Some(router) = of("sglang-router") {
        println!("  req/s over sglang-router's: {}", at_least(&ours.rate.over(&router.rate), 1.0));
    }
    if let Some(litellm) = of("litellm") {
        println!("  req/s over LiteLLM's: {}", at_least(&ours.rate.over(&litellm.rate), 100.0));
    }
}

impl Figures {
    fn add(&mut self, cell: &Cell) {
        self.rate.add(cell.rate());
        self.p50.add(cell.whole.quantile(0.5));
        self.p99.add(cell.whole.quantile(0.99));
        self.first.add(cell.first.quantile(0.5));
        self.failed += cell.failed;
    }
}

/// 200 streams of an event every 50 ms, each with the time it was sent at. The paths take turns.
fn slow(runtime: &tokio::runtime::Runtime, targets: &[Target]) {
    for (wanted, how) in [(Wanted::Slow, "each in its own time"), (Wanted::InStep, "in step")] {
        println!(
            "\n200 slow streams, an event every 50 ms, {how}: delay of one event, us: p50; p99"
        );
        let mut figures = vec![(Samples::default(), Samples::default()); targets.len()];
        for _ in 0..ROUNDS {
            for (target, (p50, p99)) in targets.iter().zip(&mut figures) {
                let got = runtime.block_on(load::slow(target, 200, wanted, SLOW));
                if got.failed > 0 {
                    println!("  {:<14} {} streams failed", target.name, got.failed);
                }
                p50.add(got.delays.quantile(0.5));
                p99.add(got.delays.quantile(0.99));
            }
        }
        for (target, (p50, p99)) in targets.iter().zip(&figures) {
            println!("  {:<14} {p50}; {p99}", target.name);
        }
        let p99 = |name: &str| {
            let at = targets.iter().position(|target| target.name == name)?;
            figures.get(at).map(|(_, p99)| p99.median())
        };
        if let (Some(direct), Some(ours)) = (p99("direct"), p99("flyball")) {
            let added: Samples = [(ours - direct) / 1000.0].into_iter().collect();
            // In step, what counts is how fast 200 events at once pass two cores that all processes share.
            let verdict = match wanted {
                Wanted::Slow => at_most(&added, 1.0),
                _ => String::new(),
            };
            println!("  added p99 ms: {added}  {verdict}");
        }
    }
}

/// Memory of the gateway while calls stream through it.
fn memory(runtime: &tokio::runtime::Runtime, targets: &[Target], gateway: &Role) {
    let Some(ours) = targets.iter().find(|target| target.name == "flyball") else { return };
    println!("\nmemory of the gateway, MiB, over streamed calls");
    let (mut calls, mut first) = (0, None);
    while calls < 100_000 {
        let cell = runtime.block_on(load::run(ours, 32, true, Duration::from_secs(2)));
        calls += cell.total();
        let now = gateway.memory();
        println!("  {calls:>8} calls  {now:.1}");
        first.get_or_insert(now);
    }
    let grown: Samples = [gateway.memory() - first.unwrap_or_default()].into_iter().collect();
    println!("  grown since the first 2 s: {grown}  {}", at_most(&grown, 4.0));
}
