//! Sessions: which incarnation of a node is alive.

use flyball_core::ids::{Incarnation, NodeName};
use prost::Message;

use super::{DecodeError, check_format, envelope};

const FORMAT: u32 = 1;

/// A node's live incarnation. Its key is bound to the lease it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The node; kept in the key.
    pub node: NodeName,
    /// Its present life.
    pub incarnation: Incarnation,
    /// The lease of that life.
    pub lease: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    incarnation: String,
    #[prost(int64, tag = "3")]
    lease: i64,
}

impl SessionRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Envelope { format: FORMAT, incarnation: self.incarnation.0.clone(), lease: self.lease }
            .encode_to_vec()
    }

    pub(crate) fn decode(node: NodeName, bytes: &[u8]) -> Result<Self, DecodeError> {
        let envelope: Envelope = envelope(bytes)?;
        check_format(envelope.format, FORMAT)?;
        Ok(Self { node, incarnation: Incarnation(envelope.incarnation), lease: envelope.lease })
    }
}
