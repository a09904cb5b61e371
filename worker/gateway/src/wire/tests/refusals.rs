//! Refusals in each client's dialect, and the gateway's own answers.

use std::time::Duration;

use flyball_core::model::{Amount, BudgetEnded, BudgetScope, Limits, Money, Protocol, QuotaEnded};
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::{call_of, tapped};
use crate::wire::{
    Client, Endpoint, Refusal, client, endpoint, error_event, get_model, list_models, ping,
    refusal_event, refuse,
};

const ALL: [Protocol; 3] = [Protocol::Anthropic, Protocol::Chat, Protocol::Responses];

fn ended() -> Refusal {
    Refusal::BudgetEnded(BudgetEnded {
        scope: BudgetScope::Loop,
        limits: Limits { money: Some(Money::from_dollars(5)), ..Limits::default() },
        used: Amount { money: Money(4_990_000), ..Amount::default() },
    })
}

fn answer(protocol: Protocol, client: Client, refusal: &Refusal) -> (u16, HeaderMap, Value) {
    let (head, body) = refuse(protocol, client, refusal, "req_7").into_parts();
    assert_eq!(head.headers["content-type"], "application/json");
    (head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap())
}

#[test]
fn an_ended_budget_stops_each_client() {
    let message = "spend limit reached (the budget of the loop is used up: 4.99 USD of 5 USD)";
    stops(&ended(), message);
}

#[test]
fn an_ended_quota_stops_each_client() {
    let quota = QuotaEnded { provider: "acme".to_owned(), left: Duration::from_millis(89_001) };
    let message =
        "the quota of provider acme is used up; there may be room in 1m 30s; the loop waits for it";
    stops(&Refusal::QuotaEnded(quota), message);
}

fn stops(refusal: &Refusal, message: &str) {
    let (status, headers, body) = answer(Protocol::Anthropic, Client::ClaudeCode, refusal);
    assert_eq!((status, &headers["x-should-retry"]), (429, &"false".parse().unwrap()));
    assert_eq!(
        (&headers["request-id"], &headers["retry-after"]),
        (&"req_7".parse().unwrap(), &"3600".parse().unwrap())
    );
    let error = json!({"type": "billing_error", "message": message});
    assert_eq!(body, json!({"type": "error", "error": error, "request_id": "req_7"}));
    let (status, _, body) = answer(Protocol::Responses, Client::Codex, refusal);
    assert_eq!((status, &body["error"]["type"]), (429, &json!("usage_limit_reached")));
    for protocol in [Protocol::Chat, Protocol::Responses] {
        let (status, headers, body) = answer(protocol, Client::Other, refusal);
        assert_eq!((status, &headers["x-should-retry"]), (403, &"false".parse().unwrap()));
        let code = json!("insufficient_quota");
        let error = json!({"message": message, "type": code, "param": null, "code": code});
        assert_eq!(body, json!({ "error": error }));
    }
}

#[test]
fn only_what_passes_may_be_tried_again() {
    for protocol in ALL {
        for (refusal, client, status, again) in [
            (Refusal::UpstreamGone("no route to host".to_owned()), Client::Other, 502, true),
            (Refusal::Fenced, Client::Other, 403, false),
            (Refusal::Unauthorized, Client::Other, 401, false),
            (Refusal::NoRoute("no route matches".to_owned()), Client::Other, 404, false),
            (Refusal::TooLarge { most: 9 }, Client::Other, 413, false),
            (Refusal::NotFound("/x\"y".to_owned()), Client::Other, 404, false),
            (
                Refusal::ProtocolMismatch {
                    provider: "p".to_owned(),
                    speaks: vec![Protocol::Chat],
                },
                Client::Other,
                400,
                false,
            ),
        ] {
            let (found, headers, body) = answer(protocol, client, &refusal);
            assert_eq!(found, status, "{refusal:?}");
            assert_eq!(headers.get("x-should-retry").is_none(), again, "{refusal:?}");
            assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        }
    }
    let (_, _, body) = answer(
        Protocol::Anthropic,
        Client::ClaudeCode,
        &Refusal::ProtocolMismatch { provider: "p".to_owned(), speaks: vec![Protocol::Chat] },
    );
    let message = body["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("capability_rejected: the provider p speaks OpenAI Chat"),
        "{message}"
    );
}

#[test]
fn in_a_stream_a_refusal_is_its_last_event() {
    for (protocol, name) in ALL.into_iter().zip(["anthropic", "chat", "responses"]) {
        let refusal = refusal_event(protocol, &ended(), "req_7");
        // Whatever was cut before it is ended.
        let stream = [b"data: {\"cut", &refusal[..]].concat();
        let seen = tapped(&call_of(name), false, [&stream[..]]).1.seen;
        let error = seen.error.unwrap();
        assert!(error.contains("spend limit reached (the budget"), "{error}");
        assert_eq!(seen.unread, 1);
        assert_eq!(seen.finished, protocol != Protocol::Anthropic);
        let body = b"{\"error\":\n{\"type\":\"overloaded_error\",\"message\":\"Over\"}}\n";
        let stream = error_event(protocol, 529, body, "req_7");
        let seen = tapped(&call_of(name), false, [&stream[..]]).1.seen;
        let expected =
            if protocol == Protocol::Anthropic { None } else { Some("overloaded_error: Over") };
        assert!(expected.is_none() || seen.error.as_deref() == expected, "{:?}", seen.error);
        let stream = error_event(protocol, 502, b"<html>", "req_7");
        let seen = tapped(&call_of(name), false, [&stream[..]]).1.seen;
        let error = seen.error.unwrap();
        assert!(
            error.ends_with("no provider answered: the provider answered 502: <html>"),
            "{error}"
        );
        for client in [Client::Codex, Client::Other] {
            let ping = ping(protocol, client);
            let seen = tapped(&call_of(name), false, [&ping[..]]).1.seen;
            assert_eq!(seen, crate::wire::Seen::default());
        }
    }
}

#[test]
fn paths_are_known_with_and_without_the_version() {
    let post = |path: &str| endpoint(&Method::POST, path);
    for version in ["", "/v1"] {
        for (path, protocol) in [
            ("/messages?beta=true", Protocol::Anthropic),
            ("/chat/completions", Protocol::Chat),
            ("/responses", Protocol::Responses),
        ] {
            assert_eq!(post(&format!("{version}{path}")), Some(Endpoint::Call(protocol)));
        }
        assert_eq!(post(&format!("{version}/messages/count_tokens")), Some(Endpoint::CountTokens));
    }
    let get = |path: &str| endpoint(&Method::GET, path);
    assert_eq!(get("/v1/models?limit=1000"), Some(Endpoint::ListModels));
    assert_eq!(get("/v1/models/a%2Fb"), Some(Endpoint::GetModel("a/b".to_owned())));
    assert_eq!(endpoint(&Method::HEAD, "/api/hello"), Some(Endpoint::Hello));
    // Answers that are fetched, and what else could cost money unseen.
    for path in ["/v1/responses/resp_1", "/v1/models/", "/v1/models/%zz", "/v1x/models", "/v1"] {
        assert_eq!(get(path), None, "{path}");
    }
    for path in ["/v1/messages/batches", "/v1/embeddings", "/v1/v1/messages", "/v1/files"] {
        assert_eq!(post(path), None, "{path}");
    }
}

#[test]
fn clients_are_known_by_what_they_say() {
    for (name, value, expected) in [
        ("user-agent", "claude-cli/2.1.330 (external, sdk-cli)", Client::ClaudeCode),
        ("x-claude-code-session-id", "1", Client::ClaudeCode),
        ("user-agent", "codex_exec/0.169.0 (Linux)", Client::Codex),
        ("originator", "codex_cli_rs", Client::Codex),
        ("user-agent", "OpenAI/Python 2.0", Client::Other),
        ("accept", "*/*", Client::Other),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        assert_eq!(client(&headers), expected, "{name}: {value}");
    }
}

#[test]
fn models_are_listed_for_every_client() {
    let list: Value =
        serde_json::from_str(&list_models(&["claude-x".to_owned(), "a\"b".to_owned()])).unwrap();
    assert_eq!(list["data"][1]["id"], "a\"b");
    assert_eq!((&list["first_id"], &list["last_id"]), (&json!("claude-x"), &json!("a\"b")));
    assert_eq!((&list["object"], &list["has_more"]), (&json!("list"), &json!(false)));
    let none: Value = serde_json::from_str(&list_models(&[])).unwrap();
    assert_eq!((&none["first_id"], &none["data"]), (&Value::Null, &json!([])));
    let one: Value = serde_json::from_str(&get_model("m")).unwrap();
    assert_eq!((&one["object"], &one["type"]), (&json!("model"), &json!("model")));
}
