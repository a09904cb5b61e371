//! `revoked/<serial:NUMBER, or an identity>`: certificates that are not taken any more.

use flyball_core::revocation::Revoked;

use super::{Key, path};

/// Where the revocations are.
pub(crate) const REVOKED: &str = "/flyball/v1/revoked/";

/// The key of a revocation.
pub(crate) fn revoked(of: &Revoked) -> Vec<u8> {
    let mut key = REVOKED.as_bytes().to_vec();
    path::push_segment(&mut key, &of.to_string());
    key
}

pub(super) fn decode(rest: &str) -> Option<Key> {
    let text = path::decode_segment(rest)?;
    let revoked: Revoked = text.parse().ok()?;
    (revoked.to_string() == text).then_some(Key::Revoked(revoked))
}
