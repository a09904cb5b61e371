//! What is read of answers: usage of every kind, ends, errors.

use flyball_core::model::Usage;

use super::{STREAMS, call_of, fixture, tapped};
use crate::wire::{Seen, parse, read_answer};
use flyball_core::model::Protocol;

const WHOLE: [(&str, &str); 6] = [
    fixture!("anthropic_cached.json"),
    fixture!("anthropic_compacted.json"),
    fixture!("anthropic_error.json"),
    fixture!("chat_answer.json"),
    fixture!("chat_deepseek.json"),
    fixture!("responses_answer.json"),
];

/// Counts in the order of [`Usage`]'s fields.
fn usage(counts: [u64; 7]) -> Option<Usage> {
    let [input_total, cache_read, cache_write_5m, cache_write_1h, rest @ ..] = counts;
    let [output_total, reasoning, web_searches] = rest;
    Some(Usage {
        input_total,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        output_total,
        reasoning,
        web_searches,
    })
}

fn seen(name: &str) -> Seen {
    let call = call_of(name);
    if let Some((_, text)) = STREAMS.iter().find(|(known, _)| *known == name) {
        return tapped(&call, false, [text.as_bytes()]).1.seen;
    }
    let (_, text) = WHOLE.iter().find(|(known, _)| *known == name).unwrap();
    read_answer(&call, text.as_bytes())
}

#[test]
fn usage_is_read_as_the_vendors_mean_it() {
    let chat = usage([19, 7, 4, 0, 10, 3, 0]);
    for (name, expected) in [
        ("anthropic_text.sse", usage([25, 0, 0, 0, 15, 0, 0])),
        ("anthropic_tool_use.sse", usage([472, 0, 0, 0, 89, 0, 0])),
        ("anthropic_cached.sse", usage([50 + 248 + 1800, 1800, 148, 100, 503, 0, 0])),
        ("anthropic_web_search.sse", usage([10682, 0, 0, 0, 510, 0, 1])),
        ("anthropic_overloaded.sse", usage([25, 0, 0, 0, 1, 0, 0])),
        ("anthropic_cached.json", usage([50 + 248 + 1800, 1800, 248, 0, 503, 0, 0])),
        ("anthropic_compacted.json", usage([203_000, 0, 0, 0, 4500, 0, 0])),
        ("anthropic_error.json", None),
        ("chat_text.sse", chat),
        ("chat_tools.sse", chat),
        ("chat_azure.sse", chat),
        ("chat_comments.sse", chat),
        ("chat_error.sse", None),
        ("chat_vllm.sse", usage([19, 0, 0, 0, 4, 0, 0])),
        ("chat_answer.json", chat),
        ("chat_deepseek.json", usage([100, 64, 0, 0, 40, 30, 0])),
        ("responses_text.sse", usage([37, 12, 5, 0, 11, 6, 0])),
        ("responses_tools.sse", usage([37, 12, 5, 0, 11, 6, 1])),
        ("responses_incomplete.sse", usage([37, 12, 5, 0, 11, 6, 0])),
        ("responses_failed.sse", None),
        ("responses_error.sse", None),
        ("responses_answer.json", usage([37, 12, 5, 0, 11, 6, 1])),
    ] {
        let seen = seen(name);
        assert_eq!(seen.usage, expected, "{name}");
        let cut = name == "anthropic_overloaded.sse";
        assert_eq!(seen.usage_final, expected.is_some() && !cut, "{name}");
        assert_eq!(seen.unread, 0, "{name}");
    }
}

#[test]
fn ends_and_errors_are_told_apart() {
    let overloaded = "overloaded_error: Overloaded";
    for (name, finished, finish, error) in [
        ("anthropic_text.sse", true, "end_turn", ""),
        ("anthropic_tool_use.sse", true, "tool_use", ""),
        ("anthropic_overloaded.sse", false, "", overloaded),
        ("anthropic_error.json", false, "", overloaded),
        ("anthropic_cached.json", true, "end_turn", ""),
        ("chat_text.sse", true, "stop", ""),
        ("chat_tools.sse", true, "tool_calls", ""),
        (
            "chat_error.sse",
            false,
            "",
            "server_error: The server had an error while processing your request",
        ),
        ("chat_answer.json", true, "stop", ""),
        ("responses_text.sse", true, "completed", ""),
        ("responses_incomplete.sse", true, "max_output_tokens", ""),
        (
            "responses_failed.sse",
            true,
            "failed",
            "server_error: The model failed to generate a response.",
        ),
        ("responses_error.sse", false, "", "rate_limit_exceeded: Slow down"),
        ("responses_answer.json", true, "completed", ""),
    ] {
        let seen = seen(name);
        assert_eq!(seen.finished, finished, "{name}");
        assert_eq!(seen.finish.as_deref().unwrap_or_default(), finish, "{name}");
        assert_eq!(seen.error.as_deref().unwrap_or_default(), error, "{name}");
    }
}

#[test]
fn what_was_delivered_is_known() {
    for (name, delivered, block_done, bytes) in [
        // As they are written in JSON: never fewer bytes than the text has.
        ("anthropic_text.sse", true, true, r#"Hello \"wörld\"\n"#.len()),
        ("anthropic_tool_use.sse", true, true, r#"Let me look.bash{}{\"command\": \"ls\"}"#.len()),
        ("anthropic_overloaded.sse", true, false, "Hel".len()),
        ("chat_text.sse", true, true, r#"Hello \"wörld\""#.len()),
        ("chat_tools.sse", true, true, r#"bash{\"command\":\"ls\"}"#.len()),
        ("chat_error.sse", true, false, 2),
        ("responses_text.sse", true, true, r#"Hi \"there\"!"#.len()),
        ("responses_tools.sse", true, true, r#"shell{\"command\":[\"ls\"]}"#.len()),
        ("responses_incomplete.sse", true, false, "Once upon".len()),
        ("responses_failed.sse", false, false, 0),
    ] {
        let seen = seen(name);
        assert_eq!((seen.delivered, seen.block_done), (delivered, block_done), "{name}");
        assert_eq!(seen.output_bytes, bytes as u64, "{name}");
    }
    let told = seen("chat_answer.json");
    assert_eq!(told.id.as_deref(), Some("chatcmpl-2"));
    assert_eq!(told.model.as_deref(), Some("gpt-5.6"));
    assert_eq!(told.service_tier.as_deref(), Some("priority"));
}

#[test]
fn odd_usage_is_never_read_as_less() {
    let read = |protocol, request: &str, usage: &str| {
        let call = parse(protocol, request.as_bytes()).unwrap();
        let id = if protocol == Protocol::Responses { r#""object":"response","# } else { "" };
        let answer = format!(r#"{{{id}"usage":{usage}}}"#);
        read_answer(&call, answer.as_bytes()).usage
    };
    let plain = r#"{"model":"m"}"#;
    let hour = r#"{"model":"m","system":[{"cache_control":{"type":"ephemeral","ttl":"1h"}}]}"#;
    let searching = r#"{"model":"m","web_search_options":{}}"#;
    for (protocol, request, told, expected) in [
        // Output that leaves reasoning out: it is in the total.
        (
            Protocol::Chat,
            plain,
            r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115,"completion_tokens_details":{"reasoning_tokens":100}}"#,
            usage([10, 0, 0, 0, 105, 100, 0]),
        ),
        // More cached than there is: the rest is not made free.
        (
            Protocol::Chat,
            plain,
            r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":50}}"#,
            usage([10, 10, 0, 0, 5, 0, 0]),
        ),
        (
            Protocol::Responses,
            plain,
            r#"{"input_tokens":10,"output_tokens":5,"output_tokens_details":{"reasoning_tokens":9},"input_tokens_details":null}"#,
            usage([10, 0, 0, 0, 9, 9, 0]),
        ),
        (
            Protocol::Chat,
            searching,
            r#"{"prompt_tokens":1,"completion_tokens":1}"#,
            usage([1, 0, 0, 0, 1, 0, 1]),
        ),
        // Writes that are not told apart count as those of an hour if the request asked for such.
        (
            Protocol::Anthropic,
            hour,
            r#"{"input_tokens":1,"cache_creation_input_tokens":8,"output_tokens":1}"#,
            usage([9, 0, 0, 8, 1, 0, 0]),
        ),
        (
            Protocol::Anthropic,
            plain,
            r#"{"input_tokens":1,"cache_creation_input_tokens":8,"output_tokens":1,"cache_creation":{"ephemeral_1h_input_tokens":9}}"#,
            usage([10, 0, 0, 9, 1, 0, 0]),
        ),
        // Counts that are no whole numbers.
        (
            Protocol::Anthropic,
            plain,
            r#"{"input_tokens":-1,"output_tokens":1.5}"#,
            usage([0, 0, 0, 0, 2, 0, 0]),
        ),
        (
            Protocol::Chat,
            plain,
            r#"{"prompt_tokens":1e1,"completion_tokens":15.0,"total_tokens":"25"}"#,
            usage([10, 0, 0, 0, 15, 0, 0]),
        ),
    ] {
        assert_eq!(read(protocol, request, told), expected, "{told}");
    }
}

#[test]
fn the_last_usage_wins_and_is_never_added() {
    let call = call_of("anthropic");
    let event = |text: &str| format!("data: {text}\n\n");
    let start = |counts: &str| {
        event(&format!(r#"{{"type":"message_start","message":{{"usage":{{{counts}}}}}}}"#))
    };
    let delta =
        |counts: &str| event(&format!(r#"{{"type":"message_delta","usage":{{{counts}}}}}"#));
    for (stream, input, output) in [
        (
            start(r#""input_tokens":10,"output_tokens":8"#)
                + &delta(r#""output_tokens":20"#)
                + &delta(r#""output_tokens":30"#),
            10,
            30,
        ),
        // The first count of output is a guess.
        (start(r#""input_tokens":10,"output_tokens":8"#) + &delta(r#""output_tokens":3"#), 10, 3),
        // Servers that know the input only at the end, or only at the beginning.
        (start(r#""input_tokens":0"#) + &delta(r#""input_tokens":7,"output_tokens":3"#), 7, 3),
        (start(r#""input_tokens":7"#) + &delta(r#""input_tokens":0,"output_tokens":3"#), 7, 3),
        (start(r#""input_tokens":7"#) + &delta(r#""input_tokens":null,"output_tokens":3"#), 7, 3),
    ] {
        let usage = tapped(&call, false, [stream.as_bytes()]).1.seen.usage.unwrap();
        assert_eq!((usage.input_total, usage.output_total), (input, output), "{stream}");
    }
}

#[test]
fn a_usage_that_cannot_be_true_is_not_final() {
    let call = call_of("chat");
    for (usage, text, is_final) in [
        (r#"{"prompt_tokens":0,"completion_tokens":0}"#, "a", false),
        (r#"{"prompt_tokens":9,"completion_tokens":0}"#, "a", false),
        (r#"{"prompt_tokens":9,"completion_tokens":0}"#, "", true),
        (r#"{"prompt_tokens":9,"completion_tokens":1}"#, "a", true),
    ] {
        let answer = format!(
            r#"{{"choices":[{{"message":{{"content":"{text}"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
        );
        let chunk = answer.replace("message", "delta");
        let stream = format!("data: {chunk}\n\ndata: [DONE]\n\n");
        assert_eq!(read_answer(&call, answer.as_bytes()).usage_final, is_final, "{answer}");
        let seen = tapped(&call, false, [stream.as_bytes()]).1.seen;
        assert_eq!(seen.usage_final, is_final, "{stream}");
    }
    // More may come while an answer of Anthropic's has not said why it ended.
    let early =
        "data: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":4,\"output_tokens\":5}}\n\n";
    let call = call_of("anthropic");
    assert!(!tapped(&call, false, [early.as_bytes()]).1.seen.usage_final);
    let stopped = format!("{early}data: {{\"type\":\"message_stop\"}}\n\n");
    assert!(tapped(&call, false, [stopped.as_bytes()]).1.seen.usage_final);
}
