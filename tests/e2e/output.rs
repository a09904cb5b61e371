//! Whose output is shown: that of the run whose iteration counts, or of the one that is at work; what a lost run has
//! left of the same iteration, on the same node or another, only by its token.

use std::path::PathBuf;
use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options, items};
use flyball_tests::repo::Repo;

use crate::support::{FINISH_ONE, ended, finish_list, list};

/// Longest wait for anything here.
const BOUND: Duration = Duration::from_secs(40);

/// A loop whose agent says under which token it acts. In its second iteration it waits for the file `go`.
struct Scene {
    cluster: Cluster,
    _repo: Repo,
    go: PathBuf,
}

impl Scene {
    fn begin(workers: usize) -> Self {
        let repo = list(&["a", "b", "c"]);
        let cluster = Cluster::start(Options { workers, ..Options::default() });
        let go = cluster.dir().join("go");
        let agent = format!(
            "echo said by $FLYBALL_FENCE; if grep -q '^a done' list.txt; then \
             while ! test -e {go}; do sleep 0.05; done; fi; {FINISH_ONE}",
            go = go.display()
        );
        cluster.apply(&finish_list("finish", &repo, &agent, ""));
        Self { cluster, _repo: repo, go }
    }

    /// Token and node of the run that is at its second iteration, other than `lost`.
    #[track_caller]
    fn acting(&self, lost: i64) -> (i64, String) {
        self.cluster.until("an agent acts in the second iteration", BOUND, |cluster| {
            let claims = cluster.json(&["get", "claims", "-o", "json"]);
            let claim = items(&claims).next()?["claim"].clone();
            let token = claim["token"].as_i64().filter(|token| *token != lost)?;
            let text = self.logs(&["--token", &token.to_string(), "--iteration", "2"]);
            let node = claim["node"].as_str()?.to_owned();
            text.contains(&said(token)).then_some((token, node))
        })
    }

    /// What `flyball logs` prints, and what it says if it cannot.
    fn logs(&self, more: &[&str]) -> String {
        let output = self.cluster.cli(&[&["logs", "finish"], more].concat());
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8(text).unwrap()
    }

    /// Everything that was asked for is of this run, and some of it is its agent's.
    #[track_caller]
    fn is_of(&self, token: i64, more: &[&str]) {
        let text = self.logs(more);
        let others = text.lines().filter(|line| line.starts_with("said by"));
        let others: Vec<&str> = others.filter(|line| *line != said(token)).collect();
        assert!(text.contains(&said(token)) && others.is_empty(), "{more:?} of {token}: {text}");
        let json = self.logs(&[more, &["-o", "json"]].concat());
        let chunks = json.lines().map(|line| serde_json::from_str(line).unwrap());
        let tokens: Vec<Option<i64>> =
            chunks.map(|chunk: serde_json::Value| chunk["token"].as_i64()).collect();
        assert!(tokens.iter().all(|of| *of == Some(token)), "{json}");
    }

    fn finish(&self) {
        std::fs::write(&self.go, "").unwrap();
        let status = ended(&self.cluster, "finish", Phase::Converged, Reason::None);
        assert_eq!((status.runs, status.progress.iterations), (2, 3));
    }
}

fn said(token: i64) -> String {
    format!("said by {token}")
}

#[test]
fn a_lost_runs_output_on_the_same_node_is_shown_by_its_token_only() {
    let mut scene = Scene::begin(1);
    let user = scene.cluster.client();
    let following = std::thread::spawn(move || user.run(&["logs", "-f", "finish"], ""));
    let (lost, _) = scene.acting(0);
    let lost_text = lost.to_string();
    scene.is_of(lost, &[]);
    scene.cluster.workers.get_mut("n1").unwrap().kill();
    scene.cluster.start_worker("n1");
    let (token, node) = scene.acting(lost);
    assert_eq!(node, "n1");
    for whose in [&[][..], &["--iteration", "2"], &["--iteration", "2", "--stream", "agent"]] {
        scene.is_of(token, whose);
    }
    // The first iteration is the lost run's, which finished it.
    scene.is_of(lost, &["--iteration", "1"]);
    scene.is_of(lost, &["--token", &lost_text]);
    scene.is_of(lost, &["--token", &lost_text, "--iteration", "2"]);
    let nobody = scene.logs(&["--token", "1", "--iteration", "2"]);
    let named = format!("there is that of tokens {token}, {lost} (--token N)");
    assert!(nobody.contains(&named), "{nobody}");

    scene.finish();
    scene.is_of(token, &["--iteration", "2"]);
    scene.is_of(token, &[]);
    scene.is_of(lost, &["--token", &lost_text, "--iteration", "2"]);
    let followed = String::from_utf8(following.join().unwrap().stdout).unwrap();
    assert_eq!(followed.matches(&said(token)).count(), 2, "{followed}");
    // Who follows sees each run while it has the loop. On a busy machine the first may be over before that.
    let began = followed.find(&said(token));
    assert!(followed.rfind(&said(lost)) < began, "{followed}");
}

#[test]
fn a_lost_runs_output_on_another_node_is_asked_for_there() {
    let mut scene = Scene::begin(2);
    let (lost, first) = scene.acting(0);
    scene.cluster.workers.get_mut(&first).unwrap().kill();
    let (token, second) = scene.acting(lost);
    assert_ne!(first, second);
    scene.cluster.start_worker(&first);
    scene.cluster.wait_for_nodes(2);
    scene.is_of(token, &[]);
    scene.is_of(token, &["--iteration", "2"]);
    scene.is_of(lost, &["--iteration", "1"]);
    let lost_text = lost.to_string();
    let there = ["--token", &lost_text, "--iteration", "2", "--node", &first];
    scene.is_of(lost, &there);
    scene.finish();
    scene.is_of(token, &["--iteration", "2"]);
    scene.is_of(lost, &there);
}
