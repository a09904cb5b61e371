//! What passes through the gateway: bytes unchanged, headers but those of the run, usage to the token.

use flyball_core::model::{Limits, Protocol, Usage};
use flyball_tests::poll;
use flyball_tests::provider::{Block, Provider, Reply};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use crate::client;
use crate::rig::{KEY, PROTOCOLS, PROVIDER_KEY, Rig, Setup, body, path};

const BOUND: Duration = Duration::from_secs(20);

/// An answer with everything in it.
fn rich() -> Reply {
    Reply {
        usage: Some(Usage {
            input_total: 1200,
            cache_read: 1000,
            cache_write_5m: 100,
            output_total: 77,
            reasoning: 0,
            ..Usage::default()
        }),
        ..Reply::new(vec![
            Block::Text("I look at the test first — ünïcode too.".to_owned()),
            Block::Tool { name: "shell".to_owned(), arguments: json!({ "command": "cargo test" }) },
        ])
    }
}

#[test]
fn bytes_pass_unchanged_and_usage_is_that_of_the_provider() {
    for protocol in PROTOCOLS {
        for (stream, split) in [(false, 0), (true, 0), (true, 1), (true, 7)] {
            let script = move |_: &_| Reply { split, ..rich() };
            let (direct, behind) = (Provider::start(script), Provider::start(script));
            let mut asked = body(protocol, stream);
            if protocol == Protocol::Chat && stream {
                asked["stream_options"] = json!({ "include_usage": true });
            }
            let mut rig = Rig::new(&behind, protocol, Setup::default());
            let through = rig.call(protocol, &asked).text();
            let expected =
                client::send(direct.address(), "POST", path(protocol), &[], &asked.to_string())
                    .text();
            assert_eq!(through, expected, "{protocol:?} stream={stream} split={split}");
            let spent = rig.close();
            let (calls, usage) = behind.totals();
            assert_eq!(
                (spent.usage, spent.amount.calls, spent.answered),
                (usage, calls, 1),
                "{protocol:?}"
            );
            assert_eq!((spent.amount.tokens, spent.estimated), (usage.tokens(), 0));
            assert_eq!(rig.bank.debited(), spent.amount, "what was not used came back");
            let price = flyball_core::model::DEFAULT_PRICE;
            assert_eq!(spent.amount.money, price.cost(&usage), "no table knows this model");
        }
    }
}

#[test]
fn a_chat_client_that_did_not_ask_for_usage_does_not_get_the_chunk() {
    let provider = Provider::start(|_| rich());
    let mut rig = Rig::new(&provider, Protocol::Chat, Setup::default());
    let text = rig.call(Protocol::Chat, &body(Protocol::Chat, true)).text();
    assert!(provider.served()[0].asked.asks_usage(), "the gateway asks in its place");
    assert!(!text.contains("prompt_tokens"), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(rig.close().usage, provider.totals().1);
}

#[test]
fn the_request_passes_but_for_what_is_the_gateways() {
    let provider = Provider::start(|_| rich());
    let rig = Rig::new(&provider, Protocol::Anthropic, Setup::default());
    let mut asked = body(Protocol::Anthropic, false);
    asked["model"] = json!("claude-of-some-name");
    let sent = [
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "context-1m-2025,else-2026"),
        ("anthropic-unheard", "yes"),
        ("accept-encoding", "gzip, br"),
        ("authorization", "Bearer also-the-run's"),
        ("x-flyball-subtask", "plan"),
    ];
    let answer = rig.call_with(Protocol::Anthropic, &asked, &sent);
    assert_eq!(answer.status, 200);
    assert!(answer.header("anthropic-ratelimit-requests-limit").is_none());
    assert!(answer.header("request-id").is_some_and(|id| id.starts_with("req_0")));
    assert!(answer.header("x-flyball-request-id").is_some());
    let seen = &provider.served()[0].asked;
    let header = |name: &str| seen.headers.get(name).map(String::as_str);
    assert_eq!(seen.path, "/v1/messages?beta=true");
    assert_eq!(header("x-api-key"), Some(PROVIDER_KEY));
    assert_eq!(header("anthropic-beta"), Some("context-1m-2025,else-2026"));
    assert_eq!(header("anthropic-unheard"), Some("yes"));
    assert_eq!(header("accept-encoding"), Some("identity"));
    assert_eq!((header("authorization"), header("x-flyball-subtask")), (None, None));
    // The model's name there, and nothing else.
    let expected = asked.to_string().replace("claude-of-some-name", "one-model");
    assert_eq!(String::from_utf8_lossy(&seen.raw), expected);
}

#[test]
fn where_the_client_sets_no_limit_the_route_does() {
    for protocol in PROTOCOLS {
        let provider = Provider::start(|_| rich());
        let rig = Rig::new(&provider, protocol, Setup::default());
        let mut asked = body(protocol, false);
        for name in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
            asked.as_object_mut().unwrap().remove(name);
        }
        rig.call(protocol, &asked).text();
        assert_eq!(provider.served()[0].asked.max_output(), Some(1000), "{protocol:?}");
    }
}

#[test]
fn only_the_runs_key_opens_it_and_only_while_the_run_lives() {
    let provider = Provider::start(|_| rich());
    let rig = Rig::new(&provider, Protocol::Anthropic, Setup::default());
    let asked = body(Protocol::Anthropic, false).to_string();
    let status = |headers: &[(&str, &str)]| {
        client::send(rig.address, "POST", "/v1/messages", headers, &asked).status
    };
    assert_eq!(status(&[]), 401);
    assert_eq!(status(&[("x-api-key", "run-key-0123456780")]), 401);
    assert_eq!(status(&[("x-api-key", "")]), 401);
    assert_eq!(status(&[("x-api-key", KEY)]), 200);
    let bearer = format!("Bearer {KEY}");
    assert_eq!(status(&[("authorization", &bearer)]), 200);
    assert_eq!(client::send(rig.address, "HEAD", "/api/hello", &[], "").status, 200);
    let answered = provider.served().len();
    rig.fence.let_down();
    assert!(status(&[("x-api-key", KEY)]) >= 400);
    assert_eq!(provider.served().len(), answered, "nothing goes out for a run that has ended");
}

#[test]
fn counting_is_free_and_models_are_listed() {
    let provider = Provider::start(|_| rich());
    let limits = Limits { calls: Some(0), ..Limits::default() };
    let mut rig = Rig::new(&provider, Protocol::Anthropic, Setup { limits, ..Setup::default() });
    let asked = body(Protocol::Anthropic, false).to_string();
    let key = [("x-api-key", KEY)];
    let counted = client::send(rig.address, "POST", "/v1/messages/count_tokens", &key, &asked);
    assert_eq!(counted.status, 200);
    let expected = json!({ "input_tokens": asked.len().div_ceil(4) }).to_string();
    assert_eq!(counted.text(), expected, "the provider's own count");
    let listed = client::send(rig.address, "GET", "/v1/models?limit=1000", &key, "").text();
    assert!(listed.contains("\"one-model\""), "{listed}");
    assert_eq!(rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, false)).status, 429);
    assert_eq!(rig.close().amount.calls, 0);
}

#[test]
fn a_request_that_is_too_large_or_no_call_is_refused_before_anybody_is_asked() {
    let provider = Provider::start(|_| rich());
    let rig = Rig::new(&provider, Protocol::Chat, Setup::default());
    let key = [("x-api-key", KEY)];
    let post = |path: &str, body: &str| client::send(rig.address, "POST", path, &key, body);
    assert_eq!(post("/v1/chat/completions", "{\"model\":").status, 400);
    assert_eq!(post("/v1/elsewhere", "{}").status, 404);
    let mut dear = body(Protocol::Chat, false);
    dear["service_tier"] = json!("priority");
    assert_eq!(post("/v1/chat/completions", &dear.to_string()).status, 400);
    // A provider that speaks something else is named.
    let other = post("/v1/messages", &body(Protocol::Anthropic, false).to_string());
    assert!(other.status >= 400);
    let why = other.text();
    assert!(why.contains("speak"), "{why}");
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: 99999999\r\n\r\n"
    );
    let mut stream = std::net::TcpStream::connect(rig.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 64];
    let count = stream.read(&mut first).unwrap();
    assert!(String::from_utf8_lossy(&first[..count]).contains(" 413 "));
    assert!(provider.served().is_empty());
}

#[test]
fn content_is_kept_only_where_somebody_switched_that_on() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("content");
    let provider = Provider::start(|_| rich());
    let config = flyball_gateway::Config { capture: Some(kept.clone()), ..Default::default() };
    let rig = Rig::new(&provider, Protocol::Anthropic, Setup { config, ..Setup::default() });
    let answer = rig.call(Protocol::Anthropic, &body(Protocol::Anthropic, true));
    let id = answer.header("x-flyball-request-id").unwrap().to_owned();
    let text = answer.text();
    let file = kept.join(format!("{id}.call"));
    let found = poll::until("the file is written", BOUND, || {
        std::fs::read_to_string(&file).ok().filter(|found| found.contains("message_stop"))
    });
    assert_eq!(found, format!("{}\n--------\n{text}", body(Protocol::Anthropic, true)));
}

#[test]
fn a_coded_request_is_refused_in_the_clients_dialect() {
    let provider = Provider::start(|_| Reply::text("done"));
    for protocol in PROTOCOLS {
        let mut rig = Rig::new(&provider, protocol, Setup::default());
        let call = |coding| {
            rig.call_with(protocol, &body(protocol, false), &[("content-encoding", coding)])
        };
        assert_eq!(call("Identity").status, 200);
        let refused = call("gzip");
        assert_eq!((refused.status, refused.header("x-should-retry")), (415, Some("false")));
        let text = refused.text();
        assert!(text.contains("gzip") && text.contains("allowed: identity"), "{text}");
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        let (field, word) = match protocol {
            Protocol::Anthropic => ("type", "invalid_request_error"),
            Protocol::Chat | Protocol::Responses => ("code", "unsupported_content_encoding"),
        };
        assert_eq!(told["error"][field], word, "{text}");
        let spent = rig.close();
        assert_eq!((spent.amount.calls, spent.refused), (1, 1));
    }
    assert_eq!(provider.served().len(), 3);
}

/// They would choose whose account of the operator's is billed.
#[test]
fn a_client_does_not_choose_who_is_billed() {
    let provider = Provider::start(|_| Reply::text("done"));
    for protocol in PROTOCOLS {
        let rig = Rig::new(&provider, protocol, Setup::default());
        let chosen = [("openai-organization", "org-other"), ("OpenAI-Project", "proj_other")];
        let answer = rig.call_with(protocol, &body(protocol, false), &chosen);
        assert_eq!(answer.status, 200);
    }
    for served in provider.served() {
        let headers = format!("{:?}", served.asked.headers);
        assert!(!headers.contains("other") && !headers.contains("openai-"), "{headers}");
    }
}
