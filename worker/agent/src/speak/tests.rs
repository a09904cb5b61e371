//! The same conversation in all three protocols, and what their streams say.

use serde_json::json;

use super::*;

fn question_items() -> Vec<Item> {
    let call = |id: &str, arguments: &str| ToolCall {
        id: id.to_owned(),
        name: "shell".to_owned(),
        arguments: arguments.to_owned(),
    };
    let raw = vec![json!({"type": "reasoning", "encrypted_content": "x"})];
    let turn = Turn {
        text: "I look.".to_owned(),
        calls: vec![call("c1", "{\"command\":\"ls\"}"), call("c2", "{broken")],
        raw,
        ..Turn::default()
    };
    let result = |id: &str, ok| ToolResult { id: id.to_owned(), text: format!("of {id}"), ok };
    let results = vec![result("c1", true), result("c2", false)];
    vec![Item::User("fix it".to_owned()), Item::Assistant(turn), Item::Results(results)]
}

fn written(protocol: Protocol) -> Value {
    let tools =
        [ToolSpec { name: "shell", description: "runs", parameters: json!({"type": "object"}) }];
    let items = question_items();
    let question = Question {
        model: "large",
        system: "be brief",
        items: &items,
        tools: &tools,
        output_tokens_max: 100,
    };
    body(protocol, &question)
}

#[test]
fn a_conversation_is_written_in_each_protocol() {
    let body = written(Protocol::Anthropic);
    assert_eq!(body["messages"].as_array().unwrap().len(), 3);
    assert_eq!(body["messages"][1]["content"][1]["input"], json!({"command": "ls"}));
    // What is no object could not be given back.
    assert_eq!(body["messages"][1]["content"][2]["input"], json!({}));
    assert_eq!(body["messages"][2]["content"][1]["is_error"], true);
    assert_eq!(body["messages"][2]["content"][1]["cache_control"]["type"], "ephemeral");
    assert_eq!(body["max_tokens"], 100);

    let body = written(Protocol::Chat);
    let roles: Vec<&str> =
        body["messages"].as_array().unwrap().iter().map(|one| text(one, "/role")).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "tool"]);
    assert_eq!(body["messages"][2]["tool_calls"][1]["function"]["arguments"], "{}");
    assert_eq!(body["stream_options"]["include_usage"], true);

    let body = written(Protocol::Responses);
    let kinds: Vec<&str> =
        body["input"].as_array().unwrap().iter().map(|one| text(one, "/type")).collect();
    let output = "function_call_output";
    assert_eq!(kinds, ["message", "reasoning", output, output]);
    assert_eq!((body["store"].clone(), body["stream"].clone()), (json!(false), json!(true)));
}

fn folded(protocol: Protocol, events: &[Value]) -> io::Result<Option<Turn>> {
    let mut fold = fold(protocol);
    for event in events {
        if !fold.feed(event)? {
            break;
        }
    }
    Ok(fold.finish())
}

fn call(id: &str) -> ToolCall {
    let arguments = "{\"path\":\"a\"}".to_owned();
    ToolCall { id: id.to_owned(), name: "read".to_owned(), arguments }
}

#[test]
fn anthropic_streams() {
    let mut events = vec![
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 5,
            "cache_read_input_tokens": 10, "cache_creation_input_tokens": 3, "output_tokens": 1}}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_start", "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hm"}}),
        json!({"type": "content_block_stop"}),
        json!({"type": "content_block_start", "content_block": {"type": "tool_use", "id": "t1", "name": "read"}}),
        json!({"type": "content_block_delta", "delta": {"partial_json": "{\"path\":"}}),
        json!({"type": "content_block_delta", "delta": {"partial_json": "\"a\"}"}}),
        json!({"type": "content_block_stop"}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"},
            "usage": {"output_tokens": 9, "input_tokens": null}}),
    ];
    assert_eq!(folded(Protocol::Anthropic, &events).unwrap(), None);
    events.push(json!({"type": "message_stop"}));
    let turn = folded(Protocol::Anthropic, &events).unwrap().unwrap();
    assert_eq!((turn.text.as_str(), &turn.calls[..]), ("Hm", &[call("t1")][..]));
    assert_eq!((turn.usage.input_total, turn.usage.output_total), (18, 9));
    assert_eq!((turn.usage.cache_read, turn.usage.cache_write_5m), (10, 3));
    let error = [json!({"type": "error", "error": {"message": "overloaded"}})];
    assert!(folded(Protocol::Anthropic, &error).unwrap_err().to_string().contains("overloaded"));
}

#[test]
fn chat_streams() {
    let delta =
        |delta: Value| json!({"choices": [{"delta": delta, "finish_reason": null}], "usage": null});
    let mut events = vec![
        delta(json!({"role": "assistant", "content": "Hm"})),
        delta(
            json!({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "read", "arguments": "{\"path\""}}]}),
        ),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": ":\"a\"}"}}]})),
        delta(
            json!({"tool_calls": [{"index": 1, "id": "", "function": {"name": "read", "arguments": "{\"path\":\"a\"}"}}]}),
        ),
        delta(json!({"tool_calls": [{"index": 4_000_000_000_u64, "function": {"name": "junk"}}]})),
    ];
    assert_eq!(folded(Protocol::Chat, &events).unwrap(), None);
    events.push(json!({"choices": [{"delta": {}, "finish_reason": "length"}]}));
    events.push(json!({"choices": [], "usage": {"prompt_tokens": 18, "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 10}, "completion_tokens_details": {"reasoning_tokens": 2}}}));
    let turn = folded(Protocol::Chat, &events).unwrap().unwrap();
    assert_eq!((turn.text.as_str(), turn.cut_off), ("Hm", true));
    assert_eq!(turn.calls, [call("c1"), call("call_1")]);
    assert_eq!((turn.usage.input_total, turn.usage.reasoning), (18, 2));
    assert!(folded(Protocol::Chat, &[json!({"error": {"message": "no"}})]).is_err());
}

#[test]
fn responses_streams() {
    let item = json!({"type": "function_call", "call_id": "c1", "name": "read", "arguments": "{\"path\":\"a\"}"});
    let text = json!({"type": "message", "content": [{"type": "output_text", "text": "Hm"}]});
    let done = |item: &Value| json!({"type": "response.output_item.done", "item": item});
    let mut events = vec![json!({"type": "response.created"}), done(&text), done(&item)];
    assert_eq!(folded(Protocol::Responses, &events).unwrap(), None);
    events.push(json!({"type": "response.completed", "response": {"output": [], "usage": {
        "input_tokens": 18, "output_tokens": 9, "input_tokens_details": {"cached_tokens": 10}}}}));
    let turn = folded(Protocol::Responses, &events).unwrap().unwrap();
    assert_eq!((turn.text.as_str(), &turn.calls[..]), ("Hm", &[call("c1")][..]));
    assert_eq!(turn.raw, [text, item.clone()]);
    assert_eq!((turn.usage.input_total, turn.usage.cache_read), (18, 10));
    // Whoever sends the items only at the end is understood too.
    let last = json!({"type": "response.incomplete", "response": {"output": [item]}});
    let turn = folded(Protocol::Responses, &[last]).unwrap().unwrap();
    assert_eq!((turn.calls.len(), turn.cut_off), (1, true));
    let failed = json!({"type": "response.failed", "response": {"error": {"message": "no"}}});
    assert!(folded(Protocol::Responses, &[failed]).is_err());
}
