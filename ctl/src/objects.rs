//! The documents that the API answers with, read into types; what a newer server added is left out
//! of the view and kept in `-o json`, which prints the answer itself.

use std::collections::BTreeMap;

use flyball_core::node::{NodeRecord, Resources};
use flyball_core::spec::LoopSpec;
use flyball_core::status::{LoopStatus, Phase};
use flyball_proto::v1::{LoopObject, NodeObject};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;

/// A loop as users see it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoopDocument {
    pub(crate) metadata: ObjectMetadata,
    pub(crate) spec: LoopSpec,
    #[serde(default)]
    pub(crate) status: LoopStatus,
}

/// Who an object is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ObjectMetadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) uid: String,
    pub(crate) generation: u64,
    pub(crate) creation_timestamp: Option<Timestamp>,
    /// Its deletion was asked for and waits for its run to stop.
    pub(crate) deleting: bool,
}

/// A node as users see it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeDocument {
    pub(crate) metadata: ObjectMetadata,
    #[serde(default)]
    pub(crate) node: NodeRecord,
    #[serde(default)]
    pub(crate) status: NodeStatus,
}

/// What a scheduler knows of a node now.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeStatus {
    pub(crate) online: bool,
    /// Names of the loops that run there.
    pub(crate) runs: Vec<String>,
    pub(crate) used: Resources,
    pub(crate) free: Resources,
    pub(crate) incarnation: Option<String>,
    /// Seconds that the lease had left.
    pub(crate) lease_ttl: Option<i64>,
}

/// The JSON of an answer.
///
/// # Errors
/// When it is no JSON.
pub(crate) fn json(bytes: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::unreadable("answer", error))
}

impl LoopDocument {
    /// Whether the status speaks of the newest spec. One that was cancelled stays so, whatever its
    /// spec.
    pub(crate) fn is_current(&self) -> bool {
        let status = &self.status;
        status.observed_generation >= self.metadata.generation || status.phase == Phase::Cancelled
    }

    /// Reads the document of an answer.
    ///
    /// # Errors
    /// When this client does not understand it.
    pub(crate) fn read(object: &LoopObject) -> Result<Self, Failure> {
        serde_json::from_slice(&object.object_json)
            .map_err(|error| Failure::unreadable("loop", error))
    }
}

impl NodeDocument {
    /// Reads the document of an answer.
    ///
    /// # Errors
    /// When this client does not understand it.
    pub(crate) fn read(object: &NodeObject) -> Result<Self, Failure> {
        serde_json::from_slice(&object.object_json)
            .map_err(|error| Failure::unreadable("node", error))
    }
}
