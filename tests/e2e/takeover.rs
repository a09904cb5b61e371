//! A worker dies, is stopped, loses its guard or a step: its loop goes on from its checkpoint, under
//! one owner at a time, and the node is as good as new afterwards.

use std::time::Duration;

use flyball_core::status::{LoopStatus, Phase, Reason};
use flyball_tests::cluster::{Cluster, Options, items};
use flyball_tests::poll::until;
use flyball_tests::repo::Repo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::{FINISH_ONE, ended, finish_list, healthy, list, manifest, processes, scratch};

/// Longest wait for anything here.
const BOUND: Duration = Duration::from_secs(40);

pub(crate) fn slowly() -> String {
    format!("sleep 0.3; {FINISH_ONE}")
}

/// Waits until some of the list is done, and gives the node that does it.
pub(crate) fn half_way(cluster: &Cluster, name: &str) -> String {
    let half = cluster.wait(name, "half-way", BOUND, |status| status.progress.accepted >= 2);
    half.node.unwrap().to_string()
}

/// Everything was done once, and the journal shows who did it.
#[track_caller]
pub(crate) fn done_once(cluster: &Cluster, repo: &Repo, name: &str, items: u32) -> LoopStatus {
    let status = ended(cluster, name, Phase::Converged, Reason::None);
    assert_eq!(status.progress.accepted, items, "{:#?}", status.progress.recent);
    assert!(!repo.file("main", "list.txt").contains("open"));
    let journal = repo.journals().pop().unwrap();
    let subjects = repo.subjects(&journal);
    let takeovers = subjects.iter().filter(|subject| subject.contains("takes over")).count();
    // Every run that was ever said to be at work had taken over, exactly once. One that was lost between
    // its assignment and its first report may have, or may not have come so far: on a busy machine the
    // next owner's node can be lost in that moment too.
    let at_work = cluster.schedulers.keys().map(|n| cluster.log(&format!("s{n}")));
    let at_work: usize = at_work.map(|log| begun(&log, name)).sum();
    let runs = usize::try_from(status.runs).unwrap();
    assert!(
        (at_work.max(1)..=runs).contains(&takeovers),
        "{takeovers} takeovers by {at_work} to {runs} runs: {subjects:#?}"
    );
    status
}

/// How many runs of a loop the scheduler with this log saw at work.
fn begun(log: &str, name: &str) -> usize {
    let line = |line: &&str| {
        line.contains("reason=\"Running\"") && line.contains(&format!("default/{name} "))
    };
    log.lines().filter(line).count()
}

fn incarnation(cluster: &Cluster, node: &str) -> String {
    let found = cluster.json(&["get", "nodes", "-o", "json"]).to_string();
    assert!(found.contains(node));
    std::fs::read_to_string(cluster.node_dir(node).join("incarnation")).unwrap()
}

#[test]
fn a_killed_workers_loop_goes_on_from_its_checkpoint() {
    let repo = list(&["a", "b", "c", "d", "e", "f"]);
    let mut cluster = Cluster::start(Options { workers: 2, ..Options::default() });
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    let victim = half_way(&cluster, "finish");
    cluster.workers.get_mut(&victim).unwrap().kill();
    let status = done_once(&cluster, &repo, "finish", 6);
    assert_ne!(status.node.unwrap().as_str(), victim);
    assert_eq!(status.runs, 2);
}

#[test]
fn a_stopped_workers_agent_is_killed_before_its_loop_goes_on_elsewhere() {
    let repo = list(&["a", "b", "c", "d"]);
    let cluster = Cluster::start(Options { workers: 2, ..Options::default() });
    // In its third iteration the first owner's agent would never end; the second owner's does.
    let hang = cluster.dir().join("hung");
    let agent = format!(
        "grep -q '^b done' list.txt && test ! -e {dir} && {{ echo $$ > {dir}; sleep 1000; }}; {FINISH_ONE}",
        dir = hang.display()
    );
    cluster.apply(&finish_list("finish", &repo, &agent, ""));
    cluster.until("the agent hangs", BOUND, |_| {
        std::fs::read_to_string(&hang).ok().filter(|text| !text.is_empty())
    });
    let victim = cluster.status("finish").unwrap().node.unwrap().to_string();
    let before = incarnation(&cluster, &victim);
    cluster.workers[&victim].signal(Signal::SIGSTOP);
    // The guard kills by itself: nobody can ask it to, since its worker does not run.
    cluster.until("the agent is dead", BOUND, |cluster| {
        processes(cluster, "finish").is_empty().then_some(())
    });
    let status = done_once(&cluster, &repo, "finish", 4);
    assert_ne!(status.node.unwrap().as_str(), victim);
    assert_eq!(status.runs, 2);
    cluster.workers[&victim].signal(Signal::SIGCONT);
    cluster.until("the node has a new incarnation", BOUND, |cluster| {
        (incarnation(cluster, &victim) != before).then_some(())
    });
    cluster.wait_for_nodes(2);
    let other = if victim == "n1" { "n2" } else { "n1" };
    assert!(cluster.cli(&["cordon", other]).status.success());
    healthy(&cluster, "healthy");
}

#[test]
fn a_worker_whose_guard_is_killed_begins_anew() {
    let repo = list(&["a", "b", "c", "d"]);
    let cluster = Cluster::start(Options::default());
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    half_way(&cluster, "finish");
    let before = incarnation(&cluster, "n1");
    kill(Pid::from_raw(guard_of(cluster.workers["n1"].pid())), Signal::SIGKILL).unwrap();
    let status = done_once(&cluster, &repo, "finish", 4);
    assert!(status.runs >= 2, "{status:#?}");
    assert_ne!(incarnation(&cluster, "n1"), before);
    assert_eq!(processes(&cluster, "finish"), Vec::<String>::new());
    healthy(&cluster, "healthy");
}

#[test]
fn a_lost_step_is_a_lost_run_and_not_a_lost_loop() {
    let repo = list(&["a", "b", "c"]);
    let cluster = Cluster::start(Options::default());
    let mark = cluster.dir().join("mark");
    let agent = format!(
        "test -e {mark} || {{ echo > {mark}; sleep 1000; }}; {FINISH_ONE}",
        mark = mark.display()
    );
    cluster.apply(&finish_list("finish", &repo, &agent, ""));
    let found = cluster.until("the agent hangs", BOUND, |cluster| {
        mark.exists().then(|| processes(cluster, "finish")).filter(|found| !found.is_empty())
    });
    // The parent of the oldest is the process that would tell how the step ends.
    let pids: Vec<i32> = found.iter().map(|pid| pid.parse().unwrap()).collect();
    let first = *pids.iter().min().unwrap();
    let init = parent_of(first);
    assert!(!pids.contains(&init) && init != cluster.workers["n1"].pid());
    kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
    let status = done_once(&cluster, &repo, "finish", 3);
    assert_eq!(status.runs, 2);
    assert_eq!(processes(&cluster, "finish"), Vec::<String>::new());
}

#[test]
fn a_restarted_worker_does_not_wait_for_its_old_lease() {
    let repo = list(&["a", "b", "c", "d"]);
    // So long a lease that waiting for it would break the bound.
    let mut cluster = Cluster::start(Options { ttl: 120, ..Options::default() });
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    half_way(&cluster, "finish");
    cluster.workers.get_mut("n1").unwrap().kill();
    cluster.start_worker("n1");
    let status = done_once(&cluster, &repo, "finish", 4);
    assert_eq!(status.runs, 2);
    // What was proven to be gone needs no seal.
    assert_eq!(status.unsealed, Vec::new());
    assert_eq!(std::fs::read_dir(cluster.node_dir("n1").join("runs")).unwrap().count(), 0);
}

#[test]
fn a_worker_that_is_asked_to_end_hands_over_at_the_iterations_edge() {
    let repo = list(&["a", "b", "c", "d"]);
    let mut cluster = Cluster::start(Options { workers: 2, ..Options::default() });
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    let first = half_way(&cluster, "finish");
    cluster.workers.get_mut(&first).unwrap().stop();
    let status = done_once(&cluster, &repo, "finish", 4);
    assert_ne!(status.node.unwrap().as_str(), first);
    assert_eq!((status.runs, status.runs_lost), (2, 0));
    assert_eq!(status.progress.iterations, 4, "no iteration was cut off");
}

#[test]
fn a_drained_node_hands_over_at_the_iterations_edge() {
    let repo = list(&["a", "b", "c", "d"]);
    let cluster = Cluster::start(Options { workers: 2, ..Options::default() });
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    let first = half_way(&cluster, "finish");
    let drained = cluster.cli(&["drain", &first, "--reason", "maintenance", "--wait"]);
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    // Nothing of it is left there when the command says so.
    let claims = cluster.json(&["get", "claims", "-o", "json"]);
    assert!(items(&claims).all(|claim| claim["claim"]["node"] != first.as_str()), "{claims}");
    let status = done_once(&cluster, &repo, "finish", 4);
    assert_ne!(status.node.unwrap().as_str(), first);
    assert_eq!((status.runs, status.runs_lost, status.progress.iterations), (2, 0, 4));
    assert!(cluster.cli(&["uncordon", &first]).status.success());
    healthy(&cluster, "healthy");
}

#[test]
fn a_name_that_is_taken_is_refused_in_clear_words() {
    let cluster = Cluster::start(Options::default());
    let mut second = cluster.start_namesake("n1", "namesake", "elsewhere");
    let mut squatter = cluster.start_namesake("n9", "squatter", "n1");
    let status = until("the second gives up", BOUND, || second.ended());
    assert!(!status.success());
    let status = until("the one in its directory gives up", BOUND, || squatter.ended());
    assert!(!status.success());
    let log = cluster.log("squatter");
    assert!(log.contains("another worker uses the data directory"), "{log}");
    let log = cluster.log("namesake");
    assert!(log.contains("another worker is registered as n1"), "{log}");
    assert!(log.contains("--node"), "says what to do: {log}");
    // The first has not noticed.
    assert!(!cluster.log("n1").contains("beginning anew"), "{}", cluster.log("n1"));
    healthy(&cluster, "healthy");
}

#[test]
fn a_node_that_cannot_work_does_not_hold_its_loops() {
    let repo = list(&["a", "b"]);
    let cluster = Cluster::start(Options { workers: 2, ..Options::default() });
    let block = |node: &str| std::fs::write(cluster.node_dir(node).join("runs"), "in the way");
    block("n1").unwrap();
    assert!(cluster.cli(&["cordon", "n2"]).status.success());
    cluster.apply(&manifest("waits", &scratch(json!("touch x"), json!("test -e x"))));
    // Not its fault, so it neither fails nor counts as lost; it waits, longer each time, and says why.
    let status = cluster.wait("waits", "tried again", BOUND, |status| status.start_faults >= 2);
    assert_eq!((status.phase.is_terminal(), status.runs_lost), (false, 0), "{status:#?}");
    cluster.until("explain says why", BOUND, |cluster| {
        let told = cluster.cli(&["explain", "waits"]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        (told.contains("n1 could not start") && told.contains("avoided for")).then_some(())
    });
    assert!(cluster.cli(&["uncordon", "n2"]).status.success());
    for name in ["one", "two", "three"] {
        cluster.apply(&manifest(name, &scratch(json!("touch x"), json!("test -e x"))));
    }
    for name in ["waits", "one", "two", "three"] {
        let status = ended(&cluster, name, Phase::Converged, Reason::None);
        assert_eq!(status.node.unwrap().as_str(), "n2");
    }
    cluster.apply(&finish_list("finish", &repo, FINISH_ONE, ""));
    done_at_last(&cluster, "finish");
}

#[track_caller]
fn done_at_last(cluster: &Cluster, name: &str) {
    ended(cluster, name, Phase::Converged, Reason::None);
}

/// The guard is the worker's child.
pub(crate) fn guard_of(worker: i32) -> i32 {
    let children = std::fs::read_to_string(format!("/proc/{worker}/task/{worker}/children"));
    let mut all = children.unwrap_or_default();
    // Children belong to the thread that made them.
    for task in std::fs::read_dir(format!("/proc/{worker}/task")).unwrap().flatten() {
        all += &std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.push(' ');
    }
    let is_guard = |pid: &&str| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').any(|argument| argument == "guard")
    };
    all.split_whitespace().find(is_guard).expect("a worker has a guard").parse().unwrap()
}

fn parent_of(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    parent.trim().parse().unwrap()
}
