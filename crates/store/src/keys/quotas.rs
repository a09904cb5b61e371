//! `quotas/<provider>`: the pool of a provider's account.

use super::{Key, path};

/// Where all pools are.
pub(crate) const QUOTAS: &str = "/flyball/v1/quotas/";

/// The key of a provider's pool.
pub(crate) fn quota(provider: &str) -> Vec<u8> {
    let mut key = QUOTAS.as_bytes().to_vec();
    path::push_segment(&mut key, provider);
    key
}

pub(super) fn decode(rest: &str) -> Option<Key> {
    path::decode_segment(rest).map(Key::Quota)
}
