//! Manifests and repositories that several cases use.

use std::time::Duration;

use flyball_core::model::Protocol;
use flyball_core::status::{LoopStatus, Phase, Reason};
use flyball_tests::cluster::Cluster;
use flyball_tests::provider::Provider;
use flyball_tests::repo::Repo;
use serde_json::{Value, json};

/// A finding of the doctor by its code, if it is there; `args` are further arguments.
pub(crate) fn finding(cluster: &Cluster, args: &[&str], code: &str) -> Option<Value> {
    let doctor = ["doctor", "--no-measure", "-o", "json"];
    // What is an error elsewhere makes it fail, and it tells all the same.
    let told = cluster.cli(&[&doctor[..], args].concat()).stdout;
    let told: Value = serde_json::from_slice(&told).ok()?;
    told["findings"].as_array()?.iter().find(|one| one["code"] == code).cloned()
}

/// A repository with a list of items, of which a check wants each to be `done`.
pub(crate) fn list(items: &[&str]) -> Repo {
    let text: String = items.iter().map(|item| format!("{item} open\n")).collect();
    Repo::with(&[("list.txt", &text), ("other/file.txt", "other\n")])
}

/// A loop whose agent finishes one item of the list per iteration.
pub(crate) fn finish_list(name: &str, repo: &Repo, agent: &str, extra: &str) -> String {
    let url = repo.path().display().to_string();
    format!(
        r#"apiVersion: flyball.dev/v1
kind: Loop
metadata: {{name: {name}}}
spec:
  goal: Finish every item of the list.
  workspace: {{git: {{url: {url}, ref: main, publish: {{branch: main}}}}}}
  owns: [list.txt]
  checks:
    - name: list
      run: |
        sed -n 's/ done$//p' list.txt | sed 's/^/ok /'
        sed -n 's/ open$//p' list.txt | sed 's/^/open /'
        ! grep -q ' open$' list.txt
      score: {{regex: {{pass: '^ok (?P<name>\w+)', fail: '^open (?P<name>\w+)'}}}}
  agent:
    command: |
      {agent}
{extra}"#
    )
}

/// The agent of [`finish_list`]: one item per iteration.
pub(crate) const FINISH_ONE: &str = "sed -i '0,/ open$/s// done/' list.txt";

/// [`finish_list`] for the built-in agent, with another goal.
pub(crate) fn builtin(name: &str, repo: &Repo, goal: &str, extra: &str) -> String {
    let manifest = finish_list(name, repo, "true", "");
    let at = manifest.find("  agent:").unwrap();
    let manifest = manifest[..at].replace("Finish every item of the list.", goal);
    format!("{manifest}  agent: {{use: builtin}}\n{extra}")
}

/// A provider with these further fields, and a route that gives it all calls.
pub(crate) fn models(provider: &Provider, fields: Value) -> String {
    let kind = |kind: &str, name: &str, spec: Value| {
        let (version, metadata) = ("flyball.dev/v1", json!({ "name": name }));
        json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec })
    };
    let mut spec = json!({ "baseUrl": provider.base(Protocol::Chat), "protocols": ["chat"] });
    if let (Some(spec), Value::Object(fields)) = (spec.as_object_mut(), fields) {
        spec.extend(fields);
    }
    let only = json!({ "name": "only", "deployments": [{ "provider": "shared", "model": "m" }] });
    let route = kind("ModelRoute", "all", json!({ "tiers": [only] }));
    format!("{}\n---\n{route}", kind("Provider", "shared", spec))
}

/// A spec with one check, an agent unless `agent` is null, no pauses, and an own publish branch.
pub(crate) fn spec(url: &str, agent: Value, check: Value) -> Value {
    let mut spec = scratch(agent, check);
    spec["workspace"] = json!({"git": {"url": url, "ref": "main"}});
    spec["owns"] = json!(["**"]);
    spec
}

/// The same without a workspace.
pub(crate) fn scratch(agent: Value, check: Value) -> Value {
    let mut spec = json!({
        "goal": "Make the check pass.",
        "checks": [{"name": "check", "run": check}],
        "governor": {"patience": 2, "backoff": {"initial": "10ms", "max": "10ms"}},
    });
    if !agent.is_null() {
        spec["agent"] = json!({"command": agent});
    }
    spec
}

/// A manifest; JSON is YAML.
pub(crate) fn manifest(name: &str, spec: &Value) -> String {
    let (version, kind) = ("flyball.dev/v1", "Loop");
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
        .to_string()
}

/// Path of a repository as text.
pub(crate) fn url(repo: &Repo) -> String {
    repo.path().display().to_string()
}

/// Checks how a loop has ended and gives its status.
#[track_caller]
pub(crate) fn ended(cluster: &Cluster, name: &str, phase: Phase, reason: Reason) -> LoopStatus {
    let status = cluster.wait_for_end(name, phase);
    assert_eq!(status.reason, reason, "{name}: {}", status.message);
    status
}

/// Checks that a loop parks for this reason, with words of the message.
#[track_caller]
pub(crate) fn parked(cluster: &Cluster, name: &str, reason: Reason, words: &str) -> LoopStatus {
    let what = format!("parked for {reason:?}");
    let status = cluster.wait(name, &what, Duration::from_secs(60), |status| {
        status.phase == Phase::Parked || status.phase.is_terminal()
    });
    assert_eq!((status.phase, status.reason), (Phase::Parked, reason), "{status:#?}");
    assert!(status.message.contains(words), "{name}: {}", status.message);
    status
}

/// A node that went through bad input still does good work, and keeps nothing of the bad.
#[track_caller]
pub(crate) fn healthy(cluster: &Cluster, name: &str) {
    let repo = list(&["a"]);
    cluster.apply(&finish_list(name, &repo, FINISH_ONE, ""));
    cluster.wait_for_end(name, Phase::Converged);
    assert_eq!(repo.file("main", "list.txt"), "a done\n");
}

/// Processes that belong to a loop's run in this cluster, by their environment.
pub(crate) fn processes(cluster: &Cluster, name: &str) -> Vec<String> {
    let (dir, key) = (cluster.dir().display().to_string(), format!("FLYBALL_LOOP=default/{name}"));
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let ours = |pid: &String| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environ = String::from_utf8_lossy(&environ).into_owned();
        environ.split('\0').any(|variable| variable == key) && environ.contains(&dir)
    };
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(ours)
        .collect()
}
