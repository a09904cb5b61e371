//! `claims/<ns>/<loop>`: the one key whose create revision is the fencing token; lease-bound.

use flyball_core::ids::LoopKey;

use super::{Key, loops};

/// The key of a loop's claim.
pub(crate) fn claim(key: &LoopKey) -> Vec<u8> {
    let mut encoded = b"/flyball/v1/claims/".to_vec();
    loops::push_loop(&mut encoded, key);
    encoded
}

pub(super) fn decode(rest: &str) -> Option<Key> {
    loops::decode_loop(rest).map(Key::Claim)
}
