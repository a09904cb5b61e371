//! Events: one line each of what happened to a loop or a node, for people; short-lived.

use jiff::Timestamp;
use prost::Message;

use super::{DecodeError, check_format, envelope, from_nanos, to_nanos};
use crate::keys::EventKey;

const FORMAT: u32 = 1;

/// Longest message of an event; longer ones are cut. Events are one line each, and the rate bound
/// counts on their size.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// When; for display only.
    pub at: Timestamp,
    /// Namespace of the loop; empty for events of no loop.
    pub namespace: String,
    /// The loop; empty for events of no loop.
    pub name: String,
    /// A stable CamelCase code, e.g. `Assigned`.
    pub reason: String,
    /// One line for people; cut at 1 KiB.
    pub message: String,
    /// The node concerned; empty if none.
    pub node: String,
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(sint64, tag = "2")]
    at_ns: i64,
    #[prost(string, tag = "3")]
    reason: String,
    #[prost(string, tag = "4")]
    message: String,
    #[prost(string, tag = "5")]
    node: String,
}

impl EventRecord {
    pub(crate) fn encode(mut self) -> Vec<u8> {
        self.message.truncate(self.message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Envelope {
            format: FORMAT,
            at_ns: to_nanos(self.at),
            reason: self.reason,
            message: self.message,
            node: self.node,
        }
        .encode_to_vec()
    }

    pub(crate) fn decode(key: EventKey, bytes: &[u8]) -> Result<Self, DecodeError> {
        let envelope: Envelope = envelope(bytes)?;
        check_format(envelope.format, FORMAT)?;
        Ok(Self {
            at: from_nanos(envelope.at_ns),
            namespace: key.namespace,
            name: key.name,
            reason: envelope.reason,
            message: envelope.message,
            node: envelope.node,
        })
    }
}
