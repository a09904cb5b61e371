//! An etcd that is restored from an old snapshot while workers live that it does not know: two never own the same.

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::etcd;

use crate::rogue::{BOUND, Rogue, said, save};
use crate::support::{FINISH_ONE, ended, finish_list, list};

/// An agent that shows by a number that grows whether it lives.
pub(crate) fn shows_its_life(cluster: &Cluster) -> String {
    let life = cluster.dir().join("life").display().to_string();
    format!(
        "i=0; while true; do i=$((i + 1)); echo $i > {life}.new; mv {life}.new {life}; sleep 0.02; done"
    )
}

/// An agent that tells if that one lives, and then finishes an item.
pub(crate) fn tells_of_another(cluster: &Cluster) -> String {
    let dir = cluster.dir().display().to_string();
    format!(
        "a=$(cat {dir}/life); sleep 0.5; test \"$a\" = \"$(cat {dir}/life)\" || echo two > {dir}/two; {FINISH_ONE}"
    )
}

#[test]
fn a_store_restored_under_live_workers_makes_no_second_owner() {
    if let Some((_etcd, cluster, owner)) = restored_under_live_workers(false) {
        said(&cluster, "s1", "StoreBehind");
        let status = cluster.status("second").unwrap();
        assert_ne!(status.node.unwrap().as_str(), owner, "it is behind what that node knows");
    }
}

/// With raised revisions the node is not refused, and what it runs is not known all the same.
#[test]
fn nor_does_one_with_raised_revisions() {
    if let Some((_etcd, cluster, owner)) = restored_under_live_workers(true) {
        said(&cluster, &owner, "attach-again");
        assert!(cluster.log(&owner).contains("not the owner any more"), "{}", cluster.log(&owner));
    }
}

/// A run is begun, the store goes back to before it, and the schedulers are restarted: nobody but the worker knows what
/// it runs. Gives the cluster, after a loop with the same resources has converged, and that node.
fn restored_under_live_workers(raised: bool) -> Option<(Rogue, Cluster, String)> {
    if etcd::is_skipped() {
        return None;
    }
    let mut rogue = Rogue::start(&[]);
    let mut cluster = rogue.cluster(Options { workers: 2, ttl: 12, ..Options::default() });
    let repo = list(&["a", "b"]);
    let snapshot = cluster.dir().join("snapshot");
    save(&rogue, &snapshot);
    for number in 0..100 {
        rogue.put("raise", format!("{number}")).unwrap();
    }
    cluster.apply(&finish_list("first", &repo, &shows_its_life(&cluster), ""));
    let life = cluster.dir().join("life");
    cluster.until("the first agent acts", BOUND, |_| life.exists().then_some(()));
    let owner = cluster.status("first").unwrap().node.unwrap().to_string();
    cluster.schedulers.get_mut(&1).unwrap().kill();
    let Rogue { runtime, etcd } = &mut rogue;
    runtime.block_on(etcd.restore(&snapshot));
    for number in 0..if raised { 200 } else { 0 } {
        rogue.put("raise", format!("{number}")).unwrap();
    }
    cluster.start_scheduler(1);
    assert_eq!(cluster.status("first").map(|status| status.phase), None, "it is forgotten");
    cluster.apply(&finish_list("second", &repo, &tells_of_another(&cluster), ""));
    if !raised {
        let told = cluster.until("what it waits for is told", BOUND, |cluster| {
            let told = cluster.cli(&["explain", "second"]);
            let told = String::from_utf8_lossy(&told.stdout).into_owned();
            told.contains("has attached and runs nothing unknown").then_some(told)
        });
        assert!(told.contains(&owner), "{told}");
    }
    ended(&cluster, "second", Phase::Converged, Reason::None);
    assert!(!cluster.dir().join("two").exists(), "two owners at a time");
    Some((rogue, cluster, owner))
}
