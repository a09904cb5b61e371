//! The desired state of a loop: identity, spec and the user's intents.

use std::collections::BTreeMap;

use flyball_core::ids::{LoopKey, LoopUid};
use flyball_core::spec::LoopSpec;
use jiff::Timestamp;
use prost::Message;

use super::{DecodeError, check_format, document, envelope, from_nanos, to_nanos, unknown};
use crate::error::StoreError;

const FORMAT: u32 = 1;
/// Highest tag of [`Envelope`]; higher ones are of a newer version.
const TAG_MAX: u32 = 10;

/// The desired state of a loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopRecord {
    /// Namespace and name; kept in the key.
    pub key: LoopKey,
    /// This life of the loop.
    pub uid: LoopUid,
    /// Counts the changes of the spec, from 1.
    pub generation: u64,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// When it was submitted; for display only.
    pub created_at: Timestamp,
    /// What is wanted.
    pub spec: LoopSpec,
    /// Digest of the spec as submitted; tells a repeated submission from a change.
    pub spec_digest: String,
    /// W3C trace context of the submission; empty if none.
    pub traceparent: String,
    /// Set when a user wants it ended, with the reason.
    pub cancel: Option<String>,
    /// Set when a user wants it gone.
    pub delete: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(uint64, tag = "3")]
    generation: u64,
    #[prost(btree_map = "string, string", tag = "4")]
    labels: BTreeMap<String, String>,
    #[prost(sint64, tag = "5")]
    created_at_ns: i64,
    #[prost(bytes = "vec", tag = "6")]
    spec: Vec<u8>,
    #[prost(string, tag = "7")]
    spec_digest: String,
    #[prost(string, tag = "8")]
    traceparent: String,
    #[prost(string, optional, tag = "9")]
    cancel: Option<String>,
    #[prost(bool, tag = "10")]
    delete: bool,
}

impl LoopRecord {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, StoreError> {
        let spec = document::to_json(&self.spec, "a loop's spec")?;
        Ok(self.envelope(spec).encode_to_vec())
    }

    /// Encodes the record in place of `before`, keeping what a newer version wrote there: envelope
    /// fields always, fields inside the spec as long as the spec itself is not changed.
    pub(crate) fn encode_over(&self, before: &[u8]) -> Result<Vec<u8>, DecodeOrStore> {
        let old: Envelope = envelope(before)?;
        let old_spec: LoopSpec = document::from_json(&old.spec)?;
        let spec = if old_spec == self.spec {
            old.spec
        } else {
            document::to_json(&self.spec, "a loop's spec")?
        };
        let mut bytes = self.envelope(spec).encode_to_vec();
        bytes.extend(unknown::fields_above(before, TAG_MAX)?);
        Ok(bytes)
    }

    fn envelope(&self, spec: Vec<u8>) -> Envelope {
        Envelope {
            format: FORMAT,
            uid: self.uid.0.clone(),
            generation: self.generation,
            labels: self.labels.clone(),
            created_at_ns: to_nanos(self.created_at),
            spec,
            spec_digest: self.spec_digest.clone(),
            traceparent: self.traceparent.clone(),
            cancel: self.cancel.clone(),
            delete: self.delete,
        }
    }

    pub(crate) fn decode(key: LoopKey, bytes: &[u8]) -> Result<Self, DecodeError> {
        let envelope: Envelope = envelope(bytes)?;
        check_format(envelope.format, FORMAT)?;
        Ok(Self {
            key,
            uid: LoopUid(envelope.uid),
            generation: envelope.generation,
            labels: envelope.labels,
            created_at: from_nanos(envelope.created_at_ns),
            spec: document::from_json(&envelope.spec)?,
            spec_digest: envelope.spec_digest,
            traceparent: envelope.traceparent,
            cancel: envelope.cancel,
            delete: envelope.delete,
        })
    }
}

/// Rewriting a value can fail on the old value or on the new one.
pub(crate) enum DecodeOrStore {
    Decode(DecodeError),
    Store(StoreError),
}

impl From<DecodeError> for DecodeOrStore {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<StoreError> for DecodeOrStore {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl DecodeOrStore {
    pub(crate) fn at(self, key: &[u8]) -> StoreError {
        match self {
            Self::Decode(error) => error.at(key),
            Self::Store(error) => error,
        }
    }
}
