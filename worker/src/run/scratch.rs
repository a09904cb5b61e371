//! Loops without a repository: an empty directory of the run's own. It becomes a repository when an
//! agent is to work in it, so that changes can be measured, kept and reverted like any others.

use std::path::Path;

use flyball_core::governor::{Next, Observation, Proof};
use flyball_core::resource::canonical_repo_id;
use flyball_core::spec::Owns;
use flyball_core::status::Outcome;
use flyball_sandbox::command;

use super::Run;
use super::checks::Measured;
use super::halt::Halt;
use super::repository::{self, Source};

/// The tree without files, which every git knows.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Runs the loop to its outcome.
pub(super) async fn drive(run: &mut Run) -> Result<Outcome, Halt> {
    let scratch = run.dir.join("scratch");
    std::fs::create_dir_all(&scratch)
        .map_err(|error| Halt::node_fault(&format!("cannot make a scratch directory: {error}")))?;
    run.progress.activity = "observing".to_owned();
    let measured = run.measure(&scratch, run.progress.iterations, "check").await?;
    run.cases = measured.cases.clone();
    run.progress.initial_distance.get_or_insert(measured.distance);
    run.progress.distance = Some(measured.distance);
    run.progress.failing = measured.failing();
    let observation = Observation {
        tree: EMPTY_TREE,
        distance: measured.distance,
        checks: &measured.checks,
        has_agent: run.spec.agent.is_some(),
        iterations: run.progress.iterations,
        run_ms: run.run_ms(),
    };
    match run.governor.observe(&observation) {
        // The directory was empty when the checks passed: that is the proof.
        Next::Verify => prove(run, &measured),
        Next::Stop(outcome) => Ok(outcome),
        Next::Act { .. } => {
            let origin = run.dir.join("origin.git");
            make_origin(&origin).await.map_err(|error| Halt::node_fault(&error))?;
            // What an earlier run left on another node is gone with its directory.
            (run.progress.base, run.progress.checkpoint) = (None, None);
            let url = origin.to_string_lossy().into_owned();
            let id = canonical_repo_id(&url)
                .map_err(|error| Halt::node_fault(&format!("scratch repository: {error}")))?;
            let source = Source {
                id,
                url,
                reference: "main".to_owned(),
                publish: None,
                owns: vec![Owns::Exclusive("**".to_owned())],
            };
            repository::drive(run, source).await
        }
    }
}

fn prove(run: &mut Run, measured: &Measured) -> Result<Outcome, Halt> {
    let proof = Proof {
        tree: EMPTY_TREE,
        distance: measured.distance,
        checks: &measured.checks,
        iterations: run.progress.iterations,
        run_ms: run.run_ms(),
    };
    match run.governor.prove(&proof, 0.0) {
        Next::Stop(outcome) => Ok(outcome),
        _ => Err(Halt::node_fault("distance zero was not accepted as a proof")),
    }
}

/// A bare repository whose branch `main` is one commit without files.
async fn make_origin(path: &Path) -> Result<(), String> {
    let text = path.to_str().ok_or("the data directory's path is not UTF-8")?;
    git(&["init", "--quiet", "--bare", "--initial-branch=main", text]).await?;
    let message = "an empty scratch directory";
    let commit = git(&["-C", text, "commit-tree", EMPTY_TREE, "-m", message]).await;
    let commit = match commit {
        Ok(commit) => commit,
        Err(_) => {
            // The empty tree is known without being stored, but not to every version's commit-tree.
            git(&["-C", text, "hash-object", "-t", "tree", "-w", "/dev/null"]).await?;
            git(&["-C", text, "commit-tree", EMPTY_TREE, "-m", message]).await?
        }
    };
    git(&["-C", text, "update-ref", "refs/heads/main", commit.trim()]).await.map(drop)
}

async fn git(args: &[&str]) -> Result<String, String> {
    let identity = ["-c", "user.name=Flyball", "-c", "user.email=flyball@localhost"];
    let output = command("git")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(identity)
        .args(args)
        .output()
        .await
        .map_err(|error| format!("cannot start git: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("git {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
    }
}
