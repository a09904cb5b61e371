//! Whole attempts against a scripted model, in each protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use flyball_core::model::Protocol;
use serde_json::{Value, json};

use super::*;
use crate::Bounds;

/// One answer: a status, and a text with calls (name, arguments) or, with another status, an error.
type Script = (u16, &'static str, Vec<(&'static str, Value)>);

fn stream(protocol: Protocol, text: &str, calls: &[(&str, Value)]) -> String {
    let mut events = Vec::new();
    match protocol {
        Protocol::Anthropic => {
            events
                .push(json!({"type": "message_start", "message": {"usage": {"input_tokens": 10}}}));
            events.push(json!({"type": "content_block_delta", "delta": {"text": text}}));
            for (number, (name, arguments)) in calls.iter().enumerate() {
                let block = json!({"type": "tool_use", "id": format!("t{number}"), "name": name});
                events.push(json!({"type": "content_block_start", "content_block": block}));
                let partial = json!({"partial_json": arguments.to_string()});
                events.push(json!({"type": "content_block_delta", "delta": partial}));
                events.push(json!({"type": "content_block_stop"}));
            }
            events
                .push(json!({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 3}}));
            events.push(json!({"type": "message_stop"}));
        }
        Protocol::Chat => {
            for (index, (name, arguments)) in calls.iter().enumerate() {
                let function = json!({"name": name, "arguments": arguments.to_string()});
                let call = json!({"index": index, "id": format!("t{index}"), "function": function});
                events.push(json!({"choices": [{"delta": {"tool_calls": [call]}}]}));
            }
            let delta = json!({"delta": {"content": text}, "finish_reason": "stop"});
            events.push(json!({"choices": [delta]}));
            let usage = json!({"prompt_tokens": 10, "completion_tokens": 3});
            events.push(json!({"choices": [], "usage": usage}));
        }
        Protocol::Responses => {
            let part = json!({"type": "output_text", "text": text});
            let mut items = vec![json!({"type": "message", "content": [part]})];
            items.extend(calls.iter().enumerate().map(|(number, (name, arguments))| {
                json!({
                    "type": "function_call", "call_id": format!("t{number}"), "name": name,
                    "arguments": arguments.to_string(),
                })
            }));
            let done = |item| json!({"type": "response.output_item.done", "item": item});
            events.extend(items.into_iter().map(done));
            let usage = json!({"input_tokens": 10, "output_tokens": 3});
            events.push(json!({"type": "response.completed", "response": {"usage": usage}}));
        }
    }
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

/// Answers as scripted, and then hands over what it was asked.
fn model(protocol: Protocol, script: Vec<Script>) -> (String, JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (status, text, calls) in script {
            let (mut connection, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(connection.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap() > 2 {
                let value = line.trim().strip_prefix("content-length: ").map(str::to_owned);
                length = value.map_or(length, |value| value.parse().unwrap());
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            asked.push(serde_json::from_slice(&body).unwrap());
            let body = match status {
                200 => stream(protocol, text, &calls),
                _ => json!({"error": {"message": text}}).to_string(),
            };
            write!(connection, "HTTP/1.1 {status} X\r\n\r\n{body}").unwrap();
        }
        asked
    });
    (url, server)
}

struct Played {
    code: bool,
    events: Vec<Value>,
    asked: Vec<Value>,
    report: Option<Value>,
}

fn play(protocol: Protocol, bounds: Bounds, script: Vec<Script>) -> Played {
    let dir = tempfile::tempdir().unwrap();
    let (url, server) = model(protocol, script);
    let (brief, report) = (dir.path().join("brief.md"), dir.path().join("report.json"));
    std::fs::write(&brief, "# fix it").unwrap();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let mut out = Vec::new();
    let code = crate::run(
        bounds,
        |name| match name {
            "FLYBALL_MODEL_URL" => Some(url.clone()),
            "FLYBALL_MODEL_KEY" => Some("key".to_owned()),
            "FLYBALL_MODEL" => Some("large".to_owned()),
            "FLYBALL_MODEL_PROTOCOL" => Some(speak::name(protocol).to_owned()),
            "FLYBALL_BRIEF_TEXT" => Some(text(&brief)),
            "FLYBALL_REPORT" => Some(text(&report)),
            _ => None,
        },
        &mut out,
    );
    let lines = String::from_utf8(out).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let report = std::fs::read_to_string(&report).ok();
    Played {
        code: code == std::process::ExitCode::SUCCESS,
        events,
        asked: server.join().unwrap(),
        report: report.map(|text| serde_json::from_str(&text).unwrap()),
    }
}

fn shell(line: &str) -> (&'static str, Value) {
    ("shell", json!({"command": line}))
}

const ALL: [Protocol; 3] = [Protocol::Anthropic, Protocol::Chat, Protocol::Responses];

#[test]
fn tools_are_run_and_what_came_of_them_is_told() {
    for protocol in ALL {
        let report = ("report", json!({"note": "done it", "claim": "done"}));
        let played = play(
            protocol,
            Bounds::default(),
            vec![
                (200, "I look.", vec![shell("echo one"), shell("echo two; exit 1")]),
                (200, "", vec![report, shell("echo never")]),
            ],
        );
        assert!(played.code, "{protocol:?}");
        assert_eq!(played.report, Some(json!({"note": "done it", "claim": "done"})));
        let kinds: Vec<&str> =
            played.events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let tool = ["toolBegan", "toolEnded"];
        let expected =
            [&["began", "turn"][..], &tool, &tool, &["turn"], &tool, &["ended"]].concat();
        assert_eq!(kinds, expected, "{protocol:?}");
        let last = played.events.last().unwrap();
        assert_eq!((last["ok"].clone(), last["reason"].clone()), (json!(true), json!("report")));
        assert_eq!(
            (&last["usage"]["inputTotal"], &last["usage"]["outputTotal"]),
            (&json!(20), &json!(6))
        );
        let second = played.asked[1].to_string();
        assert!(second.contains("one\\n[exit 0]") && second.contains("two\\n[exit 1]"), "{second}");
        assert!(second.contains("# fix it") && second.contains("I look."), "{protocol:?}");
    }
}

#[test]
fn one_that_only_talks_is_nudged_once_and_then_taken_at_its_word() {
    let played = play(
        Protocol::Chat,
        Bounds::default(),
        vec![(200, "All is well.", vec![]), (200, "Really.", vec![])],
    );
    assert!(played.code && played.report.is_none());
    assert!(played.asked[1].to_string().contains("not used a tool"));
    let last = played.events.last().unwrap();
    assert_eq!((&last["reason"], &last["message"]), (&json!("stop"), &json!("Really.")));
}

#[test]
fn turns_and_time_are_bounded() {
    let script = || vec![(200, "", vec![shell("true")]), (200, "", vec![shell("true")])];
    let played = play(Protocol::Anthropic, Bounds { turns: 2, ..Bounds::default() }, script());
    assert!(!played.code);
    assert_eq!(played.events.last().unwrap()["reason"], "turns");
    let slow = vec![(200, "", vec![shell("sleep 100")])];
    let played = play(Protocol::Anthropic, Bounds { seconds: 1, ..Bounds::default() }, slow);
    assert_eq!(played.events.last().unwrap()["reason"], "time");
}

#[test]
fn a_refusal_ends_it_and_a_failure_is_tried_again() {
    let played =
        play(Protocol::Responses, Bounds::default(), vec![(429, "spend limit reached", vec![])]);
    assert!(!played.code);
    let last = played.events.last().unwrap();
    assert_eq!(last["reason"], "model");
    assert_eq!(last["message"], "the model's gateway answered 429: spend limit reached");
    let report = ("report", json!({"note": "x"}));
    let script = vec![(502, "upstream is gone", vec![]), (200, "", vec![report])];
    let played = play(Protocol::Responses, Bounds::default(), script);
    assert!(played.code);
    assert!(played.events.iter().any(|event| event["type"] == "retry"));
}

#[test]
fn a_conversation_that_grows_too_large_leaves_old_results_out() {
    let loud = || shell("yes 0123456789 | head -c 5000");
    let mut script: Vec<Script> = (0..4).map(|_| (200, "", vec![loud()])).collect();
    script.push((200, "", vec![("report", json!({"note": "x"}))]));
    let played =
        play(Protocol::Chat, Bounds { context_bytes: 12_000, ..Bounds::default() }, script);
    assert!(played.code);
    let last = played.asked.last().unwrap().to_string();
    assert!(last.contains("left out: this was long ago"), "{last}");
    assert!(last.len() < 20_000 && last.contains("# fix it"));
}

#[test]
fn a_missing_setting_is_said() {
    let mut out = Vec::new();
    let code = crate::run(Bounds::default(), |_| None, &mut out);
    assert_ne!(code, std::process::ExitCode::SUCCESS);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("\"reason\":\"setting\"") && text.contains("is not set"), "{text}");
}
