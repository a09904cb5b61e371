//! The envelope of a JSON document of the core.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DecodeError, check_format, envelope};
use crate::error::StoreError;

const FORMAT: u32 = 1;

/// Bound of one document: half of what etcd takes in one request by default (1.5 MiB), so that a
/// status and its claim always fit together.
const DOCUMENT_BYTES_MAX: usize = 768 * 1024;

/// Two fields for ever; what comes later goes into the document.
#[derive(Clone, PartialEq, prost::Message)]
struct DocumentEnvelope {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(bytes = "vec", tag = "2")]
    document: Vec<u8>,
}

/// A document's JSON, bounded.
pub(super) fn to_json<T: Serialize>(document: &T, what: &str) -> Result<Vec<u8>, StoreError> {
    let json = serde_json::to_vec(document)
        .map_err(|error| StoreError::Refused { why: format!("{what}: {error}") })?;
    if json.len() > DOCUMENT_BYTES_MAX {
        return Err(StoreError::TooLarge {
            what: what.to_owned(),
            bytes: json.len(),
            bytes_max: DOCUMENT_BYTES_MAX,
        });
    }
    Ok(json)
}

/// A document from its JSON.
pub(super) fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(json).map_err(|error| DecodeError::Malformed(error.to_string()))
}

pub(super) fn encode<T: Serialize>(document: &T, what: &str) -> Result<Vec<u8>, StoreError> {
    let envelope = DocumentEnvelope { format: FORMAT, document: to_json(document, what)? };
    Ok(prost::Message::encode_to_vec(&envelope))
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let envelope: DocumentEnvelope = envelope(bytes)?;
    check_format(envelope.format, FORMAT)?;
    from_json(&envelope.document)
}
