//! The scanner of JSON against another reader of it.

use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value as Tree;

use crate::wire::json::{Kind, Value, document, quoted};
use crate::wire::{Edits, edit, parse};
use flyball_core::model::Protocol;

/// The tree of a scanned value, made by the scanner's own means.
fn tree(value: Value<'_>) -> Tree {
    match value.kind() {
        Kind::Object => value
            .members()
            .map(|(key, value)| (key.string().unwrap().into_owned(), tree(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Kind::Array => value.items().map(tree).collect(),
        Kind::String => value.string().unwrap().into(),
        Kind::Bool => value.truth().unwrap().into(),
        Kind::Null => Tree::Null,
        Kind::Number => serde_json::from_slice(value.raw()).unwrap(),
    }
}

/// Texts that are often nearly JSON.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\""),
        Just("\"a\""),
        Just("\"b\":"),
        Just("1"),
        Just("-0.5e+3"),
        Just("01"),
        Just("1."),
        Just("true"),
        Just("nul"),
        Just("null"),
        Just(" "),
        Just("\n"),
        Just("\\"),
        Just("\\u00e9"),
        Just("\\u12"),
        Just("ü"),
        Just("\u{1}"),
        Just("{}"),
        Just("[]"),
        Just("\"\\n\""),
        Just("\u{7f}"),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::from),
        any::<i64>().prop_map(Tree::from),
        any::<String>().prop_map(Tree::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        let key = prop_oneof![
            Just("model".to_owned()),
            Just("max_tokens".to_owned()),
            Just("stream_options".to_owned()),
            any::<String>(),
        ];
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Tree::from),
            prop::collection::btree_map(key, inner, 0..5)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

#[test]
fn json_is_read_strictly() {
    for text in [
        "01",
        "-",
        "1.",
        ".5",
        "+1",
        "1e",
        "--1",
        "\"\u{1}\"",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"",
        "\"\\\"",
        "[1,]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "[",
        "]",
        "{]",
        "",
        " ",
        "nul",
        "True",
        "NaN",
        "1 2",
        "\u{feff}1",
    ] {
        assert!(document(text.as_bytes()).is_err(), "{text:?}");
        assert!(serde_json::from_str::<IgnoredAny>(text).is_err(), "{text:?}");
    }
    let deep = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
    assert!(document(&deep(128)).is_ok());
    assert!(document(&deep(129)).is_err());
    // The last of several wins, also if it is nothing.
    let twice = document(br#"{"a":1,"\u0061":2,"b":1,"b":null}"#).unwrap();
    let [a, b] = twice.fields(["a", "b"]);
    assert_eq!((a.and_then(Value::whole), b.is_none()), (Some(2), true));
    assert_eq!((twice.get("a").and_then(Value::whole), twice.get("b").is_none()), (Some(2), true));
}

proptest! {
    #[test]
    fn the_same_texts_are_json(text in texts()) {
        let other = serde_json::from_str::<IgnoredAny>(&text);
        prop_assert_eq!(document(text.as_bytes()).is_ok(), other.is_ok(), "{:?}", text);
    }

    #[test]
    fn the_same_is_read(tree_in in trees(), pretty in any::<bool>()) {
        let text = if pretty {
            serde_json::to_string_pretty(&tree_in).unwrap()
        } else {
            tree_in.to_string()
        };
        prop_assert_eq!(tree(document(text.as_bytes()).unwrap()), tree_in);
    }

    #[test]
    fn strings_are_written_as_they_were(text in any::<String>()) {
        prop_assert_eq!(serde_json::from_str::<String>(&quoted(&text)).unwrap(), text);
    }

    #[test]
    fn edits_change_what_they_say_and_nothing_else(
        rest in prop::collection::btree_map("[a-z]{1,6}x", trees(), 0..4),
        limit in prop::option::of(0_u64..100_000),
        options in prop_oneof![
            Just(None), Just(Some("null")), Just(Some("{}")),
            Just(Some(r#"{"include_usage":false}"#)), Just(Some(r#"{"a":1}"#)),
        ],
        model in "[a-z\"\\\\/]{1,9}",
        wanted in prop::option::of(1_u64..100_000),
        both in any::<bool>(),
    ) {
        let mut before: serde_json::Map<String, Tree> = rest.into_iter().collect();
        before.insert("model".to_owned(), "one".into());
        before.insert("stream".to_owned(), true.into());
        if let Some(limit) = limit {
            before.insert("max_tokens".to_owned(), limit.into());
        }
        if let Some(options) = options {
            before.insert("stream_options".to_owned(), serde_json::from_str(options).unwrap());
        }
        let body = bytes::Bytes::from(serde_json::to_vec_pretty(&before).unwrap());
        let call = parse(Protocol::Chat, &body).unwrap();
        let edits =
            Edits { model: Some(&model), max_output: wanted, ask_usage: true, both_limits: both };
        let after: Tree = serde_json::from_slice(&edit(body, &call, &edits)).unwrap();
        let mut expected = before.clone();
        expected["model"] = model.clone().into();
        let now = wanted.or_else(|| limit.filter(|limit| *limit > 0));
        if let Some(now) = now {
            if both || limit.is_none() {
                expected.insert("max_completion_tokens".to_owned(), now.into());
            }
            if both || limit.is_some() {
                expected.insert("max_tokens".to_owned(), now.into());
            }
        }
        let mut asked = expected.get("stream_options").and_then(Tree::as_object).cloned();
        asked.get_or_insert_default().insert("include_usage".to_owned(), true.into());
        expected.insert("stream_options".to_owned(), asked.unwrap().into());
        prop_assert_eq!(after, Tree::from(expected));
    }
}
