//! The base branch moves under a loop: accepted work is carried over and measured again.

use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::repo::Repo;

use crate::support::{FINISH_ONE, ended, finish_list, list};

/// Half-way: some work is accepted, some is left.
fn half_way(cluster: &Cluster, name: &str) {
    cluster.wait(name, "half-way", Duration::from_secs(30), |status| status.progress.accepted >= 1);
}

fn slowly() -> String {
    format!("sleep 0.4; {FINISH_ONE}")
}

#[test]
fn accepted_work_is_carried_over_to_a_moved_base() {
    let repo = list(&["a", "b", "c", "d"]);
    let cluster = Cluster::start(Options::default());
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    half_way(&cluster, "finish");
    repo.commit(&[("other/news.txt", "news\n")], "by somebody else");
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!(status.progress.accepted, 4, "{:#?}", status.progress.recent);
    assert_eq!(repo.file("main", "other/news.txt"), "news\n");
    assert!(!repo.file("main", "list.txt").contains("open"));
    // Linear: the work is on top of what somebody else did, which is still there.
    let subjects = repo.subjects("main");
    let foreign = subjects.iter().position(|subject| subject == "by somebody else");
    assert_eq!(foreign, Some(4), "{subjects:?}");
    let journal = repo.journals().pop().unwrap();
    let rebased = repo.subjects(&journal).iter().filter(|s| s.contains("rebased")).count();
    assert!(rebased >= 1, "{:?}", repo.subjects(&journal));
}

#[test]
fn work_that_conflicts_with_a_moved_base_is_done_again_on_it() {
    let repo = list(&["a", "b", "c"]);
    let cluster = Cluster::start(Options::default());
    let agent = format!("grep -l conflicts \"$FLYBALL_BRIEF\" && echo told; {}", slowly());
    cluster.apply(&finish_list("finish", &repo, &agent, ""));
    half_way(&cluster, "finish");
    // The same lines, otherwise.
    repo.commit(&[("list.txt", "c open\nb open\na open\n")], "by somebody else");
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!(repo.file("main", "list.txt"), "c done\nb done\na done\n", "{status:#?}");
    assert!(repo.subjects("main").contains(&"by somebody else".to_owned()));
    let told = (1..=status.progress.iterations).any(|number| {
        let number = number.to_string();
        let log = cluster.cli(&["logs", "finish", "--iteration", &number, "--stream", "agent"]);
        String::from_utf8_lossy(&log.stdout).contains("told")
    });
    assert!(told, "a brief says what happened to the accepted work");
}

#[test]
fn a_base_that_comes_to_need_no_work_converges_on_it() {
    let repo = list(&["a", "b"]);
    let cluster = Cluster::start(Options::default());
    cluster.apply(&finish_list("finish", &repo, "sleep 0.4; exit 1", ""));
    cluster.wait("finish", "running", Duration::from_secs(30), |status| {
        status.progress.iterations >= 1
    });
    repo.commit(&[("list.txt", "a done\nb done\n")], "by somebody else");
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!((status.progress.accepted, status.progress.published), (0, None));
    assert_eq!(repo.subjects("main").len(), 2);
}

#[test]
fn a_base_that_is_deleted_under_a_loop_is_a_missing_ref() {
    let repo = list(&["a", "b", "c", "d", "e", "f"]);
    let cluster = Cluster::start(Options::default());
    cluster.apply(&finish_list("finish", &repo, &slowly(), ""));
    half_way(&cluster, "finish");
    Repo::git(&repo, &["update-ref", "-d", "refs/heads/main"]);
    ended(&cluster, "finish", Phase::Failed, Reason::MissingRef);
    assert!(!repo.has("main"), "nothing is published in its place");
}
