//! Tests of parsing, rules, schema and field documentation.

use serde_json::{Value, json};

use super::*;

fn manifest() -> Value {
    json!({
        "apiVersion": "flyball.dev/v1",
        "kind": "Loop",
        "metadata": { "name": "fix-tests" },
        "spec": {
            "goal": "All tests pass.",
            "workspace": { "git": { "url": "https://example.org/team/app.git" } },
            "owns": ["src/**"],
            "checks": [{ "name": "test", "run": "cargo test" }],
            "agent": { "command": ["agent", "--once"] }
        }
    })
}

/// The manifest with the value at a JSON pointer's parent set, or removed with `Null`.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut document = manifest();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap();
        match (parent, value) {
            (Value::Object(map), Value::Null) => drop(map.remove(key)),
            (Value::Object(map), value) => drop(map.insert(key.to_owned(), value.clone())),
            (Value::Array(items), value) => items.insert(key.parse().unwrap(), value.clone()),
            _ => panic!("no parent at {pointer}"),
        }
    }
    document
}

fn errors(document: &Value) -> String {
    let errors = parse_manifest(document).unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_minimal_manifest_gets_its_defaults() {
    let parsed = parse_manifest(&manifest()).unwrap();
    assert_eq!(parsed.metadata.namespace, "default");
    assert_eq!(parsed.spec.governor.iterations, 20);
    assert_eq!(parsed.spec.workspace.unwrap().git.reference, "main");
    assert_eq!(parsed.spec.checks[0].timeout.to_string(), "5m");
}

#[test]
fn what_was_parsed_parses_again() {
    let parsed = parse_manifest(&manifest()).unwrap();
    let again = parse_manifest(&serde_json::to_value(&parsed).unwrap()).unwrap();
    assert_eq!(parsed, again);
}

#[test]
fn unknown_fields_say_what_is_allowed_and_what_was_meant() {
    let document = with(&[
        ("/spec/governor", json!({ "itertions": 5, "max_files": 3 })),
        ("/spec/patience", json!(3)),
        ("/spec/colour", json!("red")),
        ("/metadata/nam", json!("x")),
    ]);
    insta::assert_snapshot!(errors(&document), @"
    metadata.nam: unknown field; allowed here: labels, name, namespace; did you mean name?
    spec.colour: unknown field; allowed here: agent, budget, checks, goal, governor, needs, owns, pins, placement, sandbox, secrets, ttlAfterFinished, workspace
    spec.governor.itertions: unknown field; allowed here: accept, backoff, iterations, maxFiles, maxLines, patience, wallTime; did you mean iterations?
    spec.governor.max_files: unknown field; allowed here: accept, backoff, iterations, maxFiles, maxLines, patience, wallTime; did you mean maxFiles?
    spec.patience: unknown field; allowed here: agent, budget, checks, goal, governor, needs, owns, pins, placement, sandbox, secrets, ttlAfterFinished, workspace; did you mean spec.governor.patience?
    ");
}

#[test]
fn wrong_types_and_missing_fields_are_all_found_at_once() {
    let document = with(&[
        ("/spec/goal", Value::Null),
        ("/spec/checks/0", json!({ "run": 5, "timeout": "soon", "score": "libtest" })),
        ("/spec/checks/1", json!("cargo test")),
        ("/spec/owns", json!("src/**")),
        ("/spec/needs", json!({ "cpu": "many", "memory": -1, "custom": { "gpu": 1.5 } })),
        ("/spec/governor", json!({ "iterations": "20", "accept": "improvement" })),
        ("/spec/agent", json!({ "command": {}, "env": { "A-B": 1 } })),
        ("/metadata/labels", json!({ "team": null })),
    ]);
    insta::assert_snapshot!(errors(&document), @r#"
    metadata.labels.team: must be text; found nothing
    spec.agent.command: must be text or list of texts; found an object
    spec.agent.env["A-B"]: must be text; found 1
    spec.checks[0].run: must be text or list of texts; found 5
    spec.checks[0].score: must be an object with one of the fields libtest, regex; found "libtest"; did you mean libtest: {}?
    spec.checks[0].timeout: must be a duration such as 90s, 10m, 1h 30m or 7d; found "soon"
    spec.checks[0].name: missing; must be text
    spec.checks[1]: must be an object; found "cargo test"
    spec.governor.accept: must be improvements or equal; found "improvement"; did you mean improvements?
    spec.governor.iterations: must be a whole number; found "20"; did you mean 20 without quotes?
    spec.needs.cpu: must be an amount of processors such as 2, 0.5 or 500m; found "many"
    spec.needs.custom.gpu: must be a whole number, 0 to 18446744073709551615; found 1.5
    spec.needs.memory: must be a size in bytes such as 512Mi, 1Gi, 10M or 4096; found -1
    spec.owns: must be a list of texts or objects; found "src/**"; did you mean [src/**]?
    spec.goal: missing; must be text
    "#);
}

#[test]
fn rules_are_all_checked_at_once() {
    let document = with(&[
        ("/metadata/name", json!("Fix Tests")),
        ("/spec/goal", json!(" ")),
        (
            "/spec/workspace/git",
            json!({
                "url": "../app", "ref": "a..b", "publish": { "branch": "refs/heads/x" }
            }),
        ),
        ("/spec/owns", json!([])),
        (
            "/spec/checks/1",
            json!({
                "name": "test", "run": [], "timeout": "25h",
                "score": { "regex": { "pass": "ok (", "fail": ".*" } }
            }),
        ),
        (
            "/spec/agent",
            json!({
                "command": " ", "timeout": "0s", "env": { "1A": "x", "FLYBALL_X": "y" }
            }),
        ),
        (
            "/spec/governor",
            json!({
                "iterations": 0, "patience": 1001, "wallTime": "0s", "maxFiles": 0,
                "backoff": { "initial": "2m", "max": "1m" }
            }),
        ),
    ]);
    insta::assert_snapshot!(errors(&document), @r#"
    metadata.name: must be 1 to 63 characters of a-z, 0-9 and '-', starting and ending with a letter or digit; found "Fix Tests"
    spec.goal: must say what is to be reached
    spec.workspace.git.url: must be an absolute path, a URL (https, http, ssh, git, file) or user@host:path; relative paths mean nothing on another machine; found "../app"
    spec.workspace.git.ref: must not contain '..' or end with '.'; found "a..b"
    spec.workspace.git.publish.branch: must be a branch name, without refs/heads/; found "refs/heads/x"
    spec.owns: a loop with a workspace must own at least one path, such as src/**
    spec.checks[1].name: must be unique; spec.checks[0] has the same name; found "test"
    spec.checks[1].run: must name a program
    spec.checks[1].timeout: must be at most 24h; found 25h
    spec.checks[1].score.regex.pass: is not a valid regular expression: unclosed group; found "ok ("
    spec.checks[1].score.regex.fail: must not match the empty line; found ".*"
    spec.agent.command: must name a program
    spec.agent.timeout: must be longer than zero; found 0s
    spec.agent.env["1A"]: a variable's name must be letters, digits and _, not starting with a digit; found "1A"
    spec.agent.env.FLYBALL_X: names with FLYBALL_ are set by the platform
    spec.governor.iterations: must be 1 to 10000; found 0
    spec.governor.wallTime: must be longer than zero; found 0s
    spec.governor.patience: must be 1 to 1000; found 1001
    spec.governor.maxFiles: must be at least 1; found 0
    spec.governor.backoff.initial: must be at most spec.governor.backoff.max, 1m; found 2m
    "#);
}

#[test]
fn faults_of_resource_sets_and_pins_name_their_entry() {
    let shared = json!({ "resource": "docs/*", "access": "read" });
    let owns = json!(["src/**", "a//b", "src/parser/*", shared, "gpu", "/abs", "../x", "git:x"]);
    let document = with(&[("/spec/owns", owns), ("/spec/pins", json!(["tests/**", "a/**/b"]))]);
    insta::assert_snapshot!(errors(&document), @r#"
    spec.owns[1]: has an empty segment; write one '/' between segments and none at the end (everything below a directory is dir/**)
    spec.owns[2]: "src/parser/*" overlaps entry 0 ("src/**") of the same list; keep the wider one, or write them so that no path is in both (exclusive includes read)
    spec.owns[5]: "/abs" is absolute; bare paths are relative to the workspace, without leading '/'
    spec.owns[6]: has the segment ".."; write the path without . and ..
    spec.pins[1]: has ** before the end; ** is allowed only as the last segment
    "#);
}

#[test]
fn without_a_workspace_entries_need_a_scheme() {
    let document = with(&[
        ("/spec/workspace", Value::Null),
        ("/spec/owns", json!(["src/**", "gpu:node1/0"])),
        ("/spec/pins", json!(["tests/**"])),
    ]);
    insta::assert_snapshot!(errors(&document), @r#"
    spec.owns[0]: "src/**" is a bare path, which needs workspace.git; without one write scheme:path, e.g. git:example.org/repo/src/**
    spec.pins: pins need a workspace to be restored from
    "#);
}

#[test]
fn validation_answers_the_resource_set() {
    let set = validate(&parse_manifest(&manifest()).unwrap()).unwrap();
    assert_eq!(set.canonical(), ["git:example.org/team/app/src/**"]);
}

#[test]
fn rules_still_apply_beside_wrong_shapes() {
    let document = with(&[
        ("/spec/governor", json!({ "iterations": 0, "patience": "x" })),
        ("/spec/checks", Value::Null),
    ]);
    insta::assert_snapshot!(errors(&document), @r#"
    spec.governor.patience: must be a whole number; found "x"
    spec.checks: missing; must be a list of objects
    spec.governor.iterations: must be 1 to 10000; found 0
    "#);
}

#[test]
fn another_kind_is_named_once() {
    let document = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": { "a": 1 } });
    insta::assert_snapshot!(errors(&document), @r#"
    apiVersion: only flyball.dev/v1 is supported; found "v1"
    kind: only Loop is supported; found "Pod"
    "#);
    insta::assert_snapshot!(errors(&json!([1])), @"manifest: must be an object; found a list");
}

#[test]
fn a_manifest_that_is_too_large_is_refused_before_anything_else() {
    let document = with(&[("/spec/goal", json!("x".repeat(MANIFEST_BYTES_MAX)))]);
    insta::assert_snapshot!(errors(&document), @"manifest: the manifest is too large: at most 262144 bytes as JSON; found 262406 bytes");
}

#[test]
fn a_long_goal_is_refused() {
    let document = with(&[("/spec/goal", json!("x".repeat(16 * 1024)))]);
    assert!(parse_manifest(&document).is_ok(), "the bound itself is allowed");
    let document = with(&[("/spec/goal", json!("x".repeat(16 * 1024 + 1)))]);
    insta::assert_snapshot!(errors(&document), @"spec.goal: must be at most 16384 bytes; found 16385 bytes");
}

#[test]
fn null_is_absent_for_optional_fields() {
    let document = with(&[("/spec/ttlAfterFinished", json!("1h"))]);
    assert!(parse_manifest(&document).is_ok());
    let mut document = manifest();
    document["spec"]["ttlAfterFinished"] = Value::Null;
    assert_eq!(parse_manifest(&document).unwrap().spec.ttl_after_finished, None);
}

#[test]
fn reference_names_follow_git() {
    for good in ["main", "v1.0", "refs/tags/v1", "feature/a-b", "flyball/x"] {
        assert_eq!(check_reference(good), Ok(()), "{good}");
    }
    let bad = [
        "", "@", "-x", "/a", "a/", "a//b", "a..b", "a.", "a@{1", "a b", "a~1", "a^", "a:b", "a?",
        "a*", "a[", "a\\b", ".a", "a/.b", "a.lock", "a.lock/b", "a\u{7f}",
    ];
    for bad in bad {
        assert!(check_reference(bad).is_err(), "{bad}");
    }
    assert!(check_branch("HEAD").is_err());
    assert!(check_branch("refs/heads/x").is_err());
}

#[test]
fn repository_addresses_are_absolute_and_without_secrets() {
    let good = [
        "/srv/git/app.git",
        "file:///srv/app",
        "https://example.org/a/b",
        "ssh://git@host:2222/a",
        "git@example.org:team/app.git",
        "http://127.0.0.1:8080/a.git",
        "git://host/a",
    ];
    for good in good {
        assert_eq!(check_repository_url(good), Ok(()), "{good}");
    }
    let bad = [
        "",
        "app",
        "../app",
        "./a",
        "ext::sh -c x",
        "https://u:p@host/a",
        "https://",
        "https://host",
        "ftp://host/a",
        "file://relative",
        "--upload-pack=x",
        "ssh://-oProxyCommand=x/a",
        "a\nb",
    ];
    for bad in bad {
        assert!(check_repository_url(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_schema_is_closed_and_bounded() {
    let schema = schema();
    assert_eq!(schema["additionalProperties"], json!(false));
    assert_eq!(schema["$defs"]["GovernorSpec"]["properties"]["iterations"]["maximum"], 10_000);
    assert_eq!(schema["properties"]["kind"]["const"], "Loop");
}

#[test]
fn every_bound_of_the_schema_has_its_place() {
    for (pointer, _) in super::schema::texts() {
        assert!(schema().pointer(pointer).is_some(), "{pointer}");
    }
    for (pointer, ..) in super::schema::bounds() {
        assert!(schema().pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn fields_are_documented_by_path() {
    let doc = explain_field("loop.spec.governor.accept").unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&doc).unwrap(), @r#"
    {
      "path": "loop.spec.governor.accept",
      "typeText": "improvements or equal",
      "required": false,
      "default": "improvements",
      "description": "What is kept.",
      "bounds": [],
      "words": [
        [
          "improvements",
          "Only those that shrink the distance below the best so far."
        ],
        [
          "equal",
          "Also those that leave it equal with another tree."
        ]
      ],
      "fields": []
    }
    "#);
    let checks = explain_field("spec.checks").unwrap();
    let names: Vec<_> = checks.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["allowRemoved", "name", "run", "score", "timeout"]);
    assert_eq!(explain_field("loop.spec.checks[0].score.regex.pass").unwrap().type_text, "text");
    let fields = |path: &str| -> Vec<String> {
        explain_field(path).unwrap().fields.into_iter().map(|field| field.name).collect()
    };
    assert_eq!(fields("loop").len(), 4);
    // One of several forms is an object; the values of a map are none.
    assert_eq!(fields("loop.spec.owns"), ["access", "resource"]);
    assert!(fields("loop.metadata.labels").is_empty());
}

#[test]
fn habits_from_other_tools_are_led_to_the_right_field() {
    let document = with(&[
        ("/spec/needs", json!({ "gpu": 1, "fpga": 2 })),
        ("/spec/placement", json!({ "labels": { "zone": "a" } })),
    ]);
    let errors = errors(&document);
    assert!(errors.contains("did you mean custom: {gpu: 1}?"), "{errors}");
    assert!(errors.contains("did you mean custom: {fpga: 1}?"), "{errors}");
    assert!(errors.contains("did you mean requiredLabels?"), "{errors}");
}

#[test]
fn an_unknown_path_names_what_exists() {
    let error = explain_field("loop.spec.check").unwrap_err();
    assert_eq!(error.suggestion.as_deref(), Some("checks"));
    assert_eq!(error.parent, "loop.spec");
}

#[test]
fn every_field_has_a_description() {
    for path in super::explain::all_paths() {
        let doc = explain_field(&path).unwrap();
        let described =
            !doc.description.is_empty() || path.ends_with(".libtest") || path.ends_with(".regex");
        assert!(described, "{path}");
    }
}
