//! What is charged for answers that were cut.

use flyball_core::model::Protocol;

use super::{STREAMS, call_of, tapped};
use crate::wire::{estimate, parse};

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
            let charged = estimate(&call, &cut, input, output);
            // What the provider had made by then: all that was shown, at four bytes a token.
            assert!(
                charged.output_total >= cut.output_bytes.div_ceil(4).min(output),
                "{name} {at}"
            );
            assert!(charged.output_total <= output.max(cut.usage.map_or(0, |u| u.output_total)));
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
        let usage = estimate(call, &seen_of("anthropic", &stream), 500, 8000);
        assert_eq!((usage.input_total, usage.output_total), (9, output), "{stream}");
    }
    // An answer of which nothing was understood, such as a compressed one.
    for name in ["anthropic", "chat", "responses"] {
        let unread = estimate(&call_of(name), &seen_of(name, "\u{1f}\u{8b}\u{8}\n\n"), 500, 8000);
        assert_eq!((unread.input_total, unread.output_total), (500, 8000), "{name}");
    }
    let chat = estimate(&call_of("chat"), &seen_of("chat", ""), 500, 8000);
    assert_eq!((chat.input_total, chat.output_total), (500, 8000));
    let failed = "data: {\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}\n\n";
    assert_eq!(estimate(&call_of("chat"), &seen_of("chat", failed), 500, 8000).tokens(), 0);
}
