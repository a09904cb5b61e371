//! What each form of output says, junk included.

use super::*;
use AgentEvent as E;
use flyball_core::model::LastWord;

fn feed(output: &str, lines: &[&str]) -> Vec<E> {
    let mut parser = Parser::new(output);
    lines.iter().flat_map(|line| parser.feed(line.as_bytes())).collect()
}

fn word(ok: bool, kind: &str, message: &str) -> LastWord {
    LastWord { ok, kind: kind.to_owned(), message: message.to_owned() }
}

#[test]
fn claude_code() {
    let events = feed(
        "claude-code",
        &[
            r#"{"type":"system","subtype":"init","session_id":"s","claude_code_version":"2.1.0"}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":"I look."},
                {"type":"tool_use","id":"t1","name":"Bash","input":{}}]},"parent_tool_use_id":null}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":"inner"},
                {"type":"tool_use","id":"t2","name":"Read","input":{}}]},"parent_tool_use_id":"t1"}"#,
            r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t1"}]}}"#,
            r#"{"type":"user","message":{"content":"only text"}}"#,
            r#"{"type":"system","subtype":"api_retry","attempt":1}"#,
            r#"{"type":"kind_of_next_year"}"#,
            r#"{"type":"result","subtype":"success","is_error":false,"num_turns":3,
                "result":"Fixed.","total_cost_usd":0.0123456,"usage":{"input_tokens":1},
                "modelUsage":{"large":{"inputTokens":10,"outputTokens":5,
                "cacheReadInputTokens":100,"cacheCreationInputTokens":20,"webSearchRequests":1},
                "small":{"inputTokens":1,"outputTokens":2}}}"#,
        ],
    );
    let usage = Usage {
        input_total: 131,
        cache_read: 100,
        cache_write_5m: 20,
        output_total: 7,
        web_searches: 1,
        ..Usage::default()
    };
    let expected = [
        E::Began { version: "2.1.0".to_owned() },
        E::Turn,
        E::Said("I look.".to_owned()),
        E::ToolBegan { id: "t1".to_owned() },
        E::ToolBegan { id: "t2".to_owned() },
        E::ToolEnded { id: "t1".to_owned() },
        E::Other,
        E::Retries,
        E::Other,
        E::Used { usage, cost: Some(Money(12_346)) },
        E::Ended { word: word(true, "success", "Fixed."), turns: Some(3) },
    ];
    assert_eq!(events, expected);
}

#[test]
fn claude_codes_failures() {
    let last = |line: &str| feed("claude-code", &[line]).pop().unwrap();
    let E::Ended { word: found, .. } =
        last(r#"{"type":"result","subtype":"error_max_turns","is_error":true,"errors":["a","b"]}"#)
    else {
        panic!()
    };
    assert_eq!(found, word(false, "error_max_turns", "a; b"));
    // What its provider said stands in a result that calls itself a success.
    let E::Ended { word: found, .. } =
        last(r#"{"type":"result","subtype":"success","is_error":true,"result":"API Error: 429"}"#)
    else {
        panic!()
    };
    assert_eq!(found, word(false, "success", "API Error: 429"));
}

#[test]
fn codex() {
    let events = feed(
        "codex",
        &[
            r#"{"type":"thread.started","thread_id":"x"}"#,
            r#"{"type":"turn.started"}"#,
            r#"{"type":"item.started","item":{"id":"i0","type":"command_execution"}}"#,
            r#"{"type":"item.completed","item":{"id":"i0","type":"command_execution"}}"#,
            r#"{"type":"item.completed","item":{"id":"i1","type":"reasoning","text":"hm"}}"#,
            r#"{"type":"item.completed","item":{"id":"i2","type":"agent_message","text":"Done."}}"#,
            r#"{"type":"error","message":"Reconnecting... 1/5"}"#,
            r#"{"type":"turn.completed","usage":{"input_tokens":50,"cached_input_tokens":30,
                "output_tokens":7,"reasoning_output_tokens":2}}"#,
        ],
    );
    let usage = Usage {
        input_total: 50,
        cache_read: 30,
        output_total: 7,
        reasoning: 2,
        ..Usage::default()
    };
    let expected = [
        E::Began { version: String::new() },
        E::Other,
        E::ToolBegan { id: "i0".to_owned() },
        E::ToolEnded { id: "i0".to_owned() },
        E::Other,
        E::Turn,
        E::Said("Done.".to_owned()),
        E::Retries,
        E::Used { usage, cost: None },
        E::Ended { word: word(true, "turn.completed", "Done."), turns: Some(1) },
    ];
    assert_eq!(events, expected);
    let failed = feed("codex", &[r#"{"type":"turn.failed","error":{"message":"no credit"}}"#]);
    let expected = E::Ended { word: word(false, "turn.failed", "no credit"), turns: None };
    assert_eq!(failed, [expected]);
}

#[test]
fn mini_swe_agent() {
    let mut parser = Parser::new("mini-swe-agent");
    assert_eq!(parser.feed(b"{\"type\":\"result\"}"), [E::Other]);
    assert_eq!(parser.file(), Some("traj.json"));
    let file = r#"{"info":{"exit_status":"Submitted","submission":"","mini_version":"2.4.6",
        "model_stats":{"instance_cost":0.0,"api_calls":2}},"messages":[{"role":"system"},
        {"role":"assistant","extra":{"response":{"usage":{"prompt_tokens":10,"completion_tokens":3,
        "prompt_tokens_details":{"cached_tokens":4}}}}},
        {"role":"assistant","extra":{"response":{"usage":{"prompt_tokens":20,"completion_tokens":1,
        "prompt_tokens_details":null}}}}]}"#;
    let usage = Usage { input_total: 30, cache_read: 4, output_total: 4, ..Usage::default() };
    let expected = [
        E::Began { version: "2.4.6".to_owned() },
        E::Used { usage, cost: None },
        E::Ended { word: word(true, "Submitted", ""), turns: Some(2) },
    ];
    assert_eq!(parser.feed_file(file.as_bytes()), expected);
    assert_eq!(parser.feed_file(b"[]"), [E::Unread]);
    assert_eq!(parser.feed_file(b"{"), [E::Unread]);
}

#[test]
fn builtin() {
    let events = feed(
        "builtin",
        &[
            r#"{"type":"began","version":"0.1.0"}"#,
            r#"{"type":"turn","text":"","usage":{"inputTotal":5,"outputTotal":2}}"#,
            r#"{"type":"toolBegan","id":"1","name":"shell"}"#,
            r#"{"type":"toolEnded","id":"1","ok":true}"#,
            r#"{"type":"ended","ok":false,"reason":"turns","message":"m","turns":9}"#,
        ],
    );
    let usage = Usage { input_total: 5, output_total: 2, ..Usage::default() };
    let expected = [
        E::Began { version: "0.1.0".to_owned() },
        E::Turn,
        E::Used { usage, cost: None },
        E::ToolBegan { id: "1".to_owned() },
        E::ToolEnded { id: "1".to_owned() },
        E::Ended { word: word(false, "turns", "m"), turns: Some(9) },
    ];
    assert_eq!(events, expected);
}

#[test]
fn junk_is_counted_and_breaks_nothing() {
    let deep = "[".repeat(100_000);
    let junk: [&[u8]; 9] = [
        b"not json",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"null",
        b"{\"type\":7}",
        b"{\"type\":\"result\"",
        deep.as_bytes(),
        b"\0",
    ];
    for output in ["builtin", "claude-code", "codex"] {
        let mut parser = Parser::new(output);
        for line in junk {
            assert_eq!(parser.feed(line), [E::Unread], "{output}");
        }
        assert_eq!(parser.feed(b"  "), []);
    }
    assert_eq!(Parser::new("lines").feed(b"\xff"), [E::Other]);
}

/// Every field of every kind of line, with every kind of value that it should not have.
#[test]
fn fields_of_the_wrong_type_break_nothing() {
    let lines = [
        r#"{"type":"system","subtype":"init","claude_code_version":@}"#,
        r#"{"type":"assistant","message":@,"parent_tool_use_id":@}"#,
        r#"{"type":"assistant","message":{"content":@}}"#,
        r#"{"type":"assistant","message":{"content":[@,{"type":"text","text":@}]}}"#,
        r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":@}]}}"#,
        r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":@}]}}"#,
        r#"{"type":"result","subtype":@,"is_error":@,"result":@,"num_turns":@,"modelUsage":@}"#,
        r#"{"type":"result","modelUsage":{"m":@},"total_cost_usd":@}"#,
        r#"{"type":"result","modelUsage":{"m":{"inputTokens":@,"cacheReadInputTokens":@}}}"#,
        r#"{"type":"item.started","item":@}"#,
        r#"{"type":"item.started","item":{"type":"command_execution","id":@}}"#,
        r#"{"type":"item.completed","item":{"type":"agent_message","text":@}}"#,
        r#"{"type":"turn.completed","usage":@}"#,
        r#"{"type":"turn.completed","usage":{"input_tokens":@,"output_tokens_details":@}}"#,
        r#"{"type":"turn.failed","error":@}"#,
        r#"{"type":"turn","text":@,"usage":@}"#,
        r#"{"type":"ended","ok":@,"reason":@,"turns":@,"usage":{"inputTotal":@}}"#,
        r#"{"info":{"exit_status":@,"model_stats":@},"messages":[@,{"extra":{"response":@}}]}"#,
    ];
    let long = format!("\"{}\"", "\u{e4}".repeat(3000));
    let values =
        ["null", "-1", "1e300", "18446744073709551615", "true", "[[]]", "{\"a\":1}", &long];
    for (line, value) in lines.iter().flat_map(|line| values.map(|value| (line, value))) {
        let line = line.replace('@', value);
        for output in ["builtin", "claude-code", "codex", "mini-swe-agent"] {
            let mut parser = Parser::new(output);
            let events = parser.feed(line.as_bytes());
            assert!(!events.is_empty());
            let _ = parser.feed_file(line.as_bytes());
            for event in events {
                if let E::Said(text) | E::ToolBegan { id: text } | E::ToolEnded { id: text } = event
                {
                    assert!(text.len() <= TEXT_BYTES_MAX);
                }
            }
        }
    }
}
