//! A secret from the command line to an agent, and nowhere else.

use std::path::Path;
use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::collector::{collector, exporting_to};
use flyball_tests::poll;
use flyball_tests::repo::Repo;
use serde_json::Value;

use crate::support::{FINISH_ONE, finish_list, list, parked, url};

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
        search(dir, &[VALUE, BASE64], &mut files, &mut found);
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

fn search(dir: &Path, values: &[&str], files: &mut usize, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            search(&path, values, files, found);
        } else if kind.is_file() {
            *files += 1;
            let bytes = std::fs::read(&path).unwrap_or_default();
            if values.iter().any(|value| has(&bytes, value)) {
                found.push(path.display().to_string());
            }
        }
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A token with everything that encodings change, long enough to be wrapped by them.
const TOKEN: &str =
    "Tok3n/with+all \"sorts\" of=characters & more, 0123456789 abcdefghijklmnopqrstuvwxyz?";
/// Parts of the token, and of what encodings make of it, that stand in nothing else. Each is long enough for no
/// chance to make it.
const TRACES_OF_TOKEN: [&str; 11] = [
    TOKEN,
    "Tok3n/with",
    "9 abcdefghijklmnopqr",
    "VG9rM24vd2l0aCthbGwgInNv",
    "b2szbi93aXRoK2FsbCAic29y",
    "ZWZnaGlqa2xtbm9wcXJz",
    "546f6b336e2f77697468",
    "546F6B336E2F77697468",
    "68696A6B6C6D6E6F707172737475767778797A3F",
    "Tok3n%2Fwith%2Ball",
    "Tok3n\\/with+all",
];
const KEY: &str =
    "-----BEGIN KEY-----\nc2VjcmV0LWtleS1tYXRlcmlhbA\nbW9yZS1rZXktbWF0ZXJpYWw\n-----END KEY-----";
const TRACES_OF_KEY: [&str; 3] =
    ["c2VjcmV0LWtleS1tYXRlcmlhbA", "bW9yZS1rZXktbWF0ZXJpYWw", "MExXdGxlUzF0WVhSbGNtbGhiQQpiVz"];

/// Shell that says the value of `$TOKEN` in every way, and that of the file at `$KEY`.
const SAY_ALL: &str = r#"
        p() { printf %s "$TOKEN"; }
        echo "plain <$TOKEN>"; p | base64; p | base64 -w0; echo; printf 'user:%s' "$TOKEN" | base64 -w64
        p | base64 -w0 | tr '+/' '-_'; echo; p | od -An -v -tx1 | tr -d ' \n'; echo
        p | od -An -v -tx1 | tr -d ' \n' | tr a-f A-F | fold -w 60; echo
        p | sed 's/%/%25/g; s,/,%2F,g; s/+/%2B/g; s/"/%22/g; s/ /%20/g; s/=/%3D/g; s/&/%26/g; s/,/%2C/g; s/?/%3F/g'
        p | sed 's/\\/\\\\/g; s/"/\\"/g' | sed 's/^/{"json": "/; s/$/"}/'; echo
        p | sed 's/"/\\"/g; s,/,\\/,g'; echo
        p | cut -c1-11 | tr -d '\n'; sleep 0.2; p | cut -c12- | tr -d '\n'; echo
        p | fold -w 5 | while IFS= read -r part || test -n "$part"; do printf %s "$part"; done; echo
        cat "$KEY"; base64 "$KEY"; tail -n +2 "$KEY"; (set -x; : "$TOKEN")
"#;

fn leaky(repo: &Repo, dir: &Path) -> String {
    let (url, dir) = (url(repo), dir.display());
    let indented = SAY_ALL;
    format!(
        r#"apiVersion: flyball.dev/v1
kind: Loop
metadata: {{name: leaky}}
spec:
  goal: Finish every item of the list.
  workspace: {{git: {{url: {url}, ref: main, publish: {{branch: main}}}}}}
  owns: [list.txt]
  secrets:
    - {{name: token, to: [agent, check/list], env: TOKEN}}
    - {{name: key, to: [agent, check/list], env: KEY, file: true}}
  checks:
    - name: list
      run: |
        test -n "$TOKEN" && test -r "$KEY" || exit 9
{indented}
        for state in done open; do
          word=$(test $state = done && echo ok || echo open)
          sed -n "s/ $state\$//p" list.txt | while read -r item; do echo "$word $item $TOKEN"; done
        done
        ! grep -q ' open$' list.txt
      score: {{regex: {{pass: '^ok (?P<name>.+)', fail: '^open (?P<name>.+)'}}}}
    - name: other
      run: |
        test -z "$TOKEN$KEY" && test ! -e /run/secrets
  agent:
    command: |
        test "$KEY" = /run/secrets/key && test "$(stat -c %a "$KEY")" = 400 || exit 7
        test "$(wc -l < "$KEY")" = 4 || exit 8
{indented}
        test "$FLYBALL_ITERATION" = 1 && echo "{{\"note\": \"I used $(p | sed 's/"/\\"/g')\"}}" > "$FLYBALL_REPORT"
        test "$FLYBALL_ITERATION" = 1 || echo "no JSON but $TOKEN" > "$FLYBALL_REPORT"
        {FINISH_ONE}
        touch {dir}/up; n=0; while ! test -e {dir}/go && test $n -lt 400; do sleep 0.1; n=$((n+1)); done
"#
    )
}

/// What of each process of this host can be read, by the file's name.
fn of_processes(file: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    pids.filter_map(|pid| Some((pid.clone(), std::fs::read(format!("/proc/{pid}/{file}")).ok()?)))
        .collect()
}

/// Only the steps of the loop hold anything of it, and nobody shows it as arguments.
fn only_the_steps_hold_it() {
    let traces = || TRACES_OF_TOKEN.iter().chain(&TRACES_OF_KEY);
    for (pid, arguments) in of_processes("cmdline") {
        // What the manifest says is no trace: the agent's own words do not hold the value.
        assert!(!traces().any(|trace| has(&arguments, trace)), "process {pid} shows it");
    }
    let step = |pid: &str| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.is_empty() || has(&environment, "FLYBALL_LOOP=default/leaky")
    };
    let mut holders = 0;
    for (pid, environment) in of_processes("environ") {
        assert!(!TRACES_OF_KEY.iter().any(|trace| has(&environment, trace)), "process {pid}");
        let holds = has(&environment, TOKEN);
        assert!(!holds || step(&pid), "process {pid} has the token");
        holders += usize::from(holds);
    }
    assert!(holders > 0, "nobody was looked at");
    // Only whoever may look into the file trees of others can say more.
    if nix::unistd::geteuid().is_root() {
        let readers = of_processes("root/run/secrets/key");
        let readers: Vec<_> = readers.iter().filter(|(_, content)| has(content, KEY)).collect();
        assert!(!readers.is_empty(), "no step has the file");
        for (pid, _) in readers {
            assert!(step(pid), "process {pid} sees the file");
        }
    }
}

#[test]
fn no_way_of_writing_a_secret_leaves_its_steps() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (collector, address) = collector(&runtime);
    let repo = list(&["a", "b"]);
    let mut options = exporting_to(&address);
    options.env.push(("FLYBALL_LOG".to_owned(), "trace".to_owned()));
    let cluster = Cluster::start(options);
    for (name, value) in [("token", TOKEN), ("key", KEY)] {
        let set = ["secret", "set", name, "--from-file", "-"];
        let out = cluster.cli_with_input(&set, &format!("{value}\n"));
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    cluster.apply(&leaky(&repo, cluster.dir()));
    poll::until("the agent is at work", Duration::from_secs(60), || {
        cluster.dir().join("up").exists().then_some(())
    });
    only_the_steps_hold_it();
    std::fs::write(cluster.dir().join("go"), "").unwrap();
    cluster.wait_for_end("leaky", Phase::Converged);

    let mut said = vec![cluster.logs()];
    for args in [
        &["logs", "leaky"][..],
        &["logs", "leaky", "--stream", "agent", "--iteration", "1"],
        &["logs", "leaky", "--stream", "agent", "--iteration", "2"],
        &["logs", "leaky", "--stream", "check/list"],
        &["get", "loops", "-o", "json"],
        &["get", "loops", "-o", "yaml"],
        &["describe", "loop", "leaky"],
        &["get", "iterations", "leaky", "-o", "json"],
        &["describe", "node", "n1"],
        &["events"],
        &["events", "-o", "json"],
        &["explain", "leaky"],
        &["explain", "leaky", "-o", "json"],
        &["audit"],
        &["audit", "-o", "json"],
        &["secret", "list", "-A", "-o", "json"],
        &["doctor", "-o", "json"],
    ] {
        let out = cluster.cli(args);
        said.push(String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned());
    }
    let shown = said[2].matches("[redacted:token]").count();
    assert!(shown >= 12, "only {shown} ways were found: {}", said[2]);
    assert!(said[2].matches("[redacted:key]").count() >= 3, "{}", said[2]);
    let objects = Repo::git(&repo, &["cat-file", "--batch-all-objects", "--batch", "--unordered"]);
    assert!(objects.contains("[redacted:token]"), "the journal tells of the note");
    said.push(objects);
    poll::until("spans are exported", Duration::from_secs(20), || {
        collector.spans().iter().any(|span| span.name == "run").then_some(())
    });
    said.push(collector.text());
    let traces: Vec<&str> = TRACES_OF_TOKEN.iter().chain(&TRACES_OF_KEY).copied().collect();
    for text in &said {
        for trace in &traces {
            let around = text.find(trace).map(|at| {
                let (from, to) = (at.saturating_sub(200), (at + 200).min(text.len()));
                String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()
            });
            assert_eq!(around, None, "{trace}");
        }
    }
    let (mut files, mut found) = (0, Vec::new());
    for dir in [cluster.dir(), &repo.path()] {
        search(dir, &traces, &mut files, &mut found);
    }
    assert!(files > 20 && found.is_empty(), "{files} files, {found:?}");
}

/// The keys that secrets are sealed with, and what is the matter with each.
fn sealed_with(cluster: &Cluster) -> Vec<(String, String)> {
    let out = cluster.cli(&["secret", "list", "-A", "-o", "json"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let one = |value: Value| {
        let field = |name: &str| value[name].as_str().unwrap().to_owned();
        (field("sealedWith"), field("keyState"))
    };
    let documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    documents.map(|document| one(document.unwrap())).collect()
}

#[test]
fn the_key_of_secrets_is_replaced_while_everything_runs() {
    let cluster = Cluster::start(Options::default());
    let ok = |args: &[&str], input: &str| {
        let out = cluster.cli_with_input(args, input);
        let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        assert!(out.status.success(), "{args:?}: {text}");
        text
    };
    for name in ["one", "two"] {
        ok(&["secret", "set", name, "--from-file", "-"], VALUE);
    }
    let first = sealed_with(&cluster);
    let old = first[0].0.clone();
    assert!(first.iter().all(|key| *key == (old.clone(), "present".to_owned())), "{first:?}");
    let told: Value =
        serde_json::from_str(&ok(&["secret", "rotate-key", "-o", "json"], "")).unwrap();
    let new = told["key"].as_str().unwrap().to_owned();
    assert_eq!((&told["resealed"], told["old"][0]["id"].as_str()), (&2.into(), Some(&*old)));
    assert_ne!(new, old);
    let second = sealed_with(&cluster);
    assert!(second.iter().all(|key| *key == (new.clone(), "present".to_owned())), "{second:?}");
    let told = ok(&["secret", "rotate-key", "--reseal-only", "--drop-old"], "");
    assert!(told.contains(&format!("key {old} was taken out")), "{told}");

    // A loop gets the value under the new key, and a scheduler without it says what is missing.
    let repo = list(&["a"]);
    let agent = format!("test \"$TOKEN\" = '{VALUE}' || exit 3; {FINISH_ONE}");
    let secrets = "  secrets: [{name: one, to: [agent], env: TOKEN}]\n";
    let file = cluster.dir().join("s1/secrets.key");
    let kept = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    ok(&["secret", "new-key", &file.display().to_string()], "");
    let third = sealed_with(&cluster);
    assert!(third.iter().all(|key| *key == (new.clone(), "missing".to_owned())), "{third:?}");
    let table = ok(&["secret", "list"], "");
    assert!(table.contains(&format!("{new} (missing)")), "{table}");
    let failed = cluster.cli(&["secret", "rotate-key", "--reseal-only"]);
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        !failed.status.success() && told.contains("is not in this scheduler's key file"),
        "{told}"
    );
    cluster.apply(&finish_list("keyed", &repo, &agent, secrets));
    parked(&cluster, "keyed", Reason::Backoff, "is not in this scheduler's key file");
    let both = [std::fs::read(&file).unwrap(), kept].concat();
    std::fs::write(&file, both).unwrap();
    cluster.wait_for_end("keyed", Phase::Converged);
    assert!(sealed_with(&cluster).iter().all(|key| key.1 == "old"));
    let trail = ok(&["audit", "--kind", "schedulers", "-o", "json"], "");
    assert_eq!(trail.matches("\"secrets-key\"").count(), 3, "{trail}");
}

#[test]
fn a_loop_that_names_an_unknown_secret_is_taken_with_a_warning() {
    let cluster = Cluster::start(Options::default());
    let repo = list(&["a"]);
    let secrets = "  secrets: [{name: token, to: [agent], env: TOKEN}]\n";
    let manifest = finish_list("early", &repo, FINISH_ONE, secrets);
    let warning = "spec.secrets[0].name: there is no secret token in namespace default";
    for format in ["table", "json"] {
        let args = ["apply", "-f", "-", "--dry-run", "-o", format];
        let out = cluster.cli_with_input(&args, &manifest);
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success() && told.contains(warning), "{told}");
        if format == "json" {
            let object: Value = serde_json::from_slice(&out.stdout).unwrap();
            assert!(object["warnings"][0].as_str().unwrap().starts_with(warning), "{object}");
        }
    }
    cluster.cli_with_input(&["secret", "set", "token", "--from-file", "-"], VALUE);
    let out = cluster.cli_with_input(&["apply", "-f", "-", "-o", "json"], &manifest);
    let object: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(object.get("warnings").is_none(), "{object}");
    cluster.wait_for_end("early", Phase::Converged);
}
