//! `audit/<number>`: the audit trail in its order, and `audit-head`.

use super::Key;

/// Where the entries are; a snapshot leaves them out.
pub(crate) const AUDIT: &str = "/flyball/v1/audit/";
/// Where the chain begins and ends.
pub(crate) const AUDIT_HEAD: &str = "/flyball/v1/audit-head";

/// The key of an entry; numbers have the same width, so that keys are in the order of numbers.
pub(crate) fn audit(number: u64) -> Vec<u8> {
    format!("{AUDIT}{number:020}").into_bytes()
}

pub(super) fn decode(rest: &str) -> Option<Key> {
    let digits = rest.len() == 20 && rest.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| rest.parse().ok().map(Key::Audit)).flatten()
}
