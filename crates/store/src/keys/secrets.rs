//! `secrets/<ns>/<name>`: sealed values.

use flyball_core::ids::LoopKey;

use super::loops::{decode_loop, push_loop};
use super::{Key, path};

const SECRETS: &str = "/flyball/v1/secrets/";

/// The key of a secret.
pub(crate) fn secret(key: &LoopKey) -> Vec<u8> {
    let mut encoded = SECRETS.as_bytes().to_vec();
    push_loop(&mut encoded, key);
    encoded
}

/// Where the secrets of a namespace are, or all of them for an empty one.
pub(crate) fn secrets_of(namespace: &str) -> Vec<u8> {
    let mut prefix = SECRETS.as_bytes().to_vec();
    if !namespace.is_empty() {
        path::push_segment(&mut prefix, namespace);
        prefix.push(b'/');
    }
    prefix
}

pub(super) fn decode(rest: &str) -> Option<Key> {
    decode_loop(rest).map(Key::Secret)
}
