//! Every component is restarted, one after the other, while loops are submitted and worked on: nothing
//! that was acknowledged is lost, nothing is done twice, and no planned restart costs a run.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_core::status::{LoopStatus, Phase};
use flyball_tests::cluster::{Cluster, Options, items};
use flyball_tests::etcd;
use flyball_tests::members::Members;
use flyball_tests::poll::until;
use flyball_tests::repo::Repo;
use nix::sys::signal::Signal;
use tokio::net::{TcpListener, UnixStream};

use crate::support::{FINISH_ONE, finish_list, list};

/// Longest wait for anything here.
const BOUND: Duration = Duration::from_secs(120);
/// Most loops submitted; the restarts are over long before on any machine that is not very slow.
const LOOPS_MAX: usize = 60;
/// Fewest loops submitted, also where the restarts are over soon.
const LOAD_MIN: usize = 8;
/// Pause between two submissions, so that there are some at every restart.
const REST: Duration = Duration::from_millis(400);

/// What one submitter was told.
#[derive(Default)]
struct Submitted {
    acknowledged: Vec<(String, Repo)>,
    /// What it was told instead, if anything ever failed.
    refused: Vec<String>,
}

/// Submits a loop after the other, to whichever scheduler, until told to stop.
fn submit(command: impl Fn(usize, &str) -> std::process::Output, over: &AtomicBool) -> Submitted {
    let mut told = Submitted::default();
    for number in 0..LOOPS_MAX {
        if number >= LOAD_MIN && over.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("roll-{number}");
        let repo = list(&["a", "b", "c"]);
        let manifest = finish_list(&name, &repo, &format!("sleep 0.2; {FINISH_ONE}"), "");
        // A scheduler that is away is no reason to give up: the other one takes the same request.
        let mut output = command(number, &manifest);
        if !output.status.success() {
            output = command(number + 1, &manifest);
        }
        if output.status.success() {
            told.acknowledged.push((name, repo));
        } else {
            told.refused.push(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        std::thread::sleep(REST);
    }
    told
}

/// Converged once: every item done by one accepted iteration, and published by one push.
fn check_once(cluster: &Cluster, name: &str, repo: &Repo) -> LoopStatus {
    let status = cluster.wait_for_end(name, Phase::Converged);
    assert_eq!(status.progress.accepted, 3, "{name}: {status:#?}");
    assert_eq!(status.runs_lost, 0, "{name}: {status:#?}");
    assert_eq!(repo.file("main", "list.txt"), "a done\nb done\nc done\n");
    let journals = repo.journals();
    assert_eq!(journals.len(), 1, "one life, one journal: {journals:?}");
    let subjects = repo.subjects(&journals[0]);
    let published = subjects.iter().filter(|subject| subject.contains("published")).count();
    assert_eq!(published, 1, "{subjects:#?}");
    status
}

#[test]
fn rolling_restarts_of_everything_lose_nothing() {
    if etcd::is_skipped() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut members = Members::prepare(3, &[]);
    runtime.block_on(members.start());
    let endpoints: Vec<String> =
        members.numbers().map(|n| runtime.block_on(over_tcp(members.socket(n)))).collect();
    let options = Options { schedulers: 2, workers: 3, ttl: 6, ..Options::default() };
    let mut cluster = Cluster::start(Options { etcd: Some(endpoints.join(",")), ..options });
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::new(Mutex::new(Submitted::default()));
    let submitter = std::thread::spawn({
        let (over, told) = (over.clone(), told.clone());
        let addresses = [cluster.address(1), cluster.address(2)];
        let apply = cluster.client();
        move || {
            let command = |number: usize, manifest: &str| {
                apply.run(&["--addr", &addresses[number % 2], "apply", "-f", "-"], manifest)
            };
            *told.lock().unwrap() = submit(command, &over);
        }
    });
    some_ended(&cluster, 2);
    for number in [1, 2] {
        cluster.schedulers.get_mut(&number).unwrap().stop();
        cluster.start_scheduler(number);
        cluster.wait_for_nodes(3);
    }
    for node in ["n1", "n2", "n3"] {
        cluster.workers.get_mut(node).unwrap().stop();
        cluster.start_worker(node);
        cluster.wait_for_nodes(3);
    }
    for number in members.numbers() {
        members.signal(number, Signal::SIGTERM);
        until("the member has ended", BOUND, || members.has_ended(number).then_some(()));
        members.start_member(number);
        until("the member answers", BOUND, || runtime.block_on(answers(&members, number)));
    }
    let ended = ended(&cluster).len();
    some_ended(&cluster, ended + 2);
    over.store(true, Ordering::Relaxed);
    submitter.join().unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told.refused, Vec::<String>::new(), "{}", cluster.logs());
    let mut runs = 0;
    for (name, repo) in &told.acknowledged {
        runs += check_once(&cluster, name, repo).runs;
    }
    // The restarts have met work: some loops were handed over, and none of them lost.
    assert!(usize::try_from(runs).unwrap() > told.acknowledged.len(), "nothing was handed over");
}

/// A TCP address that leads to a Unix socket, whoever listens there at the time: etcd's client takes
/// only one address of the other kind.
async fn over_tcp(socket: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                if let Ok(mut far) = UnixStream::connect(socket).await {
                    // Either side may go away at any time here.
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    address
}

/// The member answers what only one that is in touch with the others can.
async fn answers(members: &Members, number: usize) -> Option<()> {
    let mut client = members.client(number).await.ok()?;
    client.get("/", None).await.ok().map(drop)
}

fn ended(cluster: &Cluster) -> BTreeSet<String> {
    let output = cluster.cli(&["get", "loops", "-o", "json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let converged = |object: &&serde_json::Value| object["status"]["phase"] == "Converged";
    let name = |object: &serde_json::Value| object["metadata"]["name"].to_string();
    items(&found).filter(converged).map(name).collect()
}

fn some_ended(cluster: &Cluster, wanted: usize) {
    let what = format!("{wanted} loops have converged");
    cluster.until(&what, BOUND, |cluster| (ended(cluster).len() >= wanted).then_some(()));
}
