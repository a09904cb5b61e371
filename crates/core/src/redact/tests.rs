//! Secrets in every form and in pieces.

use proptest::prelude::*;

use super::*;

const VALUE: &str = "s3cr\"t/value+1 \u{e4}";

fn patterns() -> Patterns {
    Patterns::of([("token", VALUE.as_bytes()), ("other", b"0123456789abcdef")])
}

fn base64(bytes: &[u8]) -> String {
    let padded = [bytes, &[0, 0]].concat();
    let mut text = base64_inside(&padded[..bytes.len().div_ceil(3) * 3], 0, STANDARD).unwrap();
    text.truncate((bytes.len() * 8).div_ceil(6));
    String::from_utf8(text).unwrap()
}

#[test]
fn every_usual_form_is_found() {
    assert_eq!(base64(b"hello world!"), "aGVsbG8gd29ybGQh");
    let json = serde_json::to_string(VALUE).unwrap();
    let escaped = json.trim_matches('"').to_owned();
    let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent = String::from_utf8(percent(VALUE.as_bytes(), b"0123456789ABCDEF", false)).unwrap();
    let slashes = escaped.replace('/', "\\/");
    let numbers = [escaped.replace('\u{e4}', "\\u00e4"), slashes.replace('\u{e4}', "\\u00e4")];
    let [number, both] = numbers;
    for form in [VALUE.to_owned(), escaped, slashes, number, both, hex, percent] {
        let clean = patterns().redact_text(&format!("a {form} b"));
        assert_eq!(clean, "a [redacted:token] b", "{form}");
    }
    for before in ["", "x", "xy", "xyz", "user:"] {
        let text = base64(format!("{before}{VALUE}!").as_bytes());
        assert!(patterns().redact_text(&text).contains("[redacted:token]"), "{text}");
    }
}

#[test]
fn a_secret_that_is_a_form_of_another_hides_no_wrapped_one() {
    let long = "a-token-of-a-hundred-characters-and-more-/".repeat(3);
    let hex: String = long.bytes().map(|byte| format!("{byte:02x}")).collect();
    let lines = hex.as_bytes().chunks(60).map(String::from_utf8_lossy);
    let wrapped = lines.collect::<Vec<_>>().join("\n");
    for secrets in [[("hex", &hex), ("plain", &long)], [("plain", &long), ("hex", &hex)]] {
        let patterns = Patterns::of(secrets.map(|(name, value)| (name, value.as_bytes())));
        assert_eq!(patterns.redact_text(&wrapped), "[redacted:plain]", "{secrets:?}");
    }
}

#[test]
fn wrapped_forms_are_found() {
    let long = "a-token-of-a-hundred-characters-and-more-/".repeat(3);
    let patterns = Patterns::of([("long", long.as_bytes())]);
    let wrap = |text: &str, width: usize, end: &str| -> String {
        let lines = text.as_bytes().chunks(width).map(String::from_utf8_lossy);
        lines.map(|line| format!("{line}{end}")).collect()
    };
    let hex: String = long.bytes().map(|byte| format!("{byte:02x}")).collect();
    for before in ["", "x", "user:", "some more words that come before"] {
        let text = base64(format!("{before}{long}").as_bytes());
        for (width, end) in [(76, "\n"), (64, "\n"), (76, "\r\n"), (60, "\n")] {
            let clean = patterns.redact_text(&wrap(&text, width, end));
            assert!(clean.contains("[redacted:long]"), "{width} {clean}");
            assert!(clean.len() < 80, "{width} {clean}");
        }
    }
    assert_eq!(patterns.redact_text(&wrap(&hex, 60, "\n")), "[redacted:long]\n");
    // A value as it is, with line breaks in it, is another text.
    let broken = wrap(&long, 76, "\n");
    assert_eq!(patterns.redact_text(&broken), broken);
}

#[test]
fn one_line_break_in_32_characters_is_looked_over_and_one_more() {
    let value = "correct-horse-battery-staple-123";
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let patterns = Patterns::of([("pass", value.as_bytes())]);
    for breaks in 0..=4 {
        let (broken, rest) = hex.split_at(breaks);
        let text: String = broken.chars().map(|digit| format!("{digit}\r\n")).collect();
        let text = text + rest;
        let mut redactor = Redactor::new(patterns.clone());
        let mut clean: Vec<u8> = text.bytes().flat_map(|byte| redactor.push(&[byte])).collect();
        clean.extend(redactor.finish());
        let wanted = if breaks <= 3 { "[redacted:pass]" } else { text.as_str() };
        assert_eq!(String::from_utf8(clean).unwrap(), wanted, "{breaks}");
        assert_eq!(patterns.redact_text(&text), wanted, "{breaks}");
    }
    // 64 digits and three breaks of two bytes: what is before the last 69 bytes begins no value.
    let clean = Redactor::new(patterns).push(&[b'.'; 200]);
    assert_eq!(clean.len(), 200 - 69);
}

#[test]
fn lines_of_a_key_file_are_found_one_by_one() {
    let key = "-----BEGIN KEY-----\nabcdefghijklmnopqrst\nuvw\n-----END KEY-----\n";
    let patterns = Patterns::of([("key", key.as_bytes())]);
    assert_eq!(patterns.redact_text("x abcdefghijklmnopqrst y"), "x [redacted:key] y");
    assert_eq!(patterns.redact_text("x uvw y"), "x uvw y", "too short a line");
    assert_eq!(patterns.redact_text(&format!("<{}>", key.trim())), "<[redacted:key]>");
    assert_eq!(patterns.redact_text(&key.trim().replace('\n', "\r\n")), "[redacted:key]");
    assert!(!format!("{patterns:?}").contains("abcd"));
}

#[test]
fn what_is_too_short_is_not_looked_for() {
    let patterns = Patterns::of([("pin", &b" 1234567\n"[..])]);
    assert!(patterns.is_empty());
    assert!(!Patterns::of([("pin", &b" 12345678\n"[..])]).is_empty());
    assert_eq!(format!("{patterns:?}"), "Patterns(0)");
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        parts in proptest::collection::vec(
            prop_oneof![
                Just(VALUE.as_bytes().to_vec()),
                Just(b"0123456789abcdef".to_vec()),
                Just(b"012345678".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..6),
            ],
            0..12,
        ),
        sizes in proptest::collection::vec(1_usize..9, 1..40),
    ) {
        let whole = parts.concat();
        let mut redactor = Redactor::new(patterns());
        let (mut clean, mut rest, mut size) = (Vec::new(), &whole[..], sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((*size.next().unwrap()).min(rest.len()));
            clean.extend(redactor.push(piece));
            rest = behind;
        }
        clean.extend(redactor.finish());
        prop_assert_eq!(&clean, &patterns().redact(&whole));
        for value in [VALUE.as_bytes(), b"0123456789abcdef"] {
            prop_assert!(!clean.windows(value.len()).any(|window| window == value));
        }
    }
}
