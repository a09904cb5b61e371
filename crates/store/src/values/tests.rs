//! Values round-trip, newer ones are refused by name, and what a newer version wrote survives.

use flyball_core::ids::LoopKey;
use flyball_core::spec::LoopSpec;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::*;

fn record() -> LoopRecord {
    LoopRecord {
        key: LoopKey::new("default", "a"),
        uid: "u1".into(),
        generation: 3,
        labels: [("team".to_owned(), "x".to_owned())].into(),
        created_at: jiff::Timestamp::from_nanosecond(1_234_567_890_123).unwrap(),
        spec: LoopSpec { goal: "done".to_owned(), ..LoopSpec::default() },
        spec_digest: "d".to_owned(),
        traceparent: "00-1-2-01".to_owned(),
        cancel: Some("enough".to_owned()),
        delete: true,
    }
}

/// A varint field that no version of this code knows.
fn field(tag: u32, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(tag, WireType::Varint, &mut bytes);
    encode_varint(value, &mut bytes);
    bytes
}

#[test]
fn loop_records_round_trip() {
    let record = record();
    let bytes = record.encode().unwrap();
    assert_eq!(LoopRecord::decode(record.key.clone(), &bytes), Ok(record));
}

#[test]
fn claims_sessions_owners_leaders_and_events_round_trip() {
    let key = LoopKey::new("ns", "b");
    let claim = ClaimRecord {
        key: key.clone(),
        uid: "u".into(),
        node: "n1".into(),
        incarnation: "i".into(),
        attempt: "a".into(),
        lease: 77,
        resources: vec!["git:x/y".to_owned()],
        repository: "https://x/y".to_owned(),
        since: jiff::Timestamp::UNIX_EPOCH,
    };
    assert_eq!(ClaimRecord::decode(key.clone(), &claim.encode()), Ok(claim));
    let session = SessionRecord { node: "n1".into(), incarnation: "i".into(), lease: 5 };
    assert_eq!(SessionRecord::decode("n1".into(), &session.encode()), Ok(session));
    let owner = OwnerRecord { key: key.clone(), uid: "u".into() };
    assert_eq!(OwnerRecord::decode(&owner.encode()), Ok(owner));
    let leader = LeaderRecord { id: "s1".to_owned(), address: "unix:/x".to_owned() };
    assert_eq!(LeaderRecord::decode(&leader.encode()), Ok(leader));
    let event = EventRecord {
        at: jiff::Timestamp::UNIX_EPOCH,
        namespace: "ns".to_owned(),
        name: "b".to_owned(),
        reason: "Assigned".to_owned(),
        message: "to n1".to_owned(),
        node: "n1".to_owned(),
    };
    let event_key = crate::keys::EventKey {
        namespace: "ns".to_owned(),
        name: "b".to_owned(),
        unix_ms: 0,
        nonce: 1,
    };
    assert_eq!(EventRecord::decode(event_key, &event.clone().encode()), Ok(event));
}

#[test]
fn a_newer_format_is_a_typed_error() {
    let mut bytes = record().encode().unwrap();
    bytes.extend(field(1, 9)); // the last one of a repeated scalar wins
    let newer = DecodeError::Newer { found: 9, known: 1 };
    assert_eq!(LoopRecord::decode(record().key, &bytes), Err(newer.clone()));
    let mut status = encode_status(&LoopStatus::default()).unwrap();
    status.extend(field(1, 9));
    assert_eq!(decode_status(&status), Err(newer));
    assert!(matches!(
        DecodeError::Newer { found: 9, known: 1 }.at(b"k"),
        StoreError::Newer { found: 9, .. }
    ));
}

#[test]
fn garbage_and_emptiness_are_errors_and_no_panics() {
    for bytes in [&b""[..], b"\xff\xff", b"hello", b"\x0a\xff"] {
        assert!(matches!(LoopRecord::decode(record().key, bytes), Err(DecodeError::Malformed(_))));
        assert!(matches!(decode_status(bytes), Err(DecodeError::Malformed(_))));
    }
}

#[test]
fn a_rewrite_keeps_what_a_newer_version_wrote() {
    let mut before = record().encode().unwrap();
    let unknown = field(77, 5);
    before.extend(&unknown);
    let cancelled = LoopRecord { cancel: Some("again".to_owned()), ..record() };
    let Ok(after) = cancelled.encode_over(&before) else { panic!("must encode") };
    assert!(after.ends_with(&unknown));
    assert_eq!(LoopRecord::decode(record().key, &after), Ok(cancelled));
}

#[test]
fn unknown_fields_inside_the_spec_survive_a_rewrite_of_the_intents() {
    let mut spec = serde_json::to_value(record().spec).unwrap();
    spec["fromTheFuture"] = 1.into();
    let before = future_record(serde_json::to_vec(&spec).unwrap());
    let cancelled = LoopRecord { cancel: Some("again".to_owned()), ..record() };
    let Ok(after) = cancelled.encode_over(&before) else { panic!("must encode") };
    assert!(String::from_utf8_lossy(&after).contains("fromTheFuture"));
    let changed =
        LoopRecord { spec: LoopSpec { goal: "else".to_owned(), ..record().spec }, ..record() };
    let Ok(after) = changed.encode_over(&before) else { panic!("must encode") };
    assert!(!String::from_utf8_lossy(&after).contains("fromTheFuture"));
}

/// A record whose spec is the given JSON.
fn future_record(spec: Vec<u8>) -> Vec<u8> {
    let mut bytes = record().encode().unwrap();
    encode_key(6, WireType::LengthDelimited, &mut bytes);
    encode_varint(spec.len() as u64, &mut bytes);
    bytes.extend(spec);
    bytes
}

#[test]
fn unknown_fields_of_documents_survive() {
    let json = br#"{"phase":"Parked","fromTheFuture":{"a":1},"progress":{"alsoNew":2}}"#;
    let status: LoopStatus = serde_json::from_slice(json).unwrap();
    let again = decode_status(&encode_status(&status).unwrap()).unwrap();
    assert_eq!(again, status);
    assert!(again.unknown.contains_key("fromTheFuture"));
    assert!(again.progress.unknown.contains_key("alsoNew"));
}

#[test]
fn documents_are_bounded() {
    let status = LoopStatus { message: "x".repeat(800_000), ..LoopStatus::default() };
    assert!(matches!(encode_status(&status), Err(StoreError::TooLarge { .. })));
}

#[test]
fn timestamps_out_of_range_are_clamped() {
    assert_eq!(from_nanos(to_nanos(jiff::Timestamp::MAX)), from_nanos(i64::MAX));
    assert_eq!(from_nanos(to_nanos(jiff::Timestamp::MIN)), from_nanos(i64::MIN));
}
