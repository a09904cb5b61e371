//! Tests of definitions: shape, rules, doubts, schemas.

use serde_json::{Value, json};

use super::*;
use crate::manifest::{explain_field, schema_of};

fn document(kind: &str, metadata: Value, spec: Value) -> Value {
    json!({ "apiVersion": "flyball.dev/v1", "kind": kind, "metadata": metadata, "spec": spec })
}

fn provider(spec: Value) -> Value {
    document("Provider", json!({ "name": "acme" }), spec)
}

fn route(spec: Value) -> Value {
    document("ModelRoute", json!({ "name": "main" }), spec)
}

fn agent(spec: Value) -> Value {
    document("Agent", json!({ "name": "own" }), spec)
}

fn errors(document: &Value) -> String {
    let errors = parse_definition(document).unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn doubts(document: &Value) -> String {
    warnings_of(&parse_definition(document).unwrap()).join("\n")
}

fn minimal() -> [Value; 4] {
    [
        provider(json!({ "baseUrl": "https://api.example.org", "protocols": ["anthropic"] })),
        route(json!({ "tiers": [{ "name": "only", "deployments": [{ "provider": "acme" }] }] })),
        agent(json!({ "version": "1", "command": ["agent", "{promptFile}"] })),
        document("Budget", json!({ "namespace": "team" }), json!({ "money": "50 USD" })),
    ]
}

#[test]
fn the_least_of_each_kind_gets_its_defaults_and_parses_again() {
    for document in minimal() {
        let parsed = parse_definition(&document).unwrap();
        let written = serde_json::to_value(&parsed).unwrap();
        assert_eq!(parse_definition(&written).unwrap(), parsed);
        assert_eq!(serde_json::from_value::<Definition>(written).unwrap(), parsed);
        assert!(warnings_of(&parsed).is_empty());
    }
    let Definition::ModelRoute(route) = parse_definition(&minimal()[1]).unwrap() else { panic!() };
    assert_eq!(
        (route.spec.max_output_tokens, route.spec.tiers[0].deployments[0].weight),
        (8192, 1)
    );
    let Definition::Budget(budget) =
        parse_definition(&document("Budget", json!({}), json!({ "calls": 5 }))).unwrap()
    else {
        panic!()
    };
    assert_eq!(budget.metadata.namespace, "default");
}

#[test]
fn a_document_of_no_such_kind_is_told_what_there_is() {
    insta::assert_snapshot!(errors(&document("Providr", json!({}), json!({}))), @r#"kind: must be Provider or Agent or ModelRoute or Budget; found "Providr""#);
    insta::assert_snapshot!(errors(&json!({ "kind": "Budget", "apiVersion": "v2" })), @r#"apiVersion: only flyball.dev/v1 is supported; found "v2""#);
}

#[test]
fn shape_and_rules_of_a_provider_come_at_once() {
    let document = document(
        "Provider",
        json!({ "name": "Acme", "namespace": "team" }),
        json!({
            "baseUrl": "https://user:sk-very-secret@api.example.org", "protocols": ["chat", "chat"],
            "auth": { "secret": { "name": "key!" }, "scheme": "xApiKey" },
            "headers": { "Authorization": "x", "bad name": "y", "X-Api-Key": "z", "ok": "a\nb" },
            "query": "?a=b",
            "quota": { "requestsPerMinute": 0, "tokensPerMinute": "many" },
            "prices": {
                "": { "input": "3 USD", "output": "15 USD" },
                "m": { "input": "3 EUR", "output": 15, "long": { "above": 0, "input": 6, "output": 30 } }
            }
        }),
    );
    let found = errors(&document);
    insta::assert_snapshot!(found, @r#"
    metadata.namespace: unknown field; allowed here: name
    spec.prices.m.input: must be an amount of money such as 5 USD or 0.25 USD, in millionths at the finest; found "3 EUR"
    spec.quota.tokensPerMinute: must be a whole number; found "many"
    metadata.name: must be 1 to 63 characters of a-z, 0-9 and '-', starting and ending with a letter or digit; found "Acme"
    spec.baseUrl: must hold no user or password; a key goes into a secret, named by spec.auth
    spec.protocols[1]: must be unique; found chat
    spec.auth.secret.name: must be 1 to 63 characters of a-z, 0-9 and '-', starting and ending with a letter or digit; found "key!"
    spec.headers.Authorization: is set by the gateway; a key goes into spec.auth; found Authorization
    spec.headers["X-Api-Key"]: carries the key of spec.auth already; found X-Api-Key
    spec.headers["bad name"]: a header's name must be letters, digits and - _; found "bad name"
    spec.headers.ok: must be at most 4096 visible ASCII characters
    spec.query: must be KEY=VALUE pairs with & between them, percent-encoded, without a '?'; found "?a=b"
    spec.quota.requestsPerMinute: must be more than nothing; found 0
    spec.prices[""]: must be 1 to 256 bytes without control characters; found ""
    spec.prices.m.long.above: must be more than 0; prices that hold for every request stand outside of long; found 0
    "#);
    assert!(!found.contains("sk-very-secret"), "what may be a key is not repeated");
    insta::assert_snapshot!(errors(&provider(json!({ "baseUrl": "api.example.org", "protocols": [] }))), @r#"
    spec.baseUrl: must begin with https:// or http://; found "api.example.org"
    spec.protocols: must name at least one: anthropic, chat or responses
    "#);
}

#[test]
fn keys_and_prompts_in_the_clear_are_doubted() {
    let of = |url: &str, auth: Value| {
        doubts(&provider(json!({ "baseUrl": url, "protocols": ["chat"], "auth": auth })))
    };
    insta::assert_snapshot!(of("http://models.example.org/v1", json!({ "secret": { "name": "k" } })), @"spec.baseUrl: http:// to models.example.org: the key and all prompts go over the network in the clear");
    insta::assert_snapshot!(of("http://10.0.0.7:8000", Value::Null), @"spec.baseUrl: http:// to 10.0.0.7: all prompts go over the network in the clear");
    assert_eq!(of("http://127.0.0.1:8080/v1", Value::Null), "");
    assert_eq!(of("https://models.example.org", Value::Null), "");
    insta::assert_snapshot!(doubts(&provider(json!({
        "baseUrl": "https://a", "protocols": ["chat"], "headers": { "X-Api-Key": "abc" }
    }))), @"spec.headers.X-Api-Key: can be read by everyone who may read providers; a key belongs into a secret, named by spec.auth");
}

#[test]
fn a_route_has_tiers_that_rise_and_somebody_to_ask() {
    let tier = |name: &str, stall: u32, deployments: Value| json!({ "name": name, "from": { "stall": stall }, "deployments": deployments });
    let one = json!([{ "provider": "acme" }]);
    insta::assert_snapshot!(errors(&route(json!({
        "priority": -5,
        "match": [{}, { "models": ["", "claude-*"], "namespaces": ["Team"], "subtasks": ["small", "small"],
                        "labels": { "a b": "x" } }],
        "tiers": [
            tier("cheap", 1, one.clone()),
            tier("cheap", 1, json!([])),
            tier("Strong", 3, json!([
                { "provider": "acme", "model": "m", "weight": 0 },
                { "provider": "acme", "model": "m", "weight": 0 },
                { "provider": "", "model": "", "weight": 0 }
            ])),
            tier("huge", 4, json!([{ "provider": "acme", "weight": 10_001 }])),
        ],
        "onError": { "tries": 11, "failures": 0, "firstByte": "0s", "coolDown": "2d", "pauseMax": "2h" },
        "maxOutputTokens": 0
    }))), @r#"
    spec.match[0]: must have a condition; without spec.match the route takes every call
    spec.match[1].models[0]: must be 1 to 256 bytes without control characters; found ""
    spec.match[1].namespaces[0]: must be the name of a namespace, or a pattern of a-z, 0-9, '-' and '*'; found "Team"
    spec.match[1].subtasks[1]: must be unique; found small
    spec.match[1].labels["a b"]: a label's key must be 1 to 256 letters, digits and - _ . /; found "a b"
    spec.tiers[0].from.stall: must be 0: the first tier serves loops that do not stall; found 1
    spec.tiers[1].name: must be unique; spec.tiers[0] has the same name; found "cheap"
    spec.tiers[1].from.stall: must be more than the 1 of the tier before; found 1
    spec.tiers[1].deployments: must have at least one
    spec.tiers[2].name: must be 1 to 63 characters of a-z, 0-9 and '-', starting and ending with a letter or digit; found "Strong"
    spec.tiers[2].deployments[1]: is in this tier already; a larger share is a larger weight; found acme
    spec.tiers[2].deployments[2].provider: must be 1 to 63 characters of a-z, 0-9 and '-', starting and ending with a letter or digit; found ""
    spec.tiers[2].deployments[2].model: must be 1 to 256 bytes without control characters; found ""
    spec.tiers[2].deployments: must have one with a weight above 0: all others are asked only when that fails
    spec.tiers[3].deployments[0].weight: must be 0 to 10000; found 10001
    spec.onError.tries: must be 1 to 10; found 11
    spec.onError.failures: must be 1 to 100; found 0
    spec.onError.pauseMax: must be at most 1h; found 2h
    spec.onError.coolDown: must be at most 24h; found 48h
    spec.onError.firstByte: must be longer than zero; found 0s
    spec.maxOutputTokens: must be 1 to 1000000; found 0
    "#);
    insta::assert_snapshot!(errors(&route(json!({ "tiers": [] }))), @"spec.tiers: must have at least one tier: without one nobody serves a call");
    insta::assert_snapshot!(errors(&route(json!({
        "tiers": [{ "name": "t", "deployment": [] }], "priority": 3_000_000_000_u32
    }))), @"
    spec.priority: must be a whole number, -2147483648 to 2147483647; found 3000000000
    spec.tiers[0].deployment: unknown field; allowed here: deployments, from, name; did you mean deployments?
    spec.tiers[0].deployments: missing; must be a list of objects
    ");
}

#[test]
fn an_agent_names_a_program_and_values_that_exist() {
    insta::assert_snapshot!(errors(&document("Agent", json!({ "name": "codex" }), json!({
        "version": "", "command": [" "], "output": "jsonl", "timeout": "0s", "grace": "2h",
        "env": { "FLYBALL_X": "1", "URL": "{gatway}/v1" },
        "files": { "../x": "", "a/b.json": "{\"a\": {\"b\": 1}, \"key\": \"{key}\"}" }
    }))), @r#"
    metadata.name: is the name of a shipped agent, which cannot be changed; give yours another name; found codex
    spec.version: must be 1 to 64 bytes; found ""
    spec.command: must name a program
    spec.env.FLYBALL_X: names with FLYBALL_ are set by the platform
    spec.files["../x"]: must be a path in the agent's home, without empty, '.' or '..' parts; found "../x"
    spec.output: must be lines or builtin or claude-code or codex or mini-swe-agent; found "jsonl"
    spec.grace: must be at most 1h; found 2h
    spec.timeout: must be longer than zero; found 0s
    spec.env.URL: {gatway} is not one of {gateway}, {key}, {protocol}, {model}, {small}, {prompt}, {promptFile}, {session}, {home}, {report}, {flyball}, {traceparent}, {attribution}
    "#);
    let calls = |protocol: Value| {
        agent(json!({
            "version": "1", "command": ["a", "{promptFile}", "--url={gateway}", "x={y=1}"],
            "protocol": protocol
        }))
    };
    assert!(parse_definition(&calls(json!("chat"))).is_ok());
    insta::assert_snapshot!(errors(&calls(Value::Null)), @"spec.protocol: must say what the agent speaks to the gateway, which its definition names");
}

#[test]
fn a_budget_bounds_something() {
    let of = |spec: Value| errors(&document("Budget", json!({ "namespace": "team" }), spec));
    insta::assert_snapshot!(of(json!({})), @"spec: must bound something: tokens, money or calls; delete the budget to bound nothing");
    insta::assert_snapshot!(of(json!({ "tokens": 0, "money": "0 USD", "calls": 1.5 })), @"
    spec.calls: must be a whole number, 0 to 18446744073709551615; found 1.5
    spec.tokens: must be more than nothing; found 0
    spec.money: must be more than nothing; found 0
    ");
    insta::assert_snapshot!(of(json!({ "money": -1, "perRun": {} })), @"
    spec.money: must be an amount of money such as 5 USD or 0.25 USD, in millionths at the finest; found -1
    spec.perRun: unknown field; allowed here: calls, money, tokens
    ");
}

#[test]
fn a_definition_has_a_bound_of_its_own() {
    let text = "x".repeat(DEFINITION_BYTES_MAX);
    let document = agent(json!({ "version": "1", "command": ["a"], "files": { "f": text } }));
    assert!(errors(&document).contains("too large"), "{}", errors(&document));
}

#[test]
fn schemas_are_closed_and_explain_their_fields() {
    for kind in DefinitionKind::all() {
        let schema = schema_of(kind.word()).unwrap();
        assert_eq!(schema["properties"]["kind"]["const"], kind.manifest_kind());
        assert_eq!(schema["additionalProperties"], false);
        assert!(explain_field(&format!("{}.spec", kind.plural())).is_ok());
    }
    let field = |path: &str| explain_field(path).unwrap();
    assert_eq!(field("provider.spec.prices.input").path, "provider.spec.prices[*].input");
    assert_eq!(field("budget.spec.money").type_text, "amount of money such as 5 USD");
    assert_eq!(
        field("modelroute.spec.tiers.deployments.weight").bounds,
        ["at least 0", "at most 10000"]
    );
    assert_eq!(field("modelroute.spec.priority").type_text, "whole number");
    assert_eq!(
        field("provider.spec.protocols").type_text,
        "list of anthropic or chat or responses"
    );
    assert!(schema_of("model").is_none());
}
