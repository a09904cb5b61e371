//! Loops that want the same paths take turns; others run side by side and both publish.

use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::repo::Repo;
use serde_json::json;

use crate::support::{FINISH_ONE, ended, finish_list, list, manifest, spec, url};

/// Longest wait for anything here.
const BOUND: Duration = Duration::from_secs(30);

#[test]
fn the_second_loop_waits_and_knows_for_whom() {
    let repo = list(&["a", "b", "c"]);
    let cluster = Cluster::start(Options { workers: 2, ..Options::default() });
    cluster.apply(&finish_list("first", &repo, &format!("sleep 0.5; {FINISH_ONE}"), ""));
    cluster.wait("first", "running", BOUND, |status| status.phase == Phase::Running);
    let mut second = spec(&url(&repo), json!("echo z done >> list.txt"), json!("grep z list.txt"));
    second["owns"] = json!(["*.txt"]);
    second["workspace"]["git"]["publish"] = json!({"branch": "main"});
    cluster.apply(&manifest("second", &second));
    let explained = cluster.until("explain names the blocker", BOUND, |cluster| {
        let output = cluster.cli(&["explain", "second"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("default/first").then_some(text)
    });
    assert!(explained.contains("list.txt") && explained.contains("*.txt"), "{explained}");
    assert_eq!(cluster.status("second").unwrap().phase, Phase::Pending);
    let first = ended(&cluster, "first", Phase::Converged, Reason::None);
    let second = ended(&cluster, "second", Phase::Converged, Reason::None);
    // It began only after the first had ended, and saw its result.
    assert!(second.started_at >= first.finished_at, "{first:#?}{second:#?}");
    assert_eq!(repo.file("main", "list.txt"), "a done\nb done\nc done\nz done\n");
    assert_eq!((first.runs, second.runs), (1, 1));
}

#[test]
fn a_lost_loop_keeps_its_place_before_those_that_wait_for_it() {
    let repo = list(&["a", "b", "c", "d"]);
    let mut cluster = Cluster::start(Options { workers: 2, ..Options::default() });
    cluster.apply(&finish_list("first", &repo, &format!("sleep 0.4; {FINISH_ONE}"), ""));
    let half = cluster.wait("first", "half-way", BOUND, |status| status.progress.accepted >= 1);
    cluster.apply(&finish_list("second", &repo, FINISH_ONE, ""));
    cluster.until("the second waits", BOUND, |cluster| {
        cluster.status("second").filter(|status| status.phase == Phase::Pending)
    });
    cluster.workers.get_mut(half.node.unwrap().as_str()).unwrap().kill();
    let first = ended(&cluster, "first", Phase::Converged, Reason::None);
    let second = ended(&cluster, "second", Phase::Converged, Reason::None);
    assert_eq!((first.runs, first.progress.accepted), (2, 4), "{first:#?}{}", cluster.logs());
    assert!(second.started_at >= first.finished_at, "{first:#?}{second:#?}");
    assert_eq!((second.runs, second.progress.accepted), (1, 0), "nothing was left to do");
}

#[test]
fn disjoint_paths_run_side_by_side_and_both_publish() {
    let repo = Repo::with(&[("left/list", "0\n"), ("right/list", "0\n")]);
    let options = Options { workers: 2, slots: 1, ..Options::default() };
    let cluster = Cluster::start(options);
    // Each waits for the other to have begun: one after the other would never end.
    let meet = cluster.dir().join("meet");
    std::fs::create_dir(&meet).unwrap();
    for (name, other) in [("left", "right"), ("right", "left")] {
        let dir = meet.display();
        let agent = format!(
            "touch {dir}/{name}; for i in $(seq 300); do test -e {dir}/{other} && break; \
             sleep 0.1; done; test -e {dir}/{other} && echo 1 > {name}/list"
        );
        let check = format!("grep -q 1 {name}/list");
        let mut spec = spec(&url(&repo), json!(agent), json!(check));
        spec["owns"] = json!([format!("{name}/**")]);
        spec["workspace"]["git"]["publish"] = json!({"branch": "main"});
        cluster.apply(&manifest(name, &spec));
    }
    let left = ended(&cluster, "left", Phase::Converged, Reason::None);
    let right = ended(&cluster, "right", Phase::Converged, Reason::None);
    assert_ne!(left.node, right.node);
    assert_eq!(repo.file("main", "left/list"), "1\n");
    assert_eq!(repo.file("main", "right/list"), "1\n");
    // The second was put on top of the first; there is no merge.
    assert_eq!(repo.git(&["rev-list", "--count", "main"]).trim(), "3");
    assert_eq!(repo.git(&["rev-list", "--merges", "--count", "main"]).trim(), "0");
}
