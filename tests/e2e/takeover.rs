//! A worker dies; its loop goes on elsewhere from its checkpoint.

use std::time::Duration;

use flyball_core::status::Phase;
use flyball_tests::cluster::{Cluster, Options};

use crate::support::{FINISH_ONE, finish_list, list};

#[test]
fn a_killed_workers_loop_goes_on_from_its_checkpoint() {
    let repo = list(&["a", "b", "c", "d", "e", "f"]);
    let mut cluster = Cluster::start(Options { workers: 2, ..Options::default() });
    let slowly = format!("sleep 0.3; {FINISH_ONE}");
    cluster.apply(&finish_list("finish", &repo, &slowly, ""));
    let before = cluster.wait("finish", "half-way", Duration::from_secs(30), |status| {
        status.progress.accepted >= 2
    });
    let victim = before.node.unwrap().to_string();
    cluster.workers.get_mut(&victim).unwrap().kill();
    let status = cluster.wait_for_end("finish", Phase::Converged);
    assert_ne!(status.node.unwrap().as_str(), victim);
    assert_eq!(status.runs, 2);
    // Nothing accepted was done again.
    assert_eq!(status.progress.accepted, 6);
    let journal = repo.journals().pop().unwrap();
    let takeovers = repo.subjects(&journal).iter().filter(|s| s.contains("takes over")).count();
    assert_eq!(takeovers, 2);
}
