//! `jointokens/<id>`: what new nodes get their first certificate for; and `signers/<scheduler>`: who can
//! issue it, bound to a lease of that scheduler.

use super::{Key, path};

/// Where the join tokens are.
pub(crate) const JOIN_TOKENS: &str = "/flyball/v1/jointokens/";
/// Where the schedulers that sign are.
pub(crate) const SIGNERS: &str = "/flyball/v1/signers/";

/// The key of a join token.
pub(crate) fn join_token(id: &str) -> Vec<u8> {
    let mut key = JOIN_TOKENS.as_bytes().to_vec();
    path::push_segment(&mut key, id);
    key
}

/// The key of a scheduler that signs.
pub(crate) fn signer(scheduler: &str) -> Vec<u8> {
    let mut key = SIGNERS.as_bytes().to_vec();
    path::push_segment(&mut key, scheduler);
    key
}

pub(super) fn decode_token(rest: &str) -> Option<Key> {
    path::decode_segment(rest).map(Key::JoinToken)
}

pub(super) fn decode_signer(rest: &str) -> Option<Key> {
    path::decode_segment(rest).map(Key::Signer)
}
