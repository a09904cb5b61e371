//! Flyball's own repository as input: a mis-formatted clone is brought back to `cargo fmt --check`
//! clean, one file per iteration.

use std::path::Path;
use std::process::Command;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::repo::git;
use serde_json::json;

use crate::support::{ended, manifest, spec};

/// Files to be mis-formatted, in a directory that the loop owns.
const FILES: [&str; 2] = ["src/ids.rs", "src/node.rs"];

/// Lists every file of the directory as formatted or not.
const LIST: &str = "\
find crates/core/src -name '*.rs' | sort > \"$TMPDIR/all\"
cargo fmt --package flyball-core -- --check -l | sed \"s#^$PWD/##\" | sort -u > \"$TMPDIR/bad\"
comm -23 \"$TMPDIR/all\" \"$TMPDIR/bad\" | sed 's/^/formatted /'
sed 's/^/unformatted /' \"$TMPDIR/bad\"
test ! -s \"$TMPDIR/bad\"";

/// Formats the first file that the brief says is not.
const AGENT: &str =
    "rustfmt --edition 2024 \"$(sed -n 's/^files //p' \"$FLYBALL_FAILING\" | head -n 1)\"";

#[test]
fn a_mis_formatted_clone_of_this_repository_is_formatted_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let source = root.to_string_lossy().into_owned();
    git(dir.path(), &["clone", "--quiet", "--bare", "--single-branch", &source, "bare.git"]);
    git(dir.path(), &["clone", "--quiet", "bare.git", "work"]);
    let work = dir.path().join("work");
    for file in FILES {
        let path = work.join("crates/core").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        // Nothing but the space before some lines, so that formatting undoes exactly this.
        std::fs::write(&path, text.replace("\npub ", "\n  pub ")).unwrap();
    }
    assert!(!is_formatted(&work), "the clone is mis-formatted");
    git(&work, &["commit", "--quiet", "--all", "-m", "badly formatted"]);
    git(&work, &["push", "--quiet", "origin", "HEAD:refs/heads/messy"]);

    let url = dir.path().join("bare.git").display().to_string();
    let mut tidy = spec(&url, json!(AGENT), json!("cargo fmt --all --check"));
    tidy["workspace"]["git"]["ref"] = json!("messy");
    tidy["owns"] = json!(["crates/core/**"]);
    let score = json!({"regex": {
        "pass": r"^formatted (?P<name>\S+)", "fail": r"^unformatted (?P<name>\S+)"
    }});
    let files = json!({"name": "files", "run": LIST, "score": score});
    tidy["checks"].as_array_mut().unwrap().push(files);
    let cluster = Cluster::start(Options::default());
    cluster.apply(&manifest("tidy", &tidy));
    let status = ended(&cluster, "tidy", Phase::Converged, Reason::None);
    assert_eq!(status.progress.accepted, 2, "{:#?}", status.progress.recent);

    let result = dir.path().join("result");
    let branch = ["clone", "--quiet", "--branch", "flyball/tidy", "bare.git", "result"];
    git(dir.path(), &branch);
    assert!(is_formatted(&result), "the published branch is clean");
    let changed = git(&result, &["diff", "--name-only", "HEAD~3", "HEAD"]);
    assert_eq!(changed, "", "two steps undo exactly what the bad commit did");
}

fn is_formatted(dir: &Path) -> bool {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let checked = Command::new(cargo).args(["fmt", "--all", "--check"]).current_dir(dir).output();
    checked.unwrap().status.success()
}
