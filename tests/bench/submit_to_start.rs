//! Time from submitting a loop to the start of its first check, on an idle control plane of real
//! processes: without a workspace, and with a git repository. The check is this program itself,
//! which stamps a file; how long that takes from a bare spawn is measured beside it.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first fault")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use flyball_core::status::Phase;
use flyball_tests::measure::{Samples, at_most, monotonic_ns};
use flyball_tests::repo::Repo;
use serde_json::{Value, json};

use support::{Plane, apply, manifest};

const ROUNDS: usize = 100;
/// First rounds that are not counted.
const WARM_UP: usize = 5;
/// Rest between two submissions, so that each finds an idle system.
const REST: Duration = Duration::from_millis(10);

const GROUP: &str = "latency";
/// What the check does: the first argument after this one is the file.
const STAMP: &str = "--stamp";

fn stamp(file: &str) {
    let now = monotonic_ns();
    std::fs::write(file, now.to_string()).unwrap();
}

fn stamped(file: &Path) -> i128 {
    std::fs::read_to_string(file).unwrap().parse().unwrap()
}

fn milliseconds(from: i128, to: i128) -> f64 {
    (to - from) as f64 / 1e6
}

/// One bare spawn of the check.
fn floor(own: &str, file: &Path) -> f64 {
    let begun = monotonic_ns();
    assert!(Command::new(own).args([STAMP, file.to_str().unwrap()]).status().unwrap().success());
    milliseconds(begun, stamped(file))
}

/// The same loop in a workspace.
fn with_workspace(mut manifest: Value, repo: &Repo) -> Value {
    let url = repo.path().display().to_string();
    manifest["spec"]["workspace"] = json!({ "git": { "url": url, "ref": "main" } });
    manifest
}

async fn measure(plane: &Plane) {
    let own = std::env::current_exe().unwrap().display().to_string();
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::with(&[("README.md", "a repository\n"), ("src/lib.rs", "//! code\n")]);
    let mut client = plane.client().await;
    let mut ends = plane.ends(GROUP).await;
    let (mut bare, mut scratch, mut git) =
        (Samples::default(), Samples::default(), Samples::default());
    for round in 0..ROUNDS + WARM_UP {
        let file = dir.path().join("floor");
        let took = floor(&own, &file);
        if round >= WARM_UP {
            bare.add(took);
        }
        for (kind, samples) in [("scratch", &mut scratch), ("git", &mut git)] {
            tokio::time::sleep(REST).await;
            let name = format!("{kind}-{round}");
            let file = dir.path().join(&name);
            let plain = manifest(GROUP, &name, &[&own, STAMP, file.to_str().unwrap()]);
            let wanted = if kind == "git" { with_workspace(plain, &repo) } else { plain };
            let begun = monotonic_ns();
            apply(&mut client, &wanted).await;
            let ended = tokio::time::timeout(Duration::from_secs(30), ends.recv()).await;
            assert_eq!(ended.unwrap().unwrap(), (name, Phase::Converged));
            if round >= WARM_UP {
                samples.add(milliseconds(begun, stamped(&file)));
            }
        }
    }
    let goal = if plane.etcd.is_some() { 4.0 } else { 3.0 };
    let name = plane.name;
    println!("{name}: milliseconds, median [least .. greatest] of {ROUNDS}");
    println!("  bare spawn of the check until it runs: {bare}");
    let verdict = at_most(&scratch, goal);
    println!(
        "  submit to first check, no workspace: {scratch}, p99 {:.2} ({verdict})",
        scratch.quantile(0.99)
    );
    println!("  submit to first check, git workspace: {git}, p99 {:.2}", git.quantile(0.99));
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn run() {
    for plane in Plane::all(4).await {
        measure(&plane).await;
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        // Before anything else: this is the start that is measured.
        (Some(STAMP), Some(file)) => stamp(&file),
        _ => run(),
    }
}
