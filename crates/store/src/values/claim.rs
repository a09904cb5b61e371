//! Claims and the owner keys beside them.

use flyball_core::ids::{AttemptId, Incarnation, LoopKey, LoopUid, NodeName};
use jiff::Timestamp;
use prost::Message;

use super::{DecodeError, check_format, envelope, from_nanos, to_nanos};

const FORMAT: u32 = 1;

/// A loop's claim: which node owns its resource set. The create revision of its key is the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRecord {
    /// The loop; kept in the key.
    pub key: LoopKey,
    /// This life of the loop.
    pub uid: LoopUid,
    /// The owning node.
    pub node: NodeName,
    /// Its life that owns.
    pub incarnation: Incarnation,
    /// Id of the assigning transaction.
    pub attempt: AttemptId,
    /// The incarnation's lease, to which the claim is bound.
    pub lease: i64,
    /// Canonical entries of the set.
    pub resources: Vec<String>,
    /// URL of the repository that its run pushes to; empty for loops without one. Whoever removes a
    /// claim whose loop is gone needs it to say what is to be sealed.
    pub repository: String,
    /// When it was made; for display only.
    pub since: Timestamp,
}

#[derive(Clone, PartialEq, Message)]
struct ClaimEnvelope {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    node: String,
    #[prost(string, tag = "4")]
    incarnation: String,
    #[prost(string, tag = "5")]
    attempt: String,
    #[prost(int64, tag = "6")]
    lease: i64,
    #[prost(string, repeated, tag = "7")]
    resources: Vec<String>,
    #[prost(sint64, tag = "8")]
    since_ns: i64,
    #[prost(string, tag = "9")]
    repository: String,
}

impl ClaimRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        ClaimEnvelope {
            format: FORMAT,
            uid: self.uid.0.clone(),
            node: self.node.0.clone(),
            incarnation: self.incarnation.0.clone(),
            attempt: self.attempt.0.clone(),
            lease: self.lease,
            resources: self.resources.clone(),
            since_ns: to_nanos(self.since),
            repository: self.repository.clone(),
        }
        .encode_to_vec()
    }

    pub(crate) fn decode(key: LoopKey, bytes: &[u8]) -> Result<Self, DecodeError> {
        let envelope: ClaimEnvelope = envelope(bytes)?;
        check_format(envelope.format, FORMAT)?;
        Ok(Self {
            key,
            uid: LoopUid(envelope.uid),
            node: NodeName(envelope.node),
            incarnation: Incarnation(envelope.incarnation),
            attempt: AttemptId(envelope.attempt),
            lease: envelope.lease,
            resources: envelope.resources,
            repository: envelope.repository,
            since: from_nanos(envelope.since_ns),
        })
    }
}

/// What an owner key says: whose it is. Enough to find the claim it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerRecord {
    /// The owning loop.
    pub key: LoopKey,
    /// Its life that owns.
    pub uid: LoopUid,
}

#[derive(Clone, PartialEq, Message)]
struct OwnerEnvelope {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    uid: String,
}

impl OwnerRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        OwnerEnvelope {
            format: FORMAT,
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
            uid: self.uid.0.clone(),
        }
        .encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let envelope: OwnerEnvelope = envelope(bytes)?;
        check_format(envelope.format, FORMAT)?;
        Ok(Self {
            key: LoopKey::new(envelope.namespace, envelope.name),
            uid: LoopUid(envelope.uid),
        })
    }
}
