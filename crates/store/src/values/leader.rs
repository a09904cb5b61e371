//! The leader's and the installation's records.

use prost::Message;

use super::{DecodeError, check_format, envelope};

const FORMAT: u32 = 1;

/// The leading scheduler, as others find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderRecord {
    /// Id of the scheduler process; random per start.
    pub id: String,
    /// Where it answers.
    pub address: String,
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(string, tag = "3")]
    address: String,
}

impl LeaderRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Envelope { format: FORMAT, id: self.id.clone(), address: self.address.clone() }
            .encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let envelope: Envelope = envelope(bytes)?;
        check_format(envelope.format, FORMAT)?;
        Ok(Self { id: envelope.id, address: envelope.address })
    }
}

/// Id and schema of the installation.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InstallationEnvelope {
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    #[prost(string, tag = "2")]
    pub(crate) id: String,
    #[prost(uint32, tag = "3")]
    pub(crate) schema_version: u32,
}

pub(crate) fn encode_installation(id: &str, schema_version: u32) -> Vec<u8> {
    InstallationEnvelope { format: FORMAT, id: id.to_owned(), schema_version }.encode_to_vec()
}

pub(crate) fn decode_installation(bytes: &[u8]) -> Result<InstallationEnvelope, DecodeError> {
    let found: InstallationEnvelope = envelope(bytes)?;
    check_format(found.format, FORMAT)?;
    Ok(found)
}
