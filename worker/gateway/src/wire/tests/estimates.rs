//! What is charged for answers that were cut.

use flyball_core::model::Protocol;

use super::{STREAMS, call_of, tapped};
use crate::wire::{Most, estimate, parse};

/// Bounds under which nothing more is known.
fn most(input: u64, output: u64) -> Most {
    Most { input, output, searches: 0, hidden_reasoning: None, unread: false }
}

#[test]
fn a_cut_stream_is_never_charged_less_than_it_can_have_cost() {
    for (name, text) in STREAMS {
        let call = call_of(name);
        let full = tapped(&call, false, [text.as_bytes()]).1.seen;
        let Some(told) = full.usage.filter(|_| full.usage_final) else { continue };
        // As the gateway reserved: no less than the provider counted.
        let (input, output) = (told.input_total, told.output_total);
        for at in 0..text.len() {
            let cut = tapped(&call, false, [&text.as_bytes()[..at]]).1.seen;
            let charged = estimate(&call, &cut, &most(input, output));
            // What the provider had made by then: all that was shown, at four bytes a token.
            let made = cut.output_bytes.div_ceil(4).min(output);
            assert!(charged.output_total >= made, "{name} {at}");
            let told = cut.usage.map_or(0, |u| u.output_total);
            assert!(charged.output_total <= output.max(told));
            // Where nothing is hidden it is no more than what was shown, and some.
            let shows = Most { hidden_reasoning: Some(false), ..most(input, 100_000) };
            let less = estimate(&call, &cut, &shows).output_total;
            let some = cut.output_bytes + 32 * cut.blocks + 256;
            assert!(less >= made.max(told), "{name} {at}");
            let heard = cut.usage.is_some() || cut.id.is_some() || cut.delivered;
            assert!(!heard || cut.unread > 0 || less <= some.max(told), "{name} {at}: {less}");
            let unread = Most { unread: true, ..shows };
            let whole = estimate(&call, &cut, &unread).output_total;
            assert!(cut.finished || cut.error.is_some() || whole == 100_000, "{name} {at}");
            if name != "anthropic_web_search.sse" {
                assert_eq!(charged.input_total, input, "{name} cut at {at}");
            }
        }
    }
}

#[test]
fn what_may_be_hidden_is_charged_in_full() {
    let seen_of =
        |name: &str, stream: &str| tapped(&call_of(name), false, [stream.as_bytes()]).1.seen;
    let start = "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n";
    let block = |kind: &str| {
        format!(
            "{start}data: {{\"type\":\"content_block_start\",\"content_block\":{{\"type\":\"{kind}\"}}}}\n\n"
        )
    };
    let thinks = parse(Protocol::Anthropic, br#"{"model":"m","thinking":{"type":"adaptive"}}"#);
    let (plain, thinks) = (call_of("anthropic"), thinks.unwrap());
    for (call, stream, output) in [
        (&plain, start.to_owned(), 256),
        (&thinks, start.to_owned(), 8000),
        (&thinks, block("text"), 256 + 32),
        (&plain, block("thinking"), 8000),
    ] {
        let usage = estimate(call, &seen_of("anthropic", &stream), &most(500, 8000));
        assert_eq!((usage.input_total, usage.output_total), (9, output), "{stream}");
    }
    // An answer of which nothing was understood, such as a compressed one.
    for name in ["anthropic", "chat", "responses"] {
        let seen = seen_of(name, "\u{1f}\u{8b}\u{8}\n\n");
        for hidden_reasoning in [None, Some(false)] {
            let most = Most { hidden_reasoning, ..most(500, 8000) };
            let unread = estimate(&call_of(name), &seen, &most);
            assert_eq!((unread.input_total, unread.output_total), (500, 8000), "{name}");
        }
    }
    let chat = estimate(&call_of("chat"), &seen_of("chat", ""), &most(500, 8000));
    assert_eq!((chat.input_total, chat.output_total), (500, 8000));
    let failed = "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n";
    let failed = estimate(&call_of("chat"), &seen_of("chat", failed), &most(500, 8000));
    assert_eq!(failed.tokens(), 0);
    // What a client predicts and the model does not take is billed too, whatever the model shows.
    let begun =
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"}}]}\n\n";
    let predicts = br#"{"model":"m","stream":true,"prediction":{"type":"content","content":"a"}}"#;
    let predicts = parse(Protocol::Chat, predicts).unwrap();
    let shows = Most { hidden_reasoning: Some(false), ..most(500, 8000) };
    for (call, output) in [(&call_of("chat"), 4 + 256), (&predicts, 8000)] {
        assert_eq!(estimate(call, &seen_of("chat", begun), &shows).output_total, output);
    }
}

#[test]
fn searches_of_a_cut_stream_are_those_that_were_announced() {
    let tools = r#""tools":[{"type":"web_search_20250305","name":"web_search","max_uses":8}]"#;
    let body = format!(r#"{{"model":"m","stream":true,{tools}}}"#);
    let call = parse(Protocol::Anthropic, body.as_bytes()).unwrap();
    let (_, text) = STREAMS.iter().find(|(name, _)| *name == "anthropic_web_search.sse").unwrap();
    let at = text.find("web_search_tool_result").unwrap();
    let seen = tapped(&call, false, [&text.as_bytes()[..at]]).1.seen;
    let most = Most { searches: call.searches, ..most(500, 8000) };
    assert_eq!((call.searches, estimate(&call, &seen, &most).web_searches), (8, 1));
    let unread = Most { unread: true, ..most };
    assert_eq!(estimate(&call, &seen, &unread).web_searches, 8);
}
