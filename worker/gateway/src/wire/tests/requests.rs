//! What is read of requests, what is changed in them, and what they may cost.

use bytes::Bytes;
use flyball_core::model::Protocol;

use crate::wire::{BadCall, Edits, edit, input_bound, parse, takes_both_limits};

const CHAT: &[u8] = br#"{ "model":"gpt-5.6", "stream" : true, "n":3, "max_tokens": 100,
  "messages":[{"role":"user","content":"\u00e9 \"model\":\"no\""}] , "x":[1.5e-3,{}]}"#;

#[test]
fn a_request_is_read_and_only_what_is_asked_is_changed() {
    let call = parse(Protocol::Chat, CHAT).unwrap();
    assert_eq!((call.model.as_str(), call.stream, call.choices), ("gpt-5.6", true, 3));
    assert_eq!((call.max_output, call.asks_usage, call.tools), (Some(100), false, false));
    let body = Bytes::from_static(CHAT);
    let same = edit(body.clone(), &call, &Edits { model: Some("gpt-5.6"), ..Edits::default() });
    assert_eq!(same.as_ptr(), body.as_ptr(), "the very same bytes");
    let edits =
        Edits { model: Some("a\"b"), max_output: Some(7), ask_usage: true, both_limits: false };
    let changed = edit(body, &call, &edits);
    let expected = String::from_utf8(CHAT.to_vec()).unwrap();
    let expected = expected
        .replacen("{ ", r#"{"stream_options":{"include_usage":true}, "#, 1)
        .replacen(r#""gpt-5.6""#, r#""a\"b""#, 1)
        .replacen("100", "7", 1);
    assert_eq!(std::str::from_utf8(&changed).unwrap(), expected);
}

#[test]
fn limits_and_usage_are_asked_for_in_every_form() {
    let edited = |protocol, body: &'static str, edits: &Edits<'_>| {
        let call = parse(protocol, body.as_bytes()).unwrap();
        let out = edit(Bytes::from_static(body.as_bytes()), &call, edits);
        assert!(parse(protocol, &out).is_ok(), "{out:?}");
        String::from_utf8(out.to_vec()).unwrap()
    };
    let limit = Edits { max_output: Some(9), ..Edits::default() };
    let both = Edits { both_limits: true, ..limit };
    let usage = Edits { ask_usage: true, ..Edits::default() };
    for (protocol, body, edits, expected) in [
        (Protocol::Anthropic, r#"{"model":"m"}"#, &limit, r#"{"max_tokens":9,"model":"m"}"#),
        (Protocol::Responses, r#"{"model":"m"}"#, &limit, r#"{"max_output_tokens":9,"model":"m"}"#),
        (Protocol::Chat, r#"{"model":"m"}"#, &limit, r#"{"max_completion_tokens":9,"model":"m"}"#),
        (
            Protocol::Chat,
            r#"{"n_predict":5,"model":"m","max_tokens":null}"#,
            &limit,
            r#"{"n_predict":9,"model":"m","max_tokens":9}"#,
        ),
        (
            Protocol::Chat,
            r#"{"model":"m","max_completion_tokens":5}"#,
            &both,
            r#"{"max_tokens":9,"model":"m","max_completion_tokens":9}"#,
        ),
        (
            Protocol::Chat,
            r#"{"model":"m","max_completion_tokens":5}"#,
            &Edits { max_output: None, ..both },
            r#"{"max_tokens":5,"model":"m","max_completion_tokens":5}"#,
        ),
        (
            Protocol::Chat,
            r#"{"stream":true,"stream_options":null,"model":"m"}"#,
            &usage,
            r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m"}"#,
        ),
        (
            Protocol::Chat,
            r#"{"stream":true,"stream_options":{ },"model":"m"}"#,
            &usage,
            r#"{"stream":true,"stream_options":{"include_usage":true },"model":"m"}"#,
        ),
        (
            Protocol::Chat,
            r#"{"stream":true,"stream_options":{"a":1},"model":"m"}"#,
            &usage,
            r#"{"stream":true,"stream_options":{"include_usage":true,"a":1},"model":"m"}"#,
        ),
        (
            Protocol::Chat,
            r#"{"stream":true,"stream_options":{"include_usage":false},"model":"m"}"#,
            &usage,
            r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m"}"#,
        ),
        (
            Protocol::Chat,
            r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m"}"#,
            &usage,
            r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m"}"#,
        ),
        (Protocol::Chat, r#"{"model":"m"}"#, &usage, r#"{"model":"m"}"#),
        (
            Protocol::Responses,
            r#"{"model":"m","stream":true}"#,
            &usage,
            r#"{"model":"m","stream":true}"#,
        ),
    ] {
        assert_eq!(edited(protocol, body, edits), expected);
    }
    for (url, both) in [
        ("https://api.openai.com/v1", false),
        ("https://eu.api.openai.com/v1", false),
        ("https://x.openai.azure.com:443/openai/v1", false),
        ("http://127.0.0.1:8080/v1", true),
        ("https://notopenai.com", true),
        ("https://openai.com.example.org/v1", true),
    ] {
        assert_eq!(takes_both_limits(url), both, "{url}");
    }
}

#[test]
fn what_servers_could_read_differently_is_refused() {
    let wrong = |field: &str| format!("{field}: found");
    for (body, expected) in [
        (r#""text""#.to_owned(), "the body is not a JSON object".to_owned()),
        ("{}".to_owned(), "model: is missing".to_owned()),
        (r#"{"model":""}"#.to_owned(), wrong("model")),
        (r#"{"model":7}"#.to_owned(), wrong("model")),
        (
            r#"{"model":"a","model":"a"}"#.to_owned(),
            "model: stands there more than once".to_owned(),
        ),
        (
            r#"{"model":"a","max_tokens":1,"max_token\u0073":9000}"#.to_owned(),
            "max_tokens: stands there more than once".to_owned(),
        ),
        (
            r#"{"model":"a","Max_Tokens":1}"#.to_owned(),
            "\"Max_Tokens\": must be written".to_owned(),
        ),
        (
            r#"{"model":"a","max_to\u212aens":1}"#.to_owned(),
            "\"max_to\\u212aens\": must be written max_tokens".to_owned(),
        ),
        (r#"{"model":"a","max_tokens":-1}"#.to_owned(), wrong("max_tokens")),
        (r#"{"model":"a","max_tokens":1e5}"#.to_owned(), wrong("max_tokens")),
        (r#"{"model":"a","max_tokens":"5"}"#.to_owned(), wrong("max_tokens")),
        (r#"{"model":"a","stream":1}"#.to_owned(), wrong("stream")),
        (r#"{"model":"a","n":0}"#.to_owned(), wrong("n")),
        (r#"{"model":"a","n":1000}"#.to_owned(), wrong("n")),
        (r#"{"model":"a","stream_options":[]}"#.to_owned(), wrong("stream_options")),
        (
            r#"{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}"#
                .to_owned(),
            "stream_options.include_usage: stands there more than once".to_owned(),
        ),
        (r#"{"model":"a","background":true}"#.to_owned(), "background: ".to_owned()),
        ("{\"model\":\"a\"}x".to_owned(), "the body is not JSON: text after the end".to_owned()),
        ("\u{feff}{\"model\":\"a\"}".to_owned(), "the body is not JSON: no value".to_owned()),
        (
            format!("{{\"model\":\"a\",\"x\":{}1{}}}", "[".repeat(128), "]".repeat(128)),
            "the body is not JSON: more than 128 levels".to_owned(),
        ),
    ] {
        let error = parse(Protocol::Chat, body.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{body}: {error}");
    }
    let bytes = b"{\"model\":\"a\xff\"}";
    assert!(matches!(parse(Protocol::Chat, bytes), Err(BadCall::NotJson(_))));
}

#[test]
fn tools_that_the_provider_bills_apart_are_counted_or_refused() {
    let call =
        |tools: &str| parse(Protocol::Responses, format!(r#"{{"model":"a",{tools}}}"#).as_bytes());
    for (tools, searches) in [
        (r#""tools":[]"#, 0),
        (r#""tools":[{"type":"function","name":"web_search"}]"#, 0),
        (r#""tools":[{"name":"bash","type":"bash_20250124"},{"type":"mcp"}]"#, 0),
        (r#""tools":[{"type":"shell","environment":{"type":"local"}}]"#, 0),
        (r#""tools":[{"type":"web_search_preview"}]"#, 10),
        (r#""max_tool_calls":3,"tools":[{"type":"web_search"}]"#, 3),
        (r#""tools":[{"type":"web_search"}],"max_tool_calls":3"#, 3),
        (r#""web_search_options":{}"#, 1),
    ] {
        assert_eq!(call(tools).unwrap().searches, searches, "{tools}");
    }
    for (tool, kind) in [
        (r#"{"type":"code_interpreter","container":{"type":"auto"}}"#, "code_interpreter"),
        (r#"{"type":"code_execution_20250825"}"#, "code_execution_20250825"),
        (r#"{"type":"file_search"}"#, "file_search"),
        (r#"{"type":"image_generation"}"#, "image_generation"),
        (r#"{"type":"advisor_20260301"}"#, "advisor_20260301"),
        (r#"{"type":"shell","environment":{"type":"container_auto"}}"#, "shell"),
    ] {
        let refused = call(&format!(r#""tools":[{{"type":"function"}},{tool}]"#)).unwrap_err();
        let said = format!("tools: the provider runs {kind} itself and bills it apart");
        assert!(refused.to_string().starts_with(&said), "{refused}");
    }
}

#[test]
fn searches_without_a_bound_are_sent_with_one() {
    let anthropic = [
        (r#"{"type":"web_search_20250305","max_uses":8}"#, 8, ""),
        (
            r#"{"type":"web_search_20250305"}"#,
            10,
            r#"{"max_uses":10,"type":"web_search_20250305"}"#,
        ),
        (
            r#"{"type":"web_search_20250305","max_uses":null}"#,
            10,
            r#"{"type":"web_search_20250305","max_uses":10}"#,
        ),
        (
            r#"{"max_uses":3,"type":"web_search_20250305","max_uses":12}"#,
            12,
            r#"{"max_uses":3,"type":"web_search_20250305","max_uses":12}"#,
        ),
        (r#"{"name":"web_search","input_schema":{}}"#, 0, ""),
    ];
    for (tool, searches, sent) in anthropic {
        let body = format!(r#"{{"model":"a","max_tokens":9,"tools":[{tool}]}}"#);
        let call = parse(Protocol::Anthropic, body.as_bytes()).unwrap();
        assert_eq!(call.searches, searches, "{tool}");
        let sent = body.replace(tool, if sent.is_empty() { tool } else { sent });
        assert_eq!(edit(Bytes::from(body), &call, &Edits::default()), sent);
    }
    // A member of another protocol bounds nothing.
    let search =
        r#"{"model":"a","max_tool_calls":0,"tools":[{"type":"web_search_1","max_uses":7}]}"#;
    let of = |protocol| parse(protocol, search.as_bytes()).unwrap().searches;
    assert_eq!((of(Protocol::Anthropic), of(Protocol::Chat), of(Protocol::Responses)), (7, 10, 0));
    let search = r#""tools":[{"type":"web_search"},{"type":"web_search_preview"}]"#;
    for (members, sent) in [
        (search.to_owned(), format!(r#""max_tool_calls":10,"model":"a",{search}"#)),
        (
            format!(r#"{search},"max_tool_calls":null"#),
            format!(r#""model":"a",{search},"max_tool_calls":10"#),
        ),
        (
            r#""tools":[{"type":"mcp"}]"#.to_owned(),
            r#""model":"a","tools":[{"type":"mcp"}]"#.to_owned(),
        ),
    ] {
        let body = format!(r#"{{"model":"a",{members}}}"#);
        let call = parse(Protocol::Responses, body.as_bytes()).unwrap();
        assert_eq!(call.searches, if members.contains("mcp") { 0 } else { 10 });
        assert_eq!(edit(Bytes::from(body), &call, &Edits::default()), format!("{{{sent}}}"));
    }
}

#[test]
fn a_limit_that_does_not_bind_is_none() {
    for (protocol, body, expected) in [
        (Protocol::Anthropic, r#"{"model":"a","max_tokens":0}"#, Some(0)),
        (Protocol::Chat, r#"{"model":"a","max_tokens":0}"#, None),
        (Protocol::Chat, r#"{"model":"a","max_tokens":5,"max_completion_tokens":null}"#, None),
        (Protocol::Chat, r#"{"model":"a","max_tokens":5,"max_completion_tokens":8}"#, Some(8)),
        (Protocol::Chat, r#"{"model":"a","max_tokens":5,"n_predict":8}"#, Some(8)),
        (Protocol::Chat, r#"{"model":"a","n_predict":8,"max_tokens":5}"#, Some(8)),
        (Protocol::Chat, r#"{"model":"a","n_predict":8}"#, None),
        (Protocol::Responses, r#"{"model":"a","max_tokens":8}"#, None),
        (Protocol::Responses, r#"{"model":"a","max_output_tokens":8}"#, Some(8)),
    ] {
        assert_eq!(parse(protocol, body.as_bytes()).unwrap().max_output, expected, "{body}");
    }
}

#[test]
fn media_are_bounded_by_formula_and_the_rest_by_its_bytes() {
    let bound = |protocol, body: &str| {
        let call = parse(protocol, body.as_bytes()).unwrap();
        input_bound(body.as_bytes(), &call)
    };
    let data = "A".repeat(1_000_000);
    let image = format!(
        r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{data}"}}}}"#
    );
    let message = |content: &str| {
        format!(r#"{{"model":"claude-x","messages":[{{"role":"user","content":[{content}]}}]}}"#)
    };
    let shown = bound(Protocol::Anthropic, &message(&image));
    assert!((5_000..7_000).contains(&shown), "{shown}");
    let result = format!(r#"{{"type":"tool_result","tool_use_id":"t","content":[{image}]}}"#);
    let in_result = bound(Protocol::Anthropic, &message(&result));
    assert!((5_000..7_000).contains(&in_result), "{in_result}");
    // The same words as a tool's arguments are text.
    let use_ = format!(r#"{{"type":"tool_use","id":"t","name":"n","input":{image}}}"#);
    assert!(bound(Protocol::Anthropic, &message(&use_)) > 1_000_000);
    let pdf = image.replace("\"image\"", "\"document\"");
    assert!(bound(Protocol::Anthropic, &message(&pdf)) > 1_050_000);
    let chat = format!(r#"{{"type":"image_url","image_url":{{"url":"data:{data}"}}}}"#);
    assert!((25_000..27_000).contains(&bound(Protocol::Chat, &message(&chat))));
    let response = |item: &str| format!(r#"{{"model":"m","input":[{item}]}}"#);
    let shot = format!(
        r#"{{"type":"function_call_output","call_id":"c","output":[{{"type":"input_image","image_url":"data:{data}"}}]}}"#
    );
    assert!((25_000..27_000).contains(&bound(Protocol::Responses, &response(&shot))));
    let kept = r#"{"model":"m","previous_response_id":"r","input":"go on"}"#;
    assert!(bound(Protocol::Responses, kept) > 1_050_000);
    let plain = r#"{"model":"m","input":"go on"}"#;
    assert!((plain.len() as u64..1_000).contains(&bound(Protocol::Responses, plain)));
}
