//! `loops/<ns>/<name>/{spec,status}`: what is wanted and what was observed.

use flyball_core::ids::LoopKey;

use super::{Key, path};

/// The key of a loop's desired state.
pub(crate) fn spec(key: &LoopKey) -> Vec<u8> {
    with_suffix(key, b"/spec")
}

/// The key of a loop's observed state.
pub(crate) fn status(key: &LoopKey) -> Vec<u8> {
    with_suffix(key, b"/status")
}

fn with_suffix(key: &LoopKey, suffix: &[u8]) -> Vec<u8> {
    let mut encoded = b"/flyball/v1/loops/".to_vec();
    push_loop(&mut encoded, key);
    encoded.extend_from_slice(suffix);
    encoded
}

/// Appends `<ns>/<name>`.
pub(super) fn push_loop(out: &mut Vec<u8>, key: &LoopKey) {
    path::push_segment(out, &key.namespace);
    out.push(b'/');
    path::push_segment(out, &key.name);
}

/// Reads `<ns>/<name>`.
pub(super) fn decode_loop(text: &str) -> Option<LoopKey> {
    let (namespace, name) = text.split_once('/')?;
    Some(LoopKey::new(path::decode_segment(namespace)?, path::decode_segment(name)?))
}

pub(super) fn decode(rest: &str) -> Option<Key> {
    let (key, what) = rest.rsplit_once('/')?;
    match what {
        "spec" => decode_loop(key).map(Key::Spec),
        "status" => decode_loop(key).map(Key::Status),
        _ => None,
    }
}
