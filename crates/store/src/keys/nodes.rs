//! `nodes/<node>`: the durable record of a node.

use flyball_core::ids::NodeName;

use super::{Key, path};

/// The key of a node's record.
pub(crate) fn node(name: &NodeName) -> Vec<u8> {
    let mut key = b"/flyball/v1/nodes/".to_vec();
    path::push_segment(&mut key, name.as_str());
    key
}

pub(super) fn decode(rest: &str) -> Option<Key> {
    path::decode_segment(rest).map(|name| Key::Node(NodeName(name)))
}
