//! A secret from the command line to an agent, and nowhere else.

use std::path::Path;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};

use crate::support::{FINISH_ONE, finish_list, list, parked};

const VALUE: &str = "hunter2/hunter2+hunter2";
/// The value in base64, as far as it depends on nothing else.
const BASE64: &str = "aHVudGVyMi9odW50ZXIyK2h1bnRlcj";

/// Says it in every way it can think of, and works only if it has it.
const BLABBER: &str = r#"test -n "$TOKEN" || exit 3
      echo "token: $TOKEN"; printf %s "$TOKEN" | base64; printf %s "$TOKEN" | fold -w 5 | tr -d '\n'
      echo "{\"note\": \"I used $TOKEN\"}" > "$FLYBALL_REPORT""#;

#[test]
fn a_secret_reaches_the_step_that_is_named_and_nothing_else() {
    let repo = list(&["a", "b"]);
    let cluster = Cluster::start(Options::default());
    let agent = format!("{BLABBER}\n      {FINISH_ONE}");
    let secrets = "  secrets: [{name: token, to: [agent], env: TOKEN}]\n";
    let extra = format!("{secrets}  governor: {{patience: 3}}\n");
    let manifest = finish_list("with", &repo, &agent, &extra);
    // No check is given what is the agent's.
    let manifest =
        manifest.replace("      run: |\n", "      run: |\n        test -z \"$TOKEN\" || exit 9\n");
    cluster.apply(&manifest);
    parked(&cluster, "with", Reason::Backoff, "there is no secret default/token");
    let set = ["secret", "set", "token", "--from-file", "-"];
    let out = cluster.cli_with_input(&set, &format!("{VALUE}\n"));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let status = cluster.wait_for_end("with", Phase::Converged);
    assert_eq!(status.progress.accepted, 2);

    let logs = cluster.cli(&["logs", "with", "--stream", "agent", "--iteration", "1"]);
    let logs = String::from_utf8_lossy(&logs.stdout).into_owned();
    assert_eq!(logs.matches("[redacted:token]").count(), 3, "{logs}");
    let mut said = vec![logs, cluster.logs()];
    for args in [
        &["get", "loops", "-o", "json"][..],
        &["describe", "loop", "with"],
        &["get", "iterations", "with", "-o", "json"],
        &["events"],
        &["explain", "with"],
        &["audit", "-o", "json"],
        &["secret", "list", "-o", "json"],
    ] {
        let out = cluster.cli(args);
        assert!(out.status.success(), "{args:?}");
        said.push(String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned());
    }
    assert!(said.iter().any(|text| text.contains("\"kind\":\"secrets\"")), "the trail tells of it");
    for text in &said {
        assert!(!text.contains(VALUE) && !text.contains(BASE64), "{text}");
    }
    // Everything on disk: the store's file, the nodes' directories, logs, the repository.
    let (mut files, mut found) = (0, Vec::new());
    for dir in [cluster.dir(), &repo.path()] {
        search(dir, &mut files, &mut found);
    }
    assert!(files > 20, "only {files} files were looked at");
    assert!(found.is_empty(), "{found:?}");
    let journal = repo.journals().pop().unwrap();
    let told = repo.git(&["log", "--format=%B", &journal]);
    assert!(!told.contains(VALUE) && told.contains("[redacted:token]"), "{told}");

    let gone = cluster.cli(&["secret", "delete", "token"]);
    assert!(gone.status.success());
    let short = cluster.cli_with_input(&set, "1234567\n");
    let error = String::from_utf8_lossy(&short.stderr).into_owned();
    assert!(!short.status.success() && !error.contains("1234567"), "{error}");
}

fn search(dir: &Path, files: &mut usize, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            search(&path, files, found);
        } else if kind.is_file() {
            *files += 1;
            let bytes = std::fs::read(&path).unwrap_or_default();
            let has =
                |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            if has(VALUE) || has(BASE64) {
                found.push(path.display().to_string());
            }
        }
    }
}
