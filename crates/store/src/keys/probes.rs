//! `probes/<node>`: the leader asks whether any scheduler hears from a node; bound to that node's lease.

use flyball_core::ids::NodeName;

use super::{Key, path};

/// The key of the question about a node.
pub(crate) fn probe(name: &NodeName) -> Vec<u8> {
    let mut key = b"/flyball/v1/probes/".to_vec();
    path::push_segment(&mut key, name.as_str());
    key
}

pub(super) fn decode(rest: &str) -> Option<Key> {
    path::decode_segment(rest).map(|name| Key::Probe(NodeName(name)))
}
