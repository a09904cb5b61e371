//! A loop converges on a real repository, one item per iteration.

use flyball_core::record::Decision;
use flyball_core::status::Phase;
use flyball_tests::cluster::{Cluster, Options};

use crate::support::{FINISH_ONE, finish_list, list};

#[test]
fn a_list_is_finished_one_item_per_iteration() {
    let repo = list(&["a", "b", "c"]);
    let cluster = Cluster::start(Options::default());
    cluster.apply(&finish_list("finish", &repo, FINISH_ONE, ""));
    let status = cluster.wait_for_end("finish", Phase::Converged);
    assert_eq!((status.progress.iterations, status.progress.accepted), (3, 3));
    assert!(status.progress.recent.iter().all(|one| one.decision == Decision::Kept));
    assert_eq!(repo.file("main", "list.txt"), "a done\nb done\nc done\n");
    assert_eq!(status.progress.published.unwrap(), repo.git(&["rev-parse", "main"]).trim());
    // The journal tells the story: takeover, three iterations, published.
    let journal = repo.journals().pop().unwrap();
    assert_eq!(repo.subjects(&journal).len(), 5, "{:?}", repo.subjects(&journal));
    // Nothing of the run is left on the node.
    assert_eq!(std::fs::read_dir(cluster.node_dir("n1").join("runs")).unwrap().count(), 0);
}

#[test]
fn checks_that_pass_need_no_agent() {
    let repo = list(&[]);
    let cluster = Cluster::start(Options::default());
    cluster.apply(&finish_list("nothing", &repo, "exit 1", ""));
    let status = cluster.wait_for_end("nothing", Phase::Converged);
    assert_eq!(status.progress.iterations, 0);
    assert_eq!(status.progress.published, None);
}
