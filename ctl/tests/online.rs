//! The binary's verbs against a fake scheduler: requests, outputs, exit codes, broken connections.

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]

mod support;

use flyball_proto::v1::{Event, LogData, SealInfo, UnsealedRun};
use serde_json::{Value, json};
use support::fake::{Fake, object};
use support::{Call, flyball};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

const MANIFEST: &str = "\
apiVersion: flyball.dev/v1
kind: Loop
metadata: { name: x }
spec:
  goal: g
  checks: [{ name: test, run: 'true' }]
";

/// A fake, and calls of the binary that reach it.
struct Setting {
    fake: Fake,
    directory: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { fake: Fake::start(directory.path()), directory }
    }

    fn call(&self, arguments: &[&str]) -> Call {
        let address = self.fake.socket.to_string_lossy();
        flyball(self.directory.path(), arguments).env("FLYBALL_ADDR", &address)
    }

    fn transcript(&self, arguments: &[&str]) -> String {
        self.call(arguments).transcript()
    }

    fn apply(&self, arguments: &[&str]) -> String {
        let arguments: Vec<_> = ["apply", "-f", "-"].iter().chain(arguments).copied().collect();
        self.call(&arguments).stdin(MANIFEST).transcript()
    }
}

#[test]
fn apply_sends_the_manifest_and_a_trace() {
    let setting = Setting::new();
    setting.fake.state().warnings = vec!["no node can ever take it; nearest is node-1".to_owned()];
    insta::assert_snapshot!(setting.apply(&[]), @"
    exit 0
    --- stdout
    loop/x created
    --- stderr
    warning: no node can ever take it; nearest is node-1
    ");
    assert!(setting.apply(&["-n", "team"]).contains("loop/x unchanged"));
    assert!(setting.apply(&["--dry-run"]).contains("loop/x unchanged (dry run)"));
    assert_eq!(setting.fake.state().calls, ["apply -/x", "apply team/x", "apply -/x"]);
    let traces = setting.fake.state().traceparents.clone();
    assert_eq!(traces.iter().map(String::len).collect::<Vec<_>>(), [55, 55, 55]);
}

#[test]
fn what_the_server_refuses_is_shown_by_field() {
    let setting = Setting::new();
    let violation = FieldViolation::new("spec.needs", "no node has cpu 900");
    let details = ErrorDetails::with_bad_request(vec![violation]);
    let refusal = Status::with_error_details(Code::InvalidArgument, "not valid", details);
    setting.fake.state().refusal = Some(refusal);
    insta::assert_snapshot!(setting.apply(&[]), @"
    exit 1
    --- stderr
    error: loop/x (stdin): not valid
      spec.needs: no node has cpu 900
    ");
    insta::assert_snapshot!(setting.apply(&["-o", "json"]), @r#"
    exit 1
    --- stderr
    {"error":{"code":"invalid","exitCode":1,"fields":[{"description":"no node has cpu 900","field":"spec.needs"}],"message":"loop/x (stdin): not valid"}}
    "#);
}

#[test]
fn apply_can_wait_for_the_end() {
    let setting = Setting::new();
    let child = setting.call(&["apply", "-f", "-", "--wait"]).stdin(MANIFEST).spawn();
    setting.fake.await_calls("watch x", 1);
    setting.fake.put(object("x", "Running"));
    setting.fake.put(object("x", "Converged"));
    let transcript = child.transcript();
    assert!(transcript.starts_with("exit 0\n--- stdout\nloop/x created\n"), "{transcript}");
    assert!(transcript.ends_with("loop/x Converged\n"), "{transcript}");
}

#[test]
fn loops_are_listed_in_every_format() {
    let setting = Setting::new();
    assert_eq!(
        setting.transcript(&["get", "loops"]),
        "exit 0\n--- stderr\nno loops in namespace default; -A looks into all of them\n"
    );
    setting.fake.put(object("a", "Running"));
    setting.fake.put(object("b", "Unreachable"));
    insta::assert_snapshot!(setting.transcript(&["get", "loops"]), @"
    exit 0
    --- stdout
    NAME   PHASE         REASON   NODE   ITER   DISTANCE   FAILING   AGE
    a      Running       -        -      0/20   -          -         -
    b      Unreachable   -        -      0/20   -          -         -
    ");
    insta::assert_snapshot!(setting.transcript(&["get", "loop/b", "--no-headers"]), @"
    exit 0
    --- stdout
    b   Unreachable   -   -   0/20   -   -   -
    ");
    insta::assert_snapshot!(setting.transcript(&["get", "loops", "-o", "name"]), @"
    exit 0
    --- stdout
    loop/a
    loop/b
    ");
    insta::assert_snapshot!(setting.transcript(&["get", "loop", "c"]), @"
    exit 1
    --- stderr
    error: there is no loop c
    ");
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_slice(&setting.call(arguments).output().stdout).unwrap()
    };
    let list = json(&["get", "loops", "-o", "json"]);
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("List"), 2));
    assert_eq!(json(&["get", "loop/a", "-o", "json"])["metadata"]["name"], "a");
    let yaml = setting.transcript(&["get", "loop/a", "-o", "yaml"]);
    assert!(yaml.contains("\nkind: Loop\n"), "{yaml}");
}

#[test]
fn wait_ends_with_the_outcome() {
    let setting = Setting::new();
    setting.fake.put(object("good", "Converged"));
    setting.fake.put(object("bad", "Failed"));
    setting.fake.put(object("slow", "Running"));
    insta::assert_snapshot!(setting.transcript(&["wait", "good", "--for", "converged"]), @"
    exit 0
    --- stdout
    loop/good converged
    ");
    let json = setting.transcript(&["wait", "good", "-o", "json"]);
    assert!(json.contains("\"phase\": \"Converged\""), "{json}");
    assert_eq!(
        setting.transcript(&["wait", "good", "-o", "name"]),
        "exit 0\n--- stdout\nloop/good\n"
    );
    insta::assert_snapshot!(setting.transcript(&["wait", "good", "bad"]), @"
    exit 3
    --- stdout
    loop/good finished
    --- stderr
    loop/bad Failed
    hint: flyball explain bad
    ");
    insta::assert_snapshot!(setting.transcript(&["wait", "slow", "--timeout", "300ms"]), @"
    exit 7
    --- stderr
    error: timed out after 300ms: not every loop is finished: slow
    hint: flyball explain slow
    ");
    insta::assert_snapshot!(setting.transcript(&["wait", "none"]), @"
    exit 1
    --- stderr
    error: there is no loop none
    ");
    insta::assert_snapshot!(setting.transcript(&["wait", "none", "--for", "delete"]), @"
    exit 0
    --- stdout
    loop/none deleted
    ");
}

#[test]
fn a_wait_survives_a_restart_of_the_scheduler() {
    let mut setting = Setting::new();
    setting.fake.put(object("x", "Running"));
    let child = setting.call(&["wait", "x"]).spawn();
    setting.fake.await_calls("watch x", 1);
    setting.fake.kill();
    setting.fake.listen();
    setting.fake.await_calls("watch x", 2);
    setting.fake.put(object("x", "Converged"));
    assert_eq!(child.transcript(), "exit 0\n--- stdout\nloop/x finished\n");
}

#[test]
fn what_was_deleted_while_the_scheduler_was_away_is_told() {
    let mut setting = Setting::new();
    setting.fake.put(object("x", "Running"));
    let child = setting.call(&["wait", "x", "--for", "delete"]).spawn();
    setting.fake.await_calls("watch x", 1);
    setting.fake.kill();
    setting.fake.state().loops.clear();
    setting.fake.listen();
    assert_eq!(child.transcript(), "exit 0\n--- stdout\nloop/x deleted\n");
}

#[test]
fn a_watch_shows_every_change_until_it_is_interrupted() {
    let setting = Setting::new();
    setting.fake.put(object("x", "Running"));
    let child = setting.call(&["get", "loops", "-w", "--no-headers"]).spawn();
    setting.fake.await_calls("watch ", 1);
    setting.fake.put(object("x", "Parked"));
    setting.fake.remove("x");
    let transcript = child.interrupt_after_stderr("loop/x deleted");
    let phases: Vec<_> =
        transcript.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert!(transcript.starts_with("exit 130"), "{transcript}");
    assert_eq!(phases[1..], ["stdout", "Running", "Parked", "stderr", "deleted"], "{transcript}");
}

#[test]
fn loops_are_cancelled_and_deleted() {
    let setting = Setting::new();
    setting.fake.put(object("x", "Running"));
    let cancelled = setting.transcript(&["cancel", "x", "--reason", "enough"]);
    assert_eq!(cancelled, "exit 0\n--- stdout\nloop/x cancel requested\n");
    assert_eq!(setting.fake.state().calls, ["cancel for \"enough\": x"]);
    setting.fake.put(object("ended", "Unreachable"));
    let late = setting.transcript(&["cancel", "ended"]);
    assert_eq!(late, "exit 0\n--- stdout\nloop/ended already Unreachable\n");
    let deleted = setting.transcript(&["delete", "loop/x"]);
    assert_eq!(deleted, "exit 0\n--- stdout\nloop/x will be deleted when it has stopped\n");
    let child = setting.call(&["delete", "x", "--wait"]).spawn();
    setting.fake.await_calls("watch x", 1);
    setting.fake.remove("x");
    assert_eq!(child.transcript(), "exit 0\n--- stdout\nloop/x deleted\n");
    insta::assert_snapshot!(setting.transcript(&["delete", "x"]), @"
    exit 1
    --- stderr
    error: there is no loop x
    ");
    assert_eq!(setting.transcript(&["delete", "x", "--ignore-not-found"]), "exit 0\n");
    // As `get` reads it; only a word alone is a name.
    let deleted = setting.transcript(&["delete", "loop", "ended"]);
    assert_eq!(deleted, "exit 0\n--- stdout\nloop/ended will be deleted when it has stopped\n");
    insta::assert_snapshot!(setting.transcript(&["delete", "node", "n1"]), @r#"
    exit 2
    --- stderr
    error: node cannot be deleted
    hint: for the loop of that name write loop/node
    "#);
}

#[test]
fn nodes_are_marked_and_drained() {
    let setting = Setting::new();
    let node = json!({
        "kind": "Node",
        "metadata": { "name": "n1" },
        "node": { "name": "n1", "facts": { "slots": 2, "version": "0.1.0" }, "mark": "Schedulable" },
        "status": { "online": true, "runs": ["default/x"] },
    });
    setting.fake.state().nodes.insert("n1".to_owned(), node);
    insta::assert_snapshot!(setting.transcript(&["get", "nodes"]), @"
    exit 0
    --- stdout
    NAME   STATUS   RUNS   CPU   MEMORY   VERSION   SEEN
    n1     Online   1/2    0/0   0/0      0.1.0     now
    ");
    let cordoned = setting.transcript(&["cordon", "n1", "--reason", "disk"]);
    assert_eq!(cordoned, "exit 0\n--- stdout\nnode/n1 cordoned\n");
    assert!(setting.fake.state().calls.contains(&"mark n1 \"disk\"".to_owned()));
    insta::assert_snapshot!(setting.transcript(&["drain", "node/n1", "--wait"]), @"
    exit 0
    --- stdout
    node/n1 draining
    node/n1 drained
    ");
    insta::assert_snapshot!(setting.transcript(&["describe", "node", "n1"]), @"
    exit 0
    --- stdout
    Name:         n1
    Status:       Online,Draining
    Marked:       Draining
    Seen:         now
    Version:      0.1.0
    Resources:
      Capacity:     nothing
      Used:         nothing
      Free:         nothing
      Slots:        0 of 2 used
    ");
    insta::assert_snapshot!(setting.transcript(&["uncordon", "n2"]), @"
    exit 1
    --- stderr
    error: there is no node n2
    ");
}

#[test]
fn output_is_read_from_the_leader() {
    let (setting, leader) = (Setting::new(), Setting::new());
    setting.fake.put(object("x", "Running"));
    let data = "said".to_owned().into();
    leader.fake.state().logs =
        vec![LogData { stream: "agent".to_owned(), data, iteration: 1, token: 7 }];
    setting.fake.state().leader = Some(format!("unix://{}", leader.fake.socket.display()));
    insta::assert_snapshot!(setting.transcript(&["logs", "x"]), @"
    exit 0
    --- stdout
    ==> iteration 1, agent <==
    said
    ");
    // Once: who is named and does not lead either is not asked for another one.
    leader.fake.state().leader = Some(format!("unix://{}", setting.fake.socket.display()));
    let refused = setting.transcript(&["logs", "x"]);
    assert!(refused.contains("output comes through the leader"), "{refused}");
    assert_eq!(leader.fake.state().calls, ["logs x 0 \"\"", "logs x 0 \"\""]);
    // Nobody leads.
    setting.fake.state().leader = Some(String::new());
    assert!(setting.transcript(&["logs", "x"]).starts_with("exit 1"));
}

#[test]
fn explanations_logs_and_events_are_printed() {
    let setting = Setting::new();
    setting.fake.put(object("x", "Pending"));
    insta::assert_snapshot!(setting.transcript(&["explain", "x"]), @"
    exit 0
    --- stdout
    loop/x is Pending: no node fits now
      - node-1: needs cpu 2, free 1
    What you can do:
      - flyball get nodes
    ");
    let chunk = |iteration, stream: &str, text: &str| LogData {
        stream: stream.to_owned(),
        data: text.to_owned().into(),
        iteration,
        token: 7,
    };
    setting.fake.state().logs =
        vec![chunk(1, "agent", "one\ntw"), chunk(1, "agent", "o\n"), chunk(1, "check/test", "ok")];
    insta::assert_snapshot!(setting.transcript(&["logs", "x"]), @"
    exit 0
    --- stdout
    ==> iteration 1, agent <==
    one
    two

    ==> iteration 1, check/test <==
    ok
    ");
    let raw = setting.transcript(&["logs", "x", "--iteration", "1", "--stream", "agent"]);
    assert!(raw.starts_with("exit 0\n--- stdout\none\ntwo\n"), "{raw}");
    assert!(setting.fake.state().calls.contains(&"logs x 1 \"agent\"".to_owned()));
    let json = setting.transcript(&["logs", "x", "--token", "7", "--node", "n1", "-o", "json"]);
    let line = r#"{"iteration":1,"stream":"check/test","text":"ok","token":7}"#;
    assert!(json.starts_with("exit 0") && json.contains(line), "{json}");
    assert!(setting.fake.state().calls.contains(&"logs x 0 \"\" token 7 \"n1\"".to_owned()));
    // A scheduler that knows no tokens answers with whatever there is.
    let refused = setting.transcript(&["logs", "x", "--token", "6"]);
    assert!(refused.starts_with("exit 1\n--- stderr\n"), "{refused}");
    assert!(refused.contains("does not tell output of runs apart"), "{refused}");
    let event = Event { unix_ms: 0, reason: "Assigned".to_owned(), ..Event::default() };
    setting.fake.state().events = vec![event];
    insta::assert_snapshot!(setting.transcript(&["events", "x", "-o", "json"]), @r#"
    exit 0
    --- stdout
    {"at":"1970-01-01T00:00:00Z","loop":"","message":"","namespace":"","node":"","reason":"Assigned"}
    "#);
}

#[test]
fn the_token_is_sent_and_its_lack_is_told() {
    let mut setting = Setting::new();
    setting.fake.kill();
    setting.fake.state().token = Some("s3cret".to_owned());
    setting.fake.listen();
    insta::assert_snapshot!(setting.transcript(&["get", "loops"]), @"
    exit 4
    --- stderr
    error: a token is needed
    hint: give the token of this scheduler: --token-file FILE, or FLYBALL_TOKEN
    ");
    let right = setting.call(&["version"]).env("FLYBALL_TOKEN", "s3cret").transcript();
    insta::assert_snapshot!(right, @"
    exit 0
    --- stdout
    client: 0.1.0
    server: 9.9.9 (leader, store embedded, installation abc)
    ");
    std::fs::write(setting.directory.path().join("token"), "s3cret\n").unwrap();
    assert!(setting.transcript(&["version", "--token-file", "token"]).starts_with("exit 0"));
    insta::assert_snapshot!(setting.transcript(&["version", "--token-file", "none"]), @"
    exit 4
    --- stdout
    client: 0.1.0
    --- stderr
    error: the token file none cannot be read: No such file or directory (os error 2)
    ");
}

#[test]
fn the_doctor_tells_what_it_finds_and_its_exit_code_says_how_bad_it_is() {
    use flyball_core::diagnosis::{Area, Finding};
    let setting = Setting::new();
    let warning = Finding::warning(Area::Store, "EtcdKnownBugs", "etcd 3.4.23 is old", "upgrade");
    setting.fake.state().diagnosis.findings = vec![warning];
    let told = setting.transcript(&["doctor"]);
    assert!(told.starts_with("exit 0\n"), "{told}");
    assert!(told.contains("but runs version 9.9.9 and this client"), "{told}");
    assert!(told.contains("Store\n  warning  etcd 3.4.23 is old\n           -> upgrade"), "{told}");
    assert!(told.contains("0 errors, 2 warnings."), "{told}");
    let error = Finding::error(Area::Store, "EtcdNoSpace", "out of space", "compact");
    setting.fake.state().diagnosis.findings = vec![error];
    insta::assert_snapshot!(setting.transcript(&["doctor", "-o", "name", "--no-measure"]), @"
    exit 1
    --- stdout
    warning/VersionDiffers
    ok/ClockOffset
    error/EtcdNoSpace
    ");
    assert_eq!(setting.fake.state().calls, ["diagnose measure", "diagnose"]);
}

#[test]
fn the_doctor_says_who_does_not_answer() {
    let setting = Setting::new();
    let told = setting.transcript(&["doctor", "--scheduler", "unix:///nowhere/s.sock"]);
    assert!(told.starts_with("exit 1\n"), "{told}");
    assert!(told.contains("error    unix:///nowhere/s.sock: no scheduler answers at"), "{told}");
    assert!(told.contains("-> check --addr or FLYBALL_ADDR"), "{told}");
}

#[test]
fn a_drain_has_a_deadline() {
    let setting = Setting::new();
    setting.fake.state().nodes.insert("n1".to_owned(), json!({ "node": {}, "metadata": {} }));
    assert!(setting.transcript(&["drain", "n1", "--deadline", "90s"]).starts_with("exit 0"));
    assert!(setting.transcript(&["drain", "n1"]).starts_with("exit 0"));
    assert_eq!(setting.fake.state().calls, ["mark n1 \"\" 90000 ms", "mark n1 \"\""]);
    assert!(setting.transcript(&["drain", "n1", "--deadline", "soon"]).starts_with("exit 2"));
}

#[test]
fn a_seal_is_listed_and_given_up_by_uid_or_name_with_a_reason() {
    let setting = Setting::new();
    let run = UnsealedRun {
        token: 57,
        repository: "https://example.org/r".to_owned(),
        resources: vec!["env:staging".to_owned()],
    };
    let seal = |uid: &str, name: &str| SealInfo {
        uid: uid.to_owned(),
        namespace: "default".to_owned(),
        r#loop: name.to_owned(),
        removed: true,
        runs: vec![run.clone()],
        ..SealInfo::default()
    };
    setting.fake.state().seals = vec![seal("u1", "a"), seal("u2", "b"), seal("u3", "b")];
    insta::assert_snapshot!(setting.transcript(&["seal", "list"]), @"
    exit 0
    --- stdout
    LOOP   STATE     RUNS   LAST TOKEN   REPOSITORY              BLOCKED       UID
    a      removed   1      57           https://example.org/r   env:staging   u1
    b      removed   1      57           https://example.org/r   env:staging   u2
    b      removed   1      57           https://example.org/r   env:staging   u3
    ");
    insta::assert_snapshot!(setting.transcript(&["seal", "abandon", "a"]), @"
    exit 2
    --- stderr
    error: the following required arguments were not provided:
      --reason <TEXT>

    Usage: flyball seal abandon --reason <TEXT> --addr <ADDRESS> <UID>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(setting.transcript(&["seal", "abandon", "b", "--reason", "x"]), @"
    exit 2
    --- stderr
    error: several lives of b are to be sealed: u2, u3
    hint: name one by its uid
    ");
    insta::assert_snapshot!(setting.transcript(&["seal", "abandon", "c", "--reason", "x"]), @r#"
    exit 1
    --- stderr
    error: nothing is to be sealed of "c"
    hint: what there is: flyball seal list -A
    "#);
    insta::assert_snapshot!(setting.transcript(&["seal", "abandon", "a", "--reason", "gone"]), @"
    exit 0
    --- stdout
    seal/u1 given up
    --- stderr
    loops may work on env:staging again although nothing stops a push of the lost run to https://example.org/r
    ");
    assert!(setting.fake.state().calls.contains(&"abandon u1 \"gone\"".to_owned()));
}
