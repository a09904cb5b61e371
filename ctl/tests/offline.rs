//! Snapshots of the binary's verbs that need no scheduler, and of its errors and exit codes.

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]

mod support;

use std::path::Path;
use std::process::Command;

use support::flyball;

const GOOD: &str = "\
apiVersion: flyball.dev/v1
kind: Loop
metadata:
  name: fix-tests
spec:
  goal: All tests pass.
  workspace:
    git:
      url: https://example.org/team/app.git
  owns: [src/**]
  checks:
    - name: test
      run: cargo test
";

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn transcript(arguments: &[&str], stdin: &str) -> String {
    flyball(directory().path(), arguments).stdin(stdin).transcript()
}

#[test]
fn a_good_manifest_is_valid() {
    insta::assert_snapshot!(transcript(&["validate", "-f", "-"], GOOD), @"
    exit 0
    --- stdout
    stdin: loop/fix-tests is valid
    ");
}

#[test]
fn a_manifest_gets_its_defaults() {
    insta::assert_snapshot!(transcript(&["validate", "-f", "-", "-o", "yaml"], GOOD), @r#"
    exit 0
    --- stdout
    apiVersion: flyball.dev/v1
    kind: Loop
    metadata:
      name: fix-tests
      namespace: default
    spec:
      checks:
      - allowRemoved: false
        name: test
        run: cargo test
        timeout: 5m
      goal: All tests pass.
      governor:
        accept: improvements
        backoff:
          initial: 200ms
          max: 1m
        iterations: 20
        maxFiles: 50
        maxLines: 2000
        patience: 4
        wallTime: 1h
      needs:
        cpu: "0"
        disk: "0"
        memory: "0"
      owns:
      - src/**
      placement: {}
      workspace:
        git:
          ref: main
          url: https://example.org/team/app.git
    "#);
}

#[test]
fn every_fault_has_its_line() {
    let text = GOOD
        .replace("  goal: All tests pass.\n", "  gaol: All tests pass.\n")
        .replace("owns: [src/**]", "owns: [src/**, src/main.rs]")
        + "      timout: 5m\n  governor:\n    itertions: 5\n    patience: 0\n";
    insta::assert_snapshot!(transcript(&["validate", "-f", "-"], &text), @r#"
    exit 1
    --- stderr
    error: the manifest is not valid: 6 faults
      stdin:5:1: spec.goal: missing; must be text
      stdin:6:3: spec.gaol: unknown field; allowed here: agent, budget, checks, goal, governor, needs, owns, pins, placement, sandbox, secrets, ttlAfterFinished, workspace; did you mean goal?
      stdin:10:18: spec.owns[1]: "src/main.rs" overlaps entry 0 ("src/**") of the same list; keep the wider one, or write them so that no path is in both (exclusive includes read)
      stdin:14:7: spec.checks[0].timout: unknown field; allowed here: allowRemoved, name, run, score, timeout; did you mean timeout?
      stdin:16:5: spec.governor.itertions: unknown field; allowed here: accept, backoff, iterations, maxFiles, maxLines, patience, wallTime; did you mean iterations?
      stdin:17:5: spec.governor.patience: must be 1 to 1000; found 0
    hint: what a field means: flyball schema loop.spec.<field>
    "#);
    insta::assert_snapshot!(transcript(&["validate", "-f", "-", "-o", "json"], &text), @r#"
    exit 1
    --- stderr
    {"error":{"code":"invalid","exitCode":1,"fields":[{"description":"missing; must be text","field":"spec.goal","source":"stdin:5:1"},{"description":"unknown field; allowed here: agent, budget, checks, goal, governor, needs, owns, pins, placement, sandbox, secrets, ttlAfterFinished, workspace; did you mean goal?","field":"spec.gaol","source":"stdin:6:3"},{"description":"\"src/main.rs\" overlaps entry 0 (\"src/**\") of the same list; keep the wider one, or write them so that no path is in both (exclusive includes read)","field":"spec.owns[1]","source":"stdin:10:18"},{"description":"unknown field; allowed here: allowRemoved, name, run, score, timeout; did you mean timeout?","field":"spec.checks[0].timout","source":"stdin:14:7"},{"description":"unknown field; allowed here: accept, backoff, iterations, maxFiles, maxLines, patience, wallTime; did you mean iterations?","field":"spec.governor.itertions","source":"stdin:16:5"},{"description":"must be 1 to 1000; found 0","field":"spec.governor.patience","source":"stdin:17:5"}],"hints":["what a field means: flyball schema loop.spec.<field>"],"message":"the manifest is not valid: 6 faults"}}
    "#);
}

/// Each kind of document has its own fields to read about.
#[test]
fn a_fault_points_to_its_own_kinds_fields() {
    let text = format!(
        "{}---\napiVersion: flyball.dev/v1\nkind: Provider\nmetadata: {{name: acme}}\nspec: {{protocols: [chat]}}\n",
        GOOD.replace("  goal: All tests pass.\n", "")
    );
    insta::assert_snapshot!(transcript(&["validate", "-f", "-"], &text), @"
    exit 1
    --- stderr
    error: the manifest is not valid: 2 faults
      stdin:5:1: spec.goal: missing; must be text
      stdin:17:1: spec.baseUrl: missing; must be text
    hint: what a field means: flyball schema loop.spec.<field>
    hint: what a field means: flyball schema provider.spec.<field>
    ");
}

#[test]
fn several_documents_are_told_apart() {
    let text = format!("{GOOD}---\n{}", GOOD.replace("fix-tests", "Bad Name"));
    insta::assert_snapshot!(transcript(&["validate", "-f", "-"], &text), @r#"
    exit 1
    --- stderr
    error: the manifest is not valid
      stdin:18:3: metadata.name: must be 1 to 63 characters of a-z, 0-9 and '-', starting and ending with a letter or digit; found "Bad Name"
    hint: what a field means: flyball schema loop.spec.<field>
    "#);
    let text = format!("{GOOD}---\n{}", GOOD.replace("fix-tests", "second"));
    insta::assert_snapshot!(transcript(&["validate", "-f", "-", "-o", "name"], &text), @"
    exit 0
    --- stdout
    loop/fix-tests
    loop/second
    ");
}

#[test]
fn broken_yaml_has_line_and_column() {
    insta::assert_snapshot!(transcript(&["validate", "-f", "-"], "a: 1\nb: [\n"), @"
    exit 1
    --- stderr
    error: the manifest is not valid
      stdin:2:4: unclosed bracket '['
    hint: what a field means: flyball schema loop.spec.<field>
    ");
    insta::assert_snapshot!(transcript(&["validate", "-f", "-"], "a:\n  x: 1\n y: 2\n"), @"
    exit 1
    --- stderr
    error: the manifest is not valid
      stdin:3:2: while parsing a block mapping, did not find expected key
    hint: what a field means: flyball schema loop.spec.<field>
    ");
    insta::assert_snapshot!(transcript(&["validate", "-f", "-"], "\tkind: Loop\n"), @"
    exit 1
    --- stderr
    error: the manifest is not valid: 3 faults
      stdin: apiVersion: missing; must be text
      stdin: metadata: missing; must be an object
      stdin: spec: missing; must be an object
    hint: what a field means: flyball schema loop.spec.<field>
    ");
}

#[test]
fn a_key_given_twice_is_refused() {
    let text = GOOD.replace("kind: Loop\n", "kind: Loop\nkind: Loop\n");
    insta::assert_snapshot!(transcript(&["validate", "-f", "-"], &text), @"
    exit 1
    --- stderr
    error: the manifest is not valid
      stdin:3:1: duplicate mapping key: kind
    hint: what a field means: flyball schema loop.spec.<field>
    ");
}

#[test]
fn an_empty_input_is_refused() {
    insta::assert_snapshot!(transcript(&["validate", "-f", "-"], "# nothing\n"), @"
    exit 1
    --- stderr
    error: the manifest is not valid
      stdin: holds no document
    hint: what a field means: flyball schema loop.spec.<field>
    ");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    insta::assert_snapshot!(transcript(&["validate", "-f", "none.yaml"], ""), @"
    exit 1
    --- stderr
    error: none.yaml cannot be read: No such file or directory (os error 2)
    ");
}

#[test]
fn a_namespace_that_contradicts_the_flag_is_refused() {
    let text = GOOD.replace("  name:", "  namespace: a\n  name:");
    insta::assert_snapshot!(transcript(&["validate", "-n", "b", "-f", "-"], &text), @"
    exit 1
    --- stderr
    error: the manifest is not valid
      stdin:4:3: metadata.namespace: is a, but --namespace is b
    hint: what a field means: flyball schema loop.spec.<field>
    ");
}

#[test]
fn fields_are_explained() {
    insta::assert_snapshot!(transcript(&["schema"], ""), @"
    exit 0
    --- stdout
    loop <object>
      A manifest of kind `Loop`, as users write it.

    FIELD        TYPE     DEFAULT    DESCRIPTION
    apiVersion   text     required   Always `flyball.dev/v1`.
    kind         text     required   Always `Loop`.
    metadata     object   required   Who the loop is.
    spec         object   required   What is wanted and what may be touched.
    ");
    insta::assert_snapshot!(transcript(&["schema", "loop.spec.governor"], ""), @"
    exit 0
    --- stdout
    loop.spec.governor <object>
      Bounds and damping.

    FIELD        TYPE                    DEFAULT          DESCRIPTION
    accept       improvements or equal   improvements     What is kept.
    backoff      object                  see its fields   Pause after an iteration that was not kept, doubling with each in a row.
    iterations   whole number            20               Most iterations in all runs; then `Exhausted`. 1 to 10000.
    maxFiles     whole number            50               Most files that one iteration may change.
    maxLines     whole number            2000             Most lines that one iteration may add and remove together.
    patience     whole number            4                Iterations in a row without improvement until `Unreachable`. 1 to 1000.
    wallTime     duration such as 10m    1h               Most time in runs in all, without that in which model calls waited for a provider's quota; then `Exhausted`.
    ");
    insta::assert_snapshot!(transcript(&["schema", "loop.spec.owns.access"], ""), @"
    exit 0
    --- stdout
    loop.spec.owns[].access <exclusive or read>, required
      `exclusive`, or `read` to share it with other readers.
      exclusive: Nobody else may hold an overlapping resource.
      read: Others may hold it for reading too.
    ");
    insta::assert_snapshot!(transcript(&["schema", "loop.spec.govenor"], ""), @r#"
    exit 1
    --- stderr
    error: loop.spec has no field "govenor"; it has: agent, budget, checks, goal, governor, needs, owns, pins, placement, sandbox, secrets, ttlAfterFinished, workspace
    hint: flyball schema loop.spec.governor
    "#);
}

#[test]
fn the_json_schema_is_printed_for_editors() {
    let output = flyball(directory().path(), &["schema", "-o", "json"]).output();
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn what_is_allowed_and_probably_not_meant_is_said() {
    let doubtful = MINIMAL.replace("src/**", "src/[ab].rs");
    insta::assert_snapshot!(transcript(&["validate", "-f", "-"], &doubtful), @r#"
    exit 0
    --- stdout
    stdin: loop/x is valid
    --- stderr
    warning: stdin: spec.owns[0]: '[' in "src/[ab].rs" stands for itself; patterns know * and ** only
    "#);
    let twice = format!("{MINIMAL}---\n{MINIMAL}");
    insta::assert_snapshot!(transcript(&["validate", "-f", "-"], &twice), @"
    exit 1
    --- stderr
    error: the manifest is not valid
      stdin:12:13: metadata.name: the same loop is in stdin (document 1) too
    hint: what a field means: flyball schema loop.spec.<field>
    ");
}

const MINIMAL: &str = "\
apiVersion: flyball.dev/v1
kind: Loop
metadata: { name: x }
spec:
  goal: All tests pass.
  workspace: { git: { url: /srv/app.git, ref: main } }
  owns: [\"src/**\"]
  checks: [{ name: test, run: make test }]
";

#[test]
fn definitions_are_checked_beside_loops_and_shown_in_their_order() {
    let documents = format!(
        "{GOOD}---\n{}---\n{}---\n{}",
        "{apiVersion: flyball.dev/v1, kind: ModelRoute, metadata: {name: main}, spec: {tiers: [{name: t, deployments: [{provider: acme}]}]}}\n",
        "{apiVersion: flyball.dev/v1, kind: Provider, metadata: {name: acme}, spec: {baseUrl: 'http://acme.example.org', protocols: [chat]}}\n",
        "{apiVersion: flyball.dev/v1, kind: Budget, metadata: {}, spec: {money: 5 USD}}\n",
    );
    insta::assert_snapshot!(transcript(&["validate", "-n", "team", "-f", "-"], &documents), @"
    exit 0
    --- stdout
    stdin (document 3): provider/acme is valid
    stdin (document 2): modelroute/main is valid
    stdin (document 4): budget/team is valid
    stdin (document 1): loop/fix-tests is valid
    --- stderr
    warning: stdin (document 3): spec.baseUrl: http:// to acme.example.org: all prompts go over the network in the clear
    ");
    let wrong = documents.replace("[chat]", "[chatt]").replace("5 USD", "5 EUR");
    insta::assert_snapshot!(transcript(&["validate", "-f", "-"], &wrong), @r#"
    exit 1
    --- stderr
    error: the manifest is not valid: 2 faults
      stdin:17:125: spec.protocols[0]: must be anthropic or chat or responses; found "chatt"; did you mean chat?
      stdin:19:65: spec.money: must be an amount of money such as 5 USD or 0.25 USD, in millionths at the finest; found "5 EUR"
    hint: what a field means: flyball schema budget.spec.<field>
    hint: what a field means: flyball schema provider.spec.<field>
    "#);
}

#[test]
fn the_examples_of_definitions_are_valid_and_their_fields_are_explained() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models");
    for entry in std::fs::read_dir(examples).unwrap().flatten() {
        let path = entry.path();
        let said = transcript(&["validate", "-f", path.to_str().unwrap()], "");
        assert!(said.starts_with("exit 0\n"), "{}: {said}", path.display());
        assert!(!said.contains("warning"), "{}: {said}", path.display());
    }
    insta::assert_snapshot!(transcript(&["schema", "modelroute.spec.tiers"], ""), @"
    exit 0
    --- stdout
    modelroute.spec.tiers <list of objects>, required
      From the cheapest to the strongest. 1 to 8.
      entries at least 1
      entries at most 8

    FIELD         TYPE              DEFAULT          DESCRIPTION
    deployments   list of objects   required         Who serves it: at least one, at most 16.
    from          object            see its fields   From which stall on it is used. The first tier must say 0 (or nothing); each next one more than the one before.
    name          text              required         Its name, unique in the route.
    ");
}

#[test]
fn exit_codes_are_documented() {
    insta::assert_snapshot!(transcript(&["help", "exit-codes"], ""), @"
    exit 0
    --- stdout
    Exit codes of flyball:
        0  ok
        1  error: it could not be done; the message says why
        2  usage: the command line is wrong
        3  the loop finished, but not Converged (wait, apply --wait)
        4  not authenticated, or not allowed
        5  not placed: no node can ever take the loop (apply --wait)
        6  a budget has ended; the loop is parked until it is extended (apply --wait)
        7  timeout: what was waited for did not happen in time (wait, drain --wait)
      130  interrupted
    ");
}

#[test]
fn mistakes_in_the_command_line_exit_with_2() {
    insta::assert_snapshot!(transcript(&["get", "pods"], ""), @r#"
    exit 2
    --- stderr
    error: there is no kind "pods"
    hint: kinds are: loops, nodes, claims, iterations, roles, rolebindings, providers, modelroutes, agents, budgets
    "#);
    insta::assert_snapshot!(transcript(&["wait", "x", "--for", "phase=walking"], ""), @"
    exit 2
    --- stderr
    error: invalid value 'phase=walking' for '--for <STATE>': phases are Pending, Assigned, Running, Parked, Converged, Unreachable, Exhausted, Failed, Cancelled

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(transcript(&["aply"], ""), @"
    exit 2
    --- stderr
    error: unrecognized subcommand 'aply'

      tip: a similar subcommand exists: 'apply'

    Usage: flyball [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(transcript(&["get", "loops", "--bogus", "-o", "json"], ""), @r#"
    exit 2
    --- stderr
    {"error":{"code":"usage","exitCode":2,"message":"unexpected argument '--bogus' found"}}
    "#);
    insta::assert_snapshot!(transcript(&["describe", "loop"], ""), @"
    exit 2
    --- stderr
    error: name one thing
    hint: flyball describe KIND NAME; kinds are: loop, node, provider, modelroute, agent, budget
    ");
}

#[test]
fn without_a_scheduler_the_next_step_is_named() {
    let directory = directory();
    let call = || flyball(directory.path(), &["get", "loops"]);
    let transcript = call().transcript().replace(&*directory.path().to_string_lossy(), "HOME");
    insta::assert_snapshot!(transcript, @"
    exit 1
    --- stderr
    error: no scheduler answers at unix://HOME/.local/share/flyball/scheduler.sock: No such file or directory (os error 2)
    hint: start a control plane on this machine: flyball up
    hint: or name the one to use: --addr ADDRESS, or FLYBALL_ADDR
    ");
    let transcript = call().env("FLYBALL_ADDR", "unix:///nowhere.sock").transcript();
    insta::assert_snapshot!(transcript, @"
    exit 1
    --- stderr
    error: no scheduler answers at unix:///nowhere.sock: No such file or directory (os error 2)
    hint: check --addr or FLYBALL_ADDR, and that a scheduler runs there
    ");
    let call =
        flyball(directory.path(), &["get", "loops", "-o", "json", "--addr", "/nowhere.sock"]);
    insta::assert_snapshot!(call.transcript(), @r#"
    exit 1
    --- stderr
    {"error":{"code":"unreachable","exitCode":1,"hints":["check --addr or FLYBALL_ADDR, and that a scheduler runs there"],"message":"no scheduler answers at unix:///nowhere.sock: No such file or directory (os error 2)"}}
    "#);
}

#[test]
fn the_client_knows_its_version() {
    let line = transcript(&["version", "--client"], "");
    assert_eq!(line, format!("exit 0\n--- stdout\nclient: {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completion_scripts_exist_for_three_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let output = flyball(directory().path(), &["completion", shell]).output();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("uncordon"), "{shell}");
    }
}

fn git(directory: &Path, arguments: &[&str]) {
    let status = Command::new("git").arg("-C").arg(directory).args(arguments).status().unwrap();
    assert!(status.success());
}

#[test]
fn init_writes_a_manifest_that_is_valid_and_never_replaces_one() {
    let directory = directory();
    let root = directory.path().canonicalize().unwrap();
    git(&root, &["init", "-q", "-b", "trunk"]);
    std::fs::write(root.join("go.mod"), "module x\n").unwrap();
    std::fs::create_dir(root.join("cmd")).unwrap();
    let call = |arguments: &[&str]| {
        flyball(&root, arguments).transcript().replace(&*root.to_string_lossy(), "/repository")
    };
    insta::assert_snapshot!(call(&["init", "--name", "fix"]), @"
    exit 0
    --- stdout
    wrote flyball.yaml (a Go project, tested with go test)
    --- stderr
    next: edit its goal, owns and agent, then
      flyball validate -f flyball.yaml
      flyball apply -f flyball.yaml
    ");
    insta::assert_snapshot!(std::fs::read_to_string(root.join("flyball.yaml")).unwrap()
        .replace(&*root.to_string_lossy(), "/repository"), @r#"
    # A loop: declares when work is done and what may be touched.
    # Every field is explained by: flyball schema loop.spec
    apiVersion: flyball.dev/v1
    kind: Loop
    metadata:
      name: fix
    spec:
      # What is to be reached, in words for the agent.
      goal: |
        All tests pass. Fix the code, not the tests.
      workspace:
        git:
          # There is no commit yet: a loop needs one to start from.
          url: /repository
          ref: trunk
          publish:
            branch: flyball/fix
      # What the agent may change. No other loop gets an overlapping set meanwhile.
      owns:
        - cmd/**
      # Done when every check passes, proven in a fresh clone.
      checks:
        - name: test
          run: "go test -v ./..."
          timeout: 10m
          score:
            regex:
              pass: '^\s*--- PASS: (?P<name>\S+)'
              fail: '^\s*--- FAIL: (?P<name>\S+)'
      # The program that makes one change per iteration; it finds its brief as text in the
      # file $FLYBALL_BRIEF_TEXT, as JSON in $FLYBALL_BRIEF. Without one the loop only measures.
      # agent:
      #   command: my-agent --task-file "$FLYBALL_BRIEF_TEXT"
      #   timeout: 30m
      governor:
        iterations: 20
        wallTime: 1h
        patience: 4
    "#);
    insta::assert_snapshot!(call(&["validate", "-f", "flyball.yaml"]), @"
    exit 0
    --- stdout
    flyball.yaml: loop/fix is valid
    ");
    insta::assert_snapshot!(call(&["init"]), @"
    exit 1
    --- stderr
    error: flyball.yaml exists already
    hint: replace it with --force, or print to the terminal: flyball init -f -
    ");
    assert!(call(&["init", "--force"]).starts_with("exit 0"));
    assert!(call(&["init", "--file", "-"]).contains("go test -v ./..."));
}

#[test]
fn init_needs_a_repository() {
    let directory = directory();
    // Keeps git from looking into the directories above.
    let call = flyball(directory.path(), &["init"])
        .env("GIT_CEILING_DIRECTORIES", &directory.path().parent().unwrap().to_string_lossy())
        .env("LC_ALL", "C");
    insta::assert_snapshot!(call.transcript(), @"
    exit 1
    --- stderr
    error: . is not inside a git repository: fatal: not a git repository (or any of the parent directories): .git
    hint: make it one: git init && git add . && git commit
    ");
}
