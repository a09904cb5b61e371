//! A worker is lost: killed, or it stands still with everything that belongs to it, or nothing passes between it and
//! the scheduler. Measured until the loop's agent runs on the other node, from its checkpoint and under a new seal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::etcd::{self, Etcd};
use flyball_tests::measure::{Samples, at_most, monotonic_ns};
use flyball_tests::poll::until;
use flyball_tests::repo::Repo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::relay::Link;
use crate::{agent, show};

const NAME: &str = "work";
const BOUND: Duration = Duration::from_secs(60);
/// Lease time to live in the trials that have to wait for its end, seconds.
const TTL: u32 = 2;
/// etcd looks for leases that have ended twice a second.
const CHECK: Duration = Duration::from_millis(500);

/// A loop that works on two nodes, and can be taken from either.
struct Trials {
    cluster: Cluster,
    repo: Repo,
    /// Starts of the agent so far: nodes keep the output of the newest iterations only.
    starts: BTreeSet<i128>,
    /// How many of them belong to earlier trials.
    seen: usize,
}

impl Trials {
    fn begin(trials: usize, options: Options) -> Self {
        let items: String = (0..trials + 8).map(|n| format!("item{n} open\n")).collect();
        let repo = Repo::with(&[("list.txt", &items), ("src/lib.rs", "//! code\n")]);
        let env = vec![("FLYBALL_LOG".to_owned(), "info,flyball_worker::git=debug".to_owned())];
        let worker_args = agent::shown();
        let options = Options { workers: 2, env, worker_args, ..options };
        let cluster = Cluster::start(options);
        cluster.apply(&manifest(&repo));
        Self { cluster, repo, starts: BTreeSet::new(), seen: 0 }
    }

    /// Waits for the agent that does not end, and gives its node.
    fn busy_node(&mut self) -> String {
        let wanted = (self.seen + 2) / 2 * 2;
        until("the agent is at work", BOUND, || (self.look() >= wanted).then_some(()));
        self.seen = self.starts.len();
        let status = self.cluster.status(NAME).unwrap();
        status.node.unwrap().to_string()
    }

    /// Waits for the next start of the agent, milliseconds after `from`.
    fn recovered(&mut self, from: i128) -> f64 {
        until("the agent is at work elsewhere", BOUND, || (self.look() > self.seen).then_some(()));
        let next = self.starts.iter().nth(self.seen).copied().unwrap();
        (next - from) as f64 / 1e6
    }

    /// How many starts there have been.
    fn look(&mut self) -> usize {
        let nodes = ["n1", "n2"].map(|node| self.cluster.node_dir(node));
        self.starts.extend(agent::stamps(nodes.into_iter(), "agent"));
        self.starts.len()
    }
}

fn manifest(repo: &Repo) -> String {
    let check = "sed -n 's/ done$//p' list.txt | sed 's/^/ok /'; \
                 sed -n 's/ open$//p' list.txt | sed 's/^/open /'; ! grep -q ' open$' list.txt";
    json!({
        "apiVersion": "flyball.dev/v1",
        "kind": "Loop",
        "metadata": { "name": NAME },
        "spec": {
            "goal": "Finish every item of the list.",
            "workspace": { "git": { "url": repo.path(), "ref": "main" } },
            "owns": ["list.txt"],
            "checks": [{
                "name": "list",
                "run": check,
                "score": { "regex": { "pass": r"^ok (?P<name>\w+)", "fail": r"^open (?P<name>\w+)" } },
            }],
            "agent": { "command": agent::agent() },
            "governor": {
                "iterations": 10_000,
                "backoff": { "initial": "1ms", "max": "1ms" },
            },
        },
    })
    .to_string()
}

/// One fetch and one atomic push of a commit by bare git, milliseconds: what sealing a journal takes at
/// the least.
fn bare_seal(repo: &Repo, dir: &Path, trial: usize) -> f64 {
    let git = |arguments: &[&str]| {
        let done = Command::new("git").args(arguments).current_dir(dir).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    };
    if trial == 0 {
        git(&["init", "-q", "--bare", "."]);
        git(&["config", "user.name", "x"]);
        git(&["config", "user.email", "x@localhost"]);
    }
    let url = repo.path().display().to_string();
    let begun = Instant::now();
    git(&["fetch", "-q", "--no-tags", &url, "+refs/heads/main:refs/base"]);
    let empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    let commit = git(&["commit-tree", "-m", "seal", empty]);
    git(&["push", "-q", "--atomic", &url, &format!("{commit}:refs/bare/{trial}")]);
    begun.elapsed().as_secs_f64() * 1e3
}

/// Killed with everything else in good order: its guard tells that nothing is left.
pub(crate) fn killed(trials: usize) {
    println!("worker killed (SIGKILL) -> agent at work on the other node");
    let mut stage = Trials::begin(trials, Options { ttl: 6, ..Options::default() });
    let dir = tempfile::tempdir().unwrap();
    let (mut took, mut floor) = (Samples::default(), Samples::default());
    let mut parts = Parts::default();
    for trial in 0..trials {
        let victim = stage.busy_node();
        floor.add(bare_seal(&stage.repo, dir.path(), trial));
        let from = monotonic_ns();
        stage.cluster.workers.get_mut(&victim).unwrap().kill();
        took.add(stage.recovered(from));
        parts.add(&stage.cluster, &victim);
        stage.cluster.start_worker(&victim);
        stage.cluster.wait_for_nodes(2);
    }
    show("recovery", &took, "ms");
    println!("  goal p50 within 20 ms: {}", at_most(&took, 20.0));
    show("bare git: one fetch and one push", &floor, "ms");
    let ratio = took.over(&floor);
    println!("  recovery as a multiple of that: {ratio}");
    parts.show();
}

/// Stopped together with its guard, as a machine that stands still.
pub(crate) fn frozen(trials: usize) {
    println!("worker and guard stopped (SIGSTOP) -> agent at work on the other node, TTL {TTL} s");
    let Some((_runtime, etcd)) = etcd() else { return };
    let mut stage = Trials::begin(trials, expiring(&etcd));
    let send = |cluster: &Cluster, victim: &str, signal: Signal| {
        let worker = cluster.workers[victim].pid();
        let all = [guard_of(worker), worker];
        all.into_iter().for_each(|pid| kill(Pid::from_raw(pid), signal).unwrap());
    };
    let stop = |cluster: &Cluster, victim: &str| send(cluster, victim, Signal::SIGSTOP);
    let go_on = |cluster: &Cluster, victim: &str| send(cluster, victim, Signal::SIGCONT);
    silenced(&mut stage, trials, stop, go_on);
}

/// Nothing passes between it and the scheduler; it works on until its deadline.
pub(crate) fn cut(trials: usize) {
    println!("worker cut off from the scheduler -> agent at work on the other node, TTL {TTL} s");
    let Some((runtime, etcd)) = etcd() else { return };
    let dir = tempfile::Builder::new().prefix("fb").tempdir().unwrap();
    let socket = |name: &str| dir.path().join(format!("{name}.sock"));
    let unix = |name: &str| format!("unix://{}", socket(name).display());
    let open = |node: &str| Link::open(runtime.handle(), &socket(node), socket("scheduler"));
    let nodes = ["n1", "n2"];
    let links: BTreeMap<&str, Link> = nodes.into_iter().map(|node| (node, open(node))).collect();
    let options = Options {
        links: nodes.into_iter().map(|node| (node.to_owned(), unix(node))).collect(),
        // Nobody is to be sent past the links.
        scheduler_args: vec![
            format!("--listen={}", unix("scheduler")),
            format!("--advertise={}", unix("nobody")),
        ],
        ..expiring(&etcd)
    };
    let mut stage = Trials::begin(trials, options);
    silenced(&mut stage, trials, |_, victim| links[victim].cut(), |_, victim| links[victim].mend());
}

/// Where leases end when a real etcd looks for them, twice a second.
fn etcd() -> Option<(Runtime, Etcd)> {
    if etcd::is_skipped() {
        println!("  skipped: no etcd");
        return None;
    }
    let runtime = Runtime::new().unwrap();
    let etcd = runtime.block_on(Etcd::start());
    Some((runtime, etcd))
}

fn expiring(etcd: &Etcd) -> Options {
    Options { ttl: TTL, etcd: Some(etcd.endpoint()), ..Options::default() }
}

/// Nobody tells of the loss: the lease has to end.
fn silenced(
    stage: &mut Trials,
    trials: usize,
    silence: impl Fn(&Cluster, &str),
    mend: impl Fn(&Cluster, &str),
) {
    let dir = tempfile::tempdir().unwrap();
    let (mut took, mut ratio) = (Samples::default(), Samples::default());
    for trial in 0..trials {
        let victim = stage.busy_node();
        let commit = bare_seal(&stage.repo, dir.path(), trial) / 1e3;
        // Right after a heartbeat it would take longest; the phase is left to chance.
        silence(&stage.cluster, &victim);
        let seconds = stage.recovered(monotonic_ns()) / 1e3;
        took.add(seconds * 1e3);
        let bound = f64::from(TTL) + CHECK.as_secs_f64() + commit;
        ratio.add(seconds / bound);
        mend(&stage.cluster, &victim);
        stage.cluster.wait_for_nodes(2);
    }
    show("recovery", &took, "ms");
    println!("  as a multiple of TTL + 0.5 s + one seal: {ratio} ({})", at_most(&ratio, 1.15));
}

/// The guard is the worker's child.
fn guard_of(worker: i32) -> i32 {
    let tasks = std::fs::read_dir(format!("/proc/{worker}/task")).unwrap().flatten();
    let children: String = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .collect::<Vec<_>>()
        .join(" ");
    let is_guard = |pid: &&str| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').any(|argument| argument == "guard")
    };
    children.split_whitespace().find(is_guard).unwrap().parse().unwrap()
}

/// Where the time went, from the lines of the logs.
#[derive(Default)]
struct Parts {
    lost_to_assigned: Samples,
    assigned_to_taken: Samples,
    taken_to_begun: Samples,
    git: Samples,
}

impl Parts {
    fn add(&mut self, cluster: &Cluster, victim: &str) {
        let other = if victim == "n1" { "n2" } else { "n1" };
        let (scheduler, worker) = (cluster.log("s1"), cluster.log(other));
        let last = |log: &str, words: &str| {
            let line = log.lines().rev().find(|line| line.contains(words));
            line.and_then(|line| line.split(' ').next()?.parse::<jiff::Timestamp>().ok())
        };
        let lost = last(&scheduler, "its run was lost");
        let assigned = last(&scheduler, &format!("assigned to {other}"));
        let taken = last(&worker, "takes over");
        let begun =
            last(&worker, "iteration begins").or_else(|| last(&scheduler, " begins at distance"));
        let between = |samples: &mut Samples, from: Option<jiff::Timestamp>, to| {
            if let (Some(from), Some(to)) = (from, to) {
                let span: jiff::SignedDuration = jiff::Timestamp::duration_since(to, from);
                samples.add(span.as_secs_f64() * 1e3);
            }
        };
        between(&mut self.lost_to_assigned, lost, assigned);
        between(&mut self.assigned_to_taken, assigned, taken);
        between(&mut self.taken_to_begun, taken, begun);
        self.git.add(git_calls(&worker, taken));
    }

    fn show(&self) {
        println!("  of it, by the times in the logs:");
        show("  loss noted -> assigned elsewhere", &self.lost_to_assigned, "ms");
        show("  assigned -> received", &self.assigned_to_taken, "ms");
        show("  received -> sealed, restored, checked, about to act", &self.taken_to_begun, "ms");
        show("  of which in git's processes, one after the other", &self.git, "ms");
    }
}

/// Milliseconds in processes of git since the takeover.
fn git_calls(log: &str, since: Option<jiff::Timestamp>) -> f64 {
    let Some(since) = since else { return f64::NAN };
    let of = |line: &str| {
        let at = line.split(' ').next()?.parse::<jiff::Timestamp>().ok()?;
        let elapsed = line.split("elapsed_us=").nth(1)?.split(' ').next()?;
        (at >= since).then(|| elapsed.parse::<f64>().ok()).flatten()
    };
    log.lines().filter_map(of).sum::<f64>() / 1e3
}
