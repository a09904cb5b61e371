//! `installation` and `leader`: keys that exist once.

use super::Key;

/// Id and schema version of the installation.
pub(crate) const INSTALLATION: &str = "/flyball/v1/installation";

/// The leading scheduler; bound to its lease. Its create revision fences every write of a leader.
pub(crate) const LEADER: &str = "/flyball/v1/leader";

pub(super) fn decode(rest: &str) -> Option<Key> {
    match rest {
        "installation" => Some(Key::Installation),
        "leader" => Some(Key::Leader),
        "audit-head" => Some(Key::AuditHead),
        _ => None,
    }
}
