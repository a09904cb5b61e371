//! What is fuzzed: everything that reads what strangers write. Each function takes any bytes, must not panic, and
//! checks what has to hold of whatever is accepted.

use std::sync::OnceLock;

use bytes::Bytes;
use flyball_core::joining::{JoinTokenRecord, Wanted};
use flyball_core::redact::{Patterns, Redactor};
use flyball_core::report::{REPORT_BYTES_MAX, Report};
use flyball_core::resource::{Entry, ResourceSet, canonical_repo_id};
use flyball_core::revocation::Revoked;
use flyball_core::score::{CaseMemory, ExitKind, Judge};
use flyball_core::spec::{Access, CheckSpec, Command, Owns, RegexScore, Score};
use flyball_core::{identity::Identity, manifest, model::Protocol};
use flyball_gateway::wire::{self, Edits, Tap};
use flyball_pki::{Authority, JoinToken, KeyOf, Order, PinnedRoot, Subject, facts_of_pem, hash_of};
use flyball_proto::v1;
use prost::Message;

/// One target: its name and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 9] = [
    ("manifest", manifest_document),
    ("resource_set", resource_set),
    ("messages", messages),
    ("certificates", certificates),
    ("check_output", check_output),
    ("report", report),
    ("redaction", redaction),
    ("model_call", model_call),
    ("model_answer", model_answer),
];

/// A manifest as JSON: accepted ones are read back as they were written.
pub fn manifest_document(bytes: &[u8]) {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    if let Ok(read) = manifest::parse_manifest(&json) {
        let written = serde_json::to_value(&read).expect("a manifest can be written");
        assert_eq!(manifest::parse_manifest(&written).ok(), Some(read));
    }
}

/// Entries, one a line: canonical forms are stable, conflicts have no direction.
pub fn resource_set(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (text.parse::<Identity>(), canonical_repo_id(text));
    let lines: Vec<&str> = text.lines().take(48).collect();
    let entries: Vec<Entry> =
        lines.iter().filter_map(|line| Entry::parse(Access::Exclusive, line).ok()).collect();
    for one in &entries {
        assert_eq!(Entry::from_owner_key(one.access(), &one.owner_key()).as_ref(), Ok(one));
        for two in &entries {
            assert_eq!(one.conflicts(two), two.conflicts(one), "{one:?} {two:?}");
        }
    }
    let owns: Vec<Owns> = lines.iter().map(|line| Owns::Exclusive((*line).to_owned())).collect();
    if let Ok(set) = ResourceSet::parse(&owns, None) {
        let again = ResourceSet::from_canonical(&set.canonical()).expect("its own form");
        assert_eq!(again.canonical(), set.canonical());
    }
}

/// Every message that comes over the network.
pub fn messages(bytes: &[u8]) {
    let _ = v1::ApplyRequest::decode(bytes);
    let _ = v1::NodeMessage::decode(bytes);
    let _ = v1::SchedulerMessage::decode(bytes);
    let _ = v1::HeartbeatRequest::decode(bytes);
    let _ = v1::HeartbeatResponse::decode(bytes);
    let _ = v1::ReportGoneRequest::decode(bytes);
    let _ = v1::WatchLoopsRequest::decode(bytes);
    let _ = v1::LoopObject::decode(bytes);
    let _ = v1::LogData::decode(bytes);
    let _ = v1::CreateTokenRequest::decode(bytes);
    if let Ok(request) = v1::JoinRequest::decode(bytes) {
        signing_request(&request.request_der);
    }
    if let Ok(request) = v1::RenewRequest::decode(bytes) {
        signing_request(&request.request_der);
    }
    if let Ok(request) = v1::RevokeRequest::decode(bytes) {
        revoked(&request.serial, &request.identity);
    }
}

/// What strangers and callers send about certificates: signing requests, join tokens, what is to be revoked, and the
/// authorities that whoever answers claims to have.
pub fn certificates(bytes: &[u8]) {
    signing_request(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    revoked(text, text);
    if let Ok(token) = text.parse::<JoinToken>() {
        assert_eq!(token.to_string(), text.trim());
    }
    let _ = facts_of_pem(text);
    // Of a key that nobody has: whatever is claimed, it is not found.
    assert!(PinnedRoot::find(text, &"0".repeat(64)).is_err());
    if let Ok(record) = serde_json::from_str::<JoinTokenRecord>(text) {
        let wanted = Wanted { node: text, suggested: text };
        // A secret that would hash to a text of which it is a part.
        assert!(record.admit(&hash_of(text), wanted, now()).is_err());
    }
}

/// Whatever a signing request says of itself, only its key counts.
fn signing_request(der: &[u8]) {
    let identity: Identity = "node:n1".parse().expect("an identity");
    let order = Order {
        subject: Subject::Caller(identity.clone()),
        hosts: Vec::new(),
        lifetime: flyball_pki::DAY,
        key: KeyOf::Request(der),
        not_before: None,
    };
    if let Ok(issued) = authority().issue(&order, now()) {
        assert_eq!(issued.facts.identity, Some(identity));
        assert!(issued.facts.hosts.is_empty() && issued.key.is_none());
    }
}

/// What can be revoked has one form.
fn revoked(serial: &str, identity: &str) {
    let named = identity.parse::<Identity>().ok().and_then(|one| Revoked::identity(one).ok());
    for one in [Revoked::serial(serial).ok(), named].into_iter().flatten() {
        assert_eq!(one.to_string().parse().as_ref(), Ok(&one));
    }
    let _ = identity.parse::<Revoked>();
}

/// An authority that signs what is asked for. Its files are gone once it is loaded.
fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("flyball-fuzz-{}", std::process::id()));
        let made = Authority::init(&dir, "fuzz", flyball_pki::DAY * 300, now());
        let _ = std::fs::remove_dir_all(&dir);
        made.expect("an authority can be made")
    })
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_790_000_000).expect("a time")
}

/// The output of a check, under each of the parsers: the failing share is one.
pub fn check_output(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let regex = RegexScore {
        pass: "^ok (?P<name>.+)$".to_owned(),
        fail: "^not ok (?P<name>.+)$".to_owned(),
    };
    for score in [None, Some(Score::Libtest {}), Some(Score::Regex(regex))] {
        let check = CheckSpec {
            name: "check".to_owned(),
            run: Command::Shell("true".to_owned()),
            timeout: flyball_core::quantity::Span::from_secs(1),
            score,
            allow_removed: false,
        };
        let judge = Judge::new(check);
        let mut memory = CaseMemory::default();
        for exit in [ExitKind::Exited(0), ExitKind::Exited(101)] {
            let result = judge.evaluate(&exit, &text, &mut memory);
            assert!(result.distance <= flyball_core::quantity::Distance::ONE);
            assert!(!result.passed || result.distance.is_zero());
        }
    }
}

/// What an agent left as its report: a note that is no longer than the report, or a reason in few words.
pub fn report(bytes: &[u8]) {
    match Report::parse(bytes) {
        Ok(report) => assert!(report.note.len() <= bytes.len() && bytes.len() <= REPORT_BYTES_MAX),
        Err(error) => assert!(error.to_string().len() <= 1000 + 10 * bytes.len()),
    }
}

/// Output with a secret in it, cut anywhere: no piece of what comes out holds it.
pub fn redaction(bytes: &[u8]) {
    const SECRET: &[u8] = b"s3cr3t-value";
    let (cut, rest) = match bytes.split_first() {
        Some((first, rest)) => (usize::from(*first).max(1), rest),
        None => return,
    };
    let mut redactor = Redactor::new(Patterns::of([("name", SECRET)]));
    let text = [rest, SECRET, rest].concat();
    let mut out = Vec::new();
    for chunk in text.chunks(cut) {
        out.extend(redactor.push(chunk));
    }
    out.extend(redactor.finish());
    assert!(!out.windows(SECRET.len()).any(|window| window == SECRET));
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Anthropic, Protocol::Chat, Protocol::Responses];

/// A request for a model: whatever is changed in it, it stays a request that says so.
pub fn model_call(bytes: &[u8]) {
    for protocol in PROTOCOLS {
        let Ok(call) = wire::parse(protocol, bytes) else { continue };
        assert!(wire::input_bound(bytes, &call) > 0);
        let edits = Edits {
            model: Some("a\"b"),
            max_output: Some(77),
            ask_usage: true,
            both_limits: bytes.len().is_multiple_of(2),
        };
        let edited = wire::edit(Bytes::copy_from_slice(bytes), &call, &edits);
        let again = wire::parse(protocol, &edited).expect("an edited request is one");
        assert_eq!((again.model.as_str(), again.max_output), ("a\"b", Some(77)));
        assert_eq!(
            (again.stream, again.choices, again.tools),
            (call.stream, call.choices, call.tools)
        );
        assert!(protocol != Protocol::Chat || !call.stream || again.asks_usage);
    }
}

/// An answer, whole and in pieces: the same bytes pass, and the same is read of them.
pub fn model_answer(bytes: &[u8]) {
    let Some((first, answer)) = bytes.split_first() else { return };
    let cut = usize::from(*first % 64) + 1;
    for protocol in PROTOCOLS {
        let call = wire::parse(protocol, br#"{"model":"m","stream":true}"#).expect("a request");
        let _ = wire::read_answer(&call, answer);
        for strip in [false, true] {
            let whole = tapped(Tap::new(&call, strip), [answer]);
            assert_eq!(tapped(Tap::new(&call, strip), answer.chunks(cut)), whole);
            assert!(strip && protocol == Protocol::Chat || whole.0 == answer);
            let most = wire::Most {
                input: 10,
                output: 1_000_000,
                searches: 0,
                hidden_reasoning: None,
                unread: false,
            };
            let charged = wire::estimate(&call, &whole.1, &most);
            assert!(charged.input_total > 0 || whole.1.error.is_some());
        }
    }
}

/// What passes a tap, and what it has seen.
fn tapped<'a>(mut tap: Tap, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, wire::Seen) {
    let mut passed = Vec::new();
    for chunk in chunks {
        passed.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(chunk)));
    }
    let outcome = tap.end();
    passed.extend_from_slice(&outcome.rest);
    (passed, outcome.seen)
}
