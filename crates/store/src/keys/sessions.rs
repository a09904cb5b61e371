//! `sessions/<node>`: which incarnation of a node is alive; bound to that incarnation's lease.

use flyball_core::ids::NodeName;

use super::{Key, path};

/// The key of a node's session.
pub(crate) fn session(name: &NodeName) -> Vec<u8> {
    let mut key = b"/flyball/v1/sessions/".to_vec();
    path::push_segment(&mut key, name.as_str());
    key
}

pub(super) fn decode(rest: &str) -> Option<Key> {
    path::decode_segment(rest).map(|name| Key::Session(NodeName(name)))
}
