//! A bounded run of the fuzz targets without a fuzzer: seeds, mutated at random from a fixed seed, so that a failure
//! comes again. `fuzz/` has the same targets for libFuzzer, which finds more and has no end.
#![expect(clippy::unwrap_used, reason = "a test")]

#[expect(unreachable_pub, reason = "the fuzzer's programs use them from another crate")]
#[path = "../../fuzz/src/targets.rs"]
mod targets;

use flyball_pki::{Authority, KeyOf, Order, Subject, request_for, write_identity};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};

/// Inputs of each target.
const INPUTS: usize = 1500;
/// Mutations of one input, at most.
const MUTATIONS_MAX: usize = 8;
/// Longest input: the interesting bounds are below it.
const BYTES_MAX: usize = 8192;

const SEEDS: [&str; 17] = [
    r#"{"apiVersion":"flyball.dev/v1","kind":"Loop","metadata":{"name":"a","namespace":"b","labels":{"k":"v"}},"spec":{"goal":"g","workspace":{"git":{"url":"/r","ref":"main","publish":{"branch":"x"}}},"owns":["src/**",{"resource":"gpu:n/0","access":"read"}],"needs":{"cpu":"500m","memory":"1Gi"},"checks":[{"name":"t","run":["true"],"timeout":"5m","score":{"libtest":{}}}],"pins":["tests/**"],"agent":{"command":"x","env":{"A":"b"}},"governor":{"iterations":3},"sandbox":{"isolation":"strict","readOnly":["/srv/a"],"egress":["web"]}}}"#,
    "git:example.org/a/src/**\ngit:example.org/a/*/x\nbranch:main\ngpu:node/0\ngit:/srv/r/**",
    "running 3 tests\ntest a ... ok\ntest b::c ... FAILED\ntest d ... ignored\n\ntest result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out\n",
    r#"{"note":"fixed \u00e4 \ud83d\ude00 \"x\"","claim":"needs-human","more":[1,{"a":null}]}"#,
    "ok first\nnot ok second\nok third\n",
    "user:ada",
    "https://user@example.org:443/a/b.git/",
    "\u{10}s3cr3t-valu s3cr3t-value czNjcjN0LXZhbHVl",
    r#"{"model":"m","max_tokens":9,"n":2,"stream":true,"stream_options":{"include_usage":false},"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","data":"QUJD"}}]}],"tools":[{"type":"web_search_20250305"}]}"#,
    "\u{5}data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\r\n\r\ndata: [DONE]\n\n",
    "\u{3}event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\r\r",
    "\u{7}: ping\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":37,\"output_tokens\":11}}}\n\n",
    r#"!{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":18446744073709551615,"total_tokens":18446744073709551615}}"#,
    "\u{a}\u{12}default\u{12}\u{4}name\u{1a}\u{2}{}",
    "fbj1.0123456789abcdef.0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "serial:00:AB:cd:12",
    r#"{"secretSha256":"ab12","node":"n1","createdAt":"2026-01-01T00:00:00Z","createdBy":"owner","expiresAt":"2027-01-01T00:00:00Z"}"#,
];

/// The seeds, and those that cannot be written down: a signing request and a certificate.
fn seeds() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let now = jiff::Timestamp::now();
    let day = flyball_pki::DAY;
    let authority = Authority::init(&dir.path().join("pki"), "fuzz", day * 2, now).unwrap();
    let subject = Subject::Caller("node:n1".parse().unwrap());
    let order = Order { subject, hosts: vec![], lifetime: day, key: KeyOf::New, not_before: None };
    let issued = authority.issue(&order, now).unwrap();
    let key = issued.key.as_deref().unwrap();
    let identity = dir.path().join("n1");
    write_identity(&identity, &issued.bundle, &issued.chain, key).unwrap();
    let request = request_for(&identity).unwrap();
    // The same as field 1 of a message (a renewal), and as field 5 of another (a join).
    let framed = |field: u8| {
        let length = u16::try_from(request.len()).unwrap();
        let varint = [(length & 0x7f) as u8 | 0x80, (length >> 7) as u8];
        [&[field << 3 | 2], &varint[..], &request].concat()
    };
    let mut seeds: Vec<Vec<u8>> = SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    seeds.extend([framed(1), framed(5), issued.chain.into_bytes(), request.clone()]);
    seeds
}

#[test]
fn no_input_breaks_a_target() {
    let seeds = seeds();
    for (name, target) in targets::TARGETS {
        let mut chance = StdRng::seed_from_u64(7);
        for seed in &seeds {
            target(seed);
        }
        for number in 0..INPUTS {
            let input = mutated(&mut chance, &seeds);
            let ended = std::panic::catch_unwind(|| target(&input));
            assert!(ended.is_ok(), "{name} breaks at input {number}: {:?}", input.escape_ascii());
        }
    }
}

fn mutated(chance: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds.choose(chance).unwrap().clone();
    for _ in 0..chance.random_range(1..=MUTATIONS_MAX) {
        let at = chance.random_range(0..=bytes.len());
        match chance.random_range(0..6) {
            0 => bytes.insert(at, chance.random()),
            1 => bytes.truncate(at),
            2 if at < bytes.len() => bytes[at] = chance.random(),
            3 if at < bytes.len() => bytes[at] ^= 1 << chance.random_range(0..8),
            4 => {
                let other = seeds.choose(chance).unwrap();
                let piece = &other[chance.random_range(0..other.len())..];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => {
                let piece = bytes[..at].to_vec();
                bytes.extend(piece);
            }
        }
        bytes.truncate(BYTES_MAX);
    }
    let _ = chance.next_u32();
    bytes
}
