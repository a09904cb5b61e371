//! However a stream is cut, the same bytes pass and the same is read of them.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{STREAMS, call_of, tapped};
use crate::wire::sse::{Framer, Mark};
use crate::wire::{Outcome, Tap};

/// A chunk with nothing but usage, which goes only to whoever asked for it.
const USAGE: &str = r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;

/// Line ends, and what may stand before everything.
fn variants(text: &str) -> Vec<Vec<u8>> {
    let unix = text.replace("\r\n", "\n");
    [unix.clone(), unix.replace('\n', "\r\n"), unix.replace('\n', "\r"), format!("\u{feff}{unix}")]
        .into_iter()
        .map(String::into_bytes)
        .collect()
}

#[test]
fn every_cut_in_two_is_the_same() {
    for (name, text) in STREAMS {
        let call = call_of(name);
        let plain = tapped(&call, false, [text.as_bytes()]).1;
        let is_chat = name.starts_with("chat");
        for (number, bytes) in variants(text).into_iter().enumerate() {
            for strip in if is_chat { &[false, true][..] } else { &[false] }.iter().copied() {
                let whole = tapped(&call, strip, [&bytes[..]]);
                assert_eq!(whole.1, plain, "{name}: what is read depends on line ends");
                assert!(strip || whole.0 == bytes, "{name}: other bytes pass");
                // Of the rarer forms some cuts, so that the test stays short: the bytes one by one find most.
                for at in (0..=bytes.len()).step_by(if number == 0 { 1 } else { 7 }) {
                    let (one, two) = bytes.split_at(at);
                    assert_eq!(tapped(&call, strip, [one, two]), whole, "{name} cut at {at}");
                }
                let single = bytes.chunks(1);
                assert_eq!(tapped(&call, strip, single), whole, "{name} byte by byte");
            }
        }
    }
}

#[test]
fn only_the_chunk_that_nobody_asked_for_is_taken_out() {
    for (name, text) in STREAMS {
        let (passed, _) = tapped(&call_of(name), true, [text.as_bytes()]);
        let is_usage = |event: &str| event.contains(r#""choices":[],"usage":{"#);
        let kept: String = text
            .split_inclusive(if text.contains('\r') { "\r\n\r\n" } else { "\n\n" })
            .filter(|event| !is_usage(event))
            .collect();
        assert_eq!(String::from_utf8(passed).unwrap(), kept, "{name}");
    }
}

#[test]
fn chunks_pass_without_a_copy() {
    let call = call_of("chat");
    let one = Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
    for strip in [false, true] {
        let passed = Tap::new(&call, strip).feed(&one);
        assert_eq!((passed.as_ptr(), passed.len()), (one.as_ptr(), one.len()));
    }
    let both = Bytes::from([&one[..], USAGE.as_bytes(), b"\n\n"].concat());
    let passed = Tap::new(&call, true).feed(&both);
    assert_eq!((passed.as_ptr(), passed.len()), (both.as_ptr(), one.len()));
}

#[test]
fn an_end_without_a_line_end_is_read_and_passed_on() {
    let call = call_of("chat");
    let cut = b"data: {\"choices\":[{\"delta\":{\"content\":\"abc";
    let (passed, outcome) = tapped(&call, true, [&cut[..]]);
    assert_eq!(passed, cut);
    assert_eq!((outcome.seen.unread, outcome.seen.usage), (0, None));
    assert!(outcome.seen.output_bytes >= 3, "it says no more than it has bytes");
    for end in ["", "\n", "\r\n"] {
        let (passed, outcome) = tapped(&call, true, [format!("{USAGE}{end}").as_bytes()]);
        assert_eq!(passed, b"", "it was not asked for");
        assert_eq!(outcome.seen.usage.unwrap().tokens(), 7);
    }
}

#[test]
fn events_that_cannot_be_read_pass_and_are_counted() {
    let call = call_of("anthropic");
    let mut stream =
        b"event: x\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":5}\n\n".to_vec();
    stream.extend_from_slice(b"data: \xff\xfe\n\ndata\n\ndata: [1,2\n\n: fine\n\nid: 4\n\n");
    stream.extend_from_slice(
        b"data: {\"type\":\"message_delta\",\ndata: \"usage\":{\"output_tokens\":6}}\n\n",
    );
    let (passed, outcome) = tapped(&call, false, [&stream[..]]);
    assert_eq!(passed, stream);
    assert_eq!(outcome.seen.unread, 4);
    assert_eq!(outcome.seen.usage.unwrap().output_total, 6, "data in two lines is one event");
}

#[test]
fn what_is_too_long_passes_but_is_not_kept() {
    let call = call_of("responses");
    let piece = Bytes::from(vec![b'a'; 1 << 20]);
    let mut tap = Tap::new(&call, true);
    let begin = Bytes::from_static(b"data: \"");
    assert_eq!(tap.feed(&begin), begin);
    for _ in 0..17 {
        assert_eq!(tap.feed(&piece), piece);
    }
    let end = Bytes::from_static(b"\"\n\n");
    assert_eq!(tap.feed(&end), end);
    assert_eq!(tap.seen().unread, 1);
    // The stream goes on to be read.
    tap.feed(&Bytes::from_static(
        b"data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":2}}}\n\n",
    ));
    assert_eq!(tap.seen().usage.unwrap().input_total, 2);
}

#[test]
fn line_ends_in_pieces_are_counted_once() {
    let call = call_of("chat");
    for stream in [format!("{USAGE}\r\n\n"), format!("{USAGE}\r\n\r\n"), format!("{USAGE}\r\r\n\n")]
    {
        let mut tap = Tap::new(&call, false);
        for piece in stream.as_bytes().chunks(1) {
            tap.feed(&Bytes::copy_from_slice(piece));
        }
        // Seen in the stream already, and not only at its end.
        assert!(tap.seen().usage.is_some(), "{stream:?}");
    }
}

#[test]
fn an_event_of_ours_is_only_put_between_events() {
    for (stream, between) in [
        ("", true),
        ("data: x", false),
        ("data: x\n", false),
        ("data: x\n\n", true),
        ("data: x\r\n\r", true),
        ("event: a\n", false),
        (": ping\n", true),
        (": pi", false),
        ("data: x\n\nd", false),
        ("data: x\n\n: ping\n\n", true),
    ] {
        for strip in [false, true] {
            let mut tap = Tap::new(&call_of("chat"), strip);
            let passed = tap.feed(&Bytes::copy_from_slice(stream.as_bytes()));
            // Whatever is held back is not begun for the client.
            let expected = between || (strip && !passed.ends_with(b"x"));
            assert_eq!(tap.is_between_events(), expected, "{stream:?} {strip}");
        }
    }
}

/// Events as the standard says, of a whole text.
fn events(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut lines: Vec<&str> = text.split(['\n', '\r']).collect();
    // What has no line end is no line.
    lines.pop();
    let (mut found, mut data) = (Vec::new(), None::<String>);
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        match (line, name) {
            ("", _) => found.extend(data.take()),
            (_, "data") => {
                let value = value.strip_prefix(' ').unwrap_or(value);
                data = Some(data.map_or_else(|| value.to_owned(), |old| format!("{old}\n{value}")));
            }
            _ => {}
        }
    }
    found
}

fn framed(chunks: &[&[u8]]) -> Vec<String> {
    let (mut framer, mut found) = (Framer::new(), Vec::new());
    for chunk in chunks {
        let mut at = 0;
        while let Some(mark) = framer.next(chunk, &mut at) {
            if mark == Mark::Event {
                found.push(String::from_utf8(framer.data().unwrap().to_vec()).unwrap());
            }
        }
        assert_eq!(at, chunk.len());
    }
    found
}

/// Streams made of what matters: fields, half fields, line ends of all kinds, chunks to take out.
fn streams() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n"),
        Just("\r"),
        Just("\r\n"),
        Just("\n\n"),
        Just("data"),
        Just("data:"),
        Just("data: "),
        Just("da"),
        Just("event: x"),
        Just(": comment"),
        Just(":"),
        Just(" "),
        Just("\u{feff}"),
        Just("ü"),
        Just(USAGE),
        Just("data: [DONE]"),
        Just(r#"data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn any_stream_in_any_pieces_is_the_same(
        stream in streams(),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let call = call_of("chat");
        let chunks = cut(stream.as_bytes(), &cuts);
        prop_assert_eq!(framed(&chunks), events(&stream));
        for strip in [false, true] {
            let whole = tapped(&call, strip, [stream.as_bytes()]);
            let pieces = tapped(&call, strip, chunks.iter().copied());
            prop_assert_eq!(&pieces, &whole);
            prop_assert!(strip || whole.0 == stream.as_bytes());
        }
    }

    #[test]
    fn any_bytes_pass(bytes in vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>()) {
        for name in ["anthropic", "chat", "responses"] {
            let (one, two) = bytes.split_at(at.index(bytes.len() + 1));
            let (passed, Outcome { .. }) = tapped(&call_of(name), false, [one, two]);
            prop_assert_eq!(&passed, &bytes);
        }
    }
}
