//! The values: small protobuf envelopes with a format version, typed identity fields and, where a
//! document of the core is kept, its JSON. Documents carry their unknown fields themselves;
//! envelopes of documents have two fields for ever (`format`, `document`), so that nothing of a
//! newer version is lost when an older one rewrites them.

mod access;
mod claim;
mod document;
mod event;
mod leader;
mod loop_record;
mod session;
mod unknown;

use flyball_core::node::NodeRecord;
use flyball_core::seal::SealDuty;
use flyball_core::status::LoopStatus;
use prost::Message;

use crate::error::StoreError;

pub use access::AccessRecord;
pub use claim::{ClaimRecord, OwnerRecord};
pub use event::EventRecord;
pub use leader::LeaderRecord;
pub(crate) use leader::{decode_installation, encode_installation};
pub use loop_record::LoopRecord;
pub use session::SessionRecord;

/// Version of the keys and values as a whole, recorded with the installation. A program that finds
/// a higher one refuses to touch the store.
pub const SCHEMA_VERSION: u32 = 1;

/// A value with the revisions that later transactions compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The value.
    pub value: T,
    /// Revision of the last change.
    pub mod_revision: i64,
    /// Revision of the creation.
    pub create_revision: i64,
    /// Lease the key is bound to; 0 if none.
    pub lease: i64,
}

impl<T> Stored<T> {
    /// The same revisions with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Stored<U> {
        Stored {
            value: change(self.value),
            mod_revision: self.mod_revision,
            create_revision: self.create_revision,
            lease: self.lease,
        }
    }
}

/// Why a value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("unreadable value: {0}")]
    Malformed(String),
    #[error("format {found} is newer than {known}")]
    Newer { found: u32, known: u32 },
}

impl DecodeError {
    /// The error of an operation that needed the value of `key`.
    pub(crate) fn at(self, key: &[u8]) -> StoreError {
        let key = String::from_utf8_lossy(key).into_owned();
        match self {
            Self::Newer { found, known } => StoreError::Newer { what: key, found, known },
            Self::Malformed(why) => StoreError::Undecodable { key, why },
        }
    }
}

/// Decodes an envelope.
fn envelope<M: Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))
}

/// Refuses formats that this code does not know.
fn check_format(found: u32, known: u32) -> Result<(), DecodeError> {
    match found {
        0 => Err(DecodeError::Malformed("no format version".to_owned())),
        _ if found > known => Err(DecodeError::Newer { found, known }),
        _ => Ok(()),
    }
}

/// The value of a loop's status key.
pub(crate) fn encode_status(status: &LoopStatus) -> Result<Vec<u8>, StoreError> {
    document::encode(status, "a loop's status")
}

/// Reads a loop's status.
pub(crate) fn decode_status(bytes: &[u8]) -> Result<LoopStatus, DecodeError> {
    document::decode(bytes)
}

/// The value of a node's key.
pub(crate) fn encode_node(node: &NodeRecord) -> Result<Vec<u8>, StoreError> {
    document::encode(node, "a node's record")
}

/// Reads a node's record.
pub(crate) fn decode_node(bytes: &[u8]) -> Result<NodeRecord, DecodeError> {
    document::decode(bytes)
}

/// The value of a seal duty's key.
pub(crate) fn encode_duty(duty: &SealDuty) -> Result<Vec<u8>, StoreError> {
    document::encode(duty, "a seal duty")
}

/// Reads a seal duty.
pub(crate) fn decode_duty(bytes: &[u8]) -> Result<SealDuty, DecodeError> {
    document::decode(bytes)
}

/// The value of a role's or binding's key.
pub(crate) fn encode_access<M: serde::Serialize>(
    record: &AccessRecord<M>,
    what: &str,
) -> Result<Vec<u8>, StoreError> {
    document::encode(record, what)
}

/// Reads a role or a binding.
pub(crate) fn decode_access<M: serde::de::DeserializeOwned>(
    bytes: &[u8],
) -> Result<AccessRecord<M>, DecodeError> {
    document::decode(bytes)
}

/// Any other document of the core.
pub(crate) fn encode_document<T: serde::Serialize>(
    document: &T,
    what: &str,
) -> Result<Vec<u8>, StoreError> {
    document::encode(document, what)
}

/// Reads any other document of the core.
pub(crate) fn decode_document<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
) -> Result<T, DecodeError> {
    document::decode(bytes)
}

/// A timestamp as nanoseconds since 1970, kept within what 64 bits hold (the years 1678 to 2262).
fn to_nanos(at: jiff::Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at.as_nanosecond() < 0 {
        i64::MIN
    } else {
        i64::MAX
    })
}

/// The timestamp of [`to_nanos`].
fn from_nanos(nanos: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
