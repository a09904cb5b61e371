//! A store that is wiped while what it had begun still lives: the next installation finds the journals of the one
//! before, says so, and waits; two agents never act on the same paths. What has ended is in nobody's way.

use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::repo::Repo;
use nix::sys::signal::Signal;

use crate::restored::{shows_its_life, tells_of_another};
use crate::rogue::{BOUND, said};
use crate::support::{FINISH_ONE, ended, finish_list, list, parked, processes};

/// Outlives whatever the new installation does before it is judged, and ends before the test's patience does.
const LONG_TTL: u32 = 40;

/// The scheduler comes up with an empty store.
fn wipe(cluster: &mut Cluster) {
    cluster.schedulers.get_mut(&1).unwrap().kill();
    std::fs::remove_dir_all(cluster.dir().join("s1")).unwrap();
    cluster.start_scheduler(1);
    cluster.until("the empty store is served", BOUND, |cluster| {
        cluster.cli(&["get", "loops"]).status.success().then_some(())
    });
}

/// A loop whose agent is at work, under its journal's name.
fn begun(cluster: &Cluster, repo: &Repo) -> String {
    cluster.apply(&finish_list("first", repo, &shows_its_life(cluster), ""));
    let life = cluster.dir().join("life");
    cluster.until("the first agent acts", BOUND, |_| life.exists().then_some(()));
    repo.journals().pop().unwrap()
}

/// Checks that it waits for the installation before, and that this is told with what to do.
fn waits_for(cluster: &Cluster, name: &str, journal: &str) {
    let status = parked(cluster, name, Reason::OtherInstallation, journal);
    let installation = journal.split('/').nth(2).unwrap();
    assert!(status.message.contains(installation), "{}", status.message);
    assert!(status.parked_until.is_some(), "it looks again by itself");
    let told = cluster.cli(&["explain", name]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("OtherInstallation") && told.contains("--delete"), "{told}");
}

/// What the operator is told to do, once nothing runs any more; then the loop goes on.
fn give_up(cluster: &Cluster, repo: &Repo, journal: &str, wanted: &str) {
    repo.git(&["push", "--quiet", ".", "--delete", journal]);
    // It would go on by itself within a minute; a changed spec is faster.
    cluster.apply(&format!("{wanted}  governor: {{patience: 7}}\n"));
    ended(cluster, "second", Phase::Converged, Reason::None);
    assert!(!cluster.dir().join("two").exists(), "two owners at a time");
}

#[test]
fn a_wiped_store_is_told_by_its_workers_and_by_the_journals() {
    let mut cluster = Cluster::start(Options { ttl: 6, ..Options::default() });
    let repo = list(&["a", "b"]);
    let journal = begun(&cluster, &repo);
    wipe(&mut cluster);
    let wanted = finish_list("second", &repo, &tells_of_another(&cluster), "");
    cluster.apply(&wanted);
    said(&cluster, "s1", "OtherInstallation");
    let told = cluster.cli(&["doctor"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    for part in ["node n1 worked for installation", "see that every worker"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    waits_for(&cluster, "second", &journal);
    cluster.until("nothing of the first is left", BOUND, |cluster| {
        processes(cluster, "first").is_empty().then_some(())
    });
    give_up(&cluster, &repo, &journal, &wanted);
}

/// Nobody but the repository knows: the store is empty, the new worker was never here, the old one is frozen.
#[test]
fn a_wiped_store_under_a_frozen_worker_makes_no_second_owner() {
    let mut cluster = Cluster::start(Options { ttl: LONG_TTL, ..Options::default() });
    let repo = list(&["a", "b"]);
    let journal = begun(&cluster, &repo);
    cluster.workers["n1"].signal(Signal::SIGSTOP);
    wipe(&mut cluster);
    cluster.start_worker("n2");
    cluster.wait_for_nodes(1);
    let wanted = finish_list("second", &repo, &tells_of_another(&cluster), "");
    cluster.apply(&wanted);
    waits_for(&cluster, "second", &journal);
    assert!(lives(&cluster), "the first agent was to be alive meanwhile");
    assert!(!cluster.log("s1").contains("OtherInstallation"), "no worker could tell");
    cluster.workers.get_mut("n1").unwrap().kill();
    cluster.until("nothing of the first is left", BOUND, |cluster| {
        processes(cluster, "first").is_empty().then_some(())
    });
    give_up(&cluster, &repo, &journal, &wanted);
}

fn lives(cluster: &Cluster) -> bool {
    let life = || std::fs::read_to_string(cluster.dir().join("life")).unwrap_or_default();
    let before = life();
    (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        life() != before
    })
}

#[test]
fn what_ended_before_the_store_was_wiped_is_in_nobodys_way() {
    let mut cluster = Cluster::start(Options::default());
    let repo = list(&["a"]);
    cluster.apply(&finish_list("first", &repo, FINISH_ONE, ""));
    ended(&cluster, "first", Phase::Converged, Reason::None);
    let stuck = finish_list("stuck", &repo, "true", "  governor: {patience: 1}\n");
    cluster.apply(&stuck.replace("! grep -q ' open$' list.txt", "false"));
    ended(&cluster, "stuck", Phase::Unreachable, Reason::NoProgress);
    assert_eq!(repo.journals().len(), 2);
    repo.commit(&[("list.txt", "a done\nb open\n")], "one more");
    wipe(&mut cluster);
    cluster.apply(&finish_list("first", &repo, FINISH_ONE, ""));
    let status = ended(&cluster, "first", Phase::Converged, Reason::None);
    assert_eq!(status.runs, 1, "{status:#?}");
    assert_eq!(repo.file("main", "list.txt"), "a done\nb done\n");
}
