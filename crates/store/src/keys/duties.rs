//! `unsealed/<uid>`: what a life of a loop that is gone leaves to be sealed.

use flyball_core::ids::LoopUid;

use super::{Key, path};

/// The key of a seal duty.
pub(crate) fn duty(uid: &LoopUid) -> Vec<u8> {
    let mut key = b"/flyball/v1/unsealed/".to_vec();
    path::push_segment(&mut key, uid.as_str());
    key
}

pub(super) fn decode(rest: &str) -> Option<Key> {
    path::decode_segment(rest).map(|uid| Key::Duty(LoopUid(uid)))
}
