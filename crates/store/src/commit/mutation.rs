//! What a leader writes. Each mutation names the revisions it was decided on; the store compares
//! them and refuses what has moved since.

use std::sync::Arc;

use flyball_core::ids::{LoopKey, LoopUid, Token};
use flyball_core::node::NodeRecord;
use flyball_core::seal::SealDuty;
use flyball_core::spec::Access;
use flyball_core::status::LoopStatus;

use crate::keys::OwnerKey;
use crate::values::ClaimRecord;

/// One write of the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// Gives a loop's whole resource set to a node, or nothing of it.
    Assign(Assign),
    /// Writes a loop's status.
    PutStatus(PutStatus),
    /// Ends a claim and writes the status that goes with it.
    Release(Release),
    /// Deletes a loop that nobody owns.
    RemoveLoop(RemoveLoop),
    /// Writes a node's record.
    PutNode(PutNode),
    /// Deletes a leftover key.
    RemoveOrphan(RemoveOrphan),
    /// Writes or ends a seal duty.
    PutDuty(PutDuty),
}

/// Gives a loop's whole resource set to a node. Refused unless desired and observed state are at
/// their revisions, the loop has no claim, the node's session is the named one and bound to the claim's lease, and no
/// exclusive key of any entry exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assign {
    /// The claim to create; bound to its lease.
    pub claim: ClaimRecord,
    /// The entries of the set: access and `<scheme>/<path…>`.
    pub owners: Vec<(Access, String)>,
    /// The status after it.
    pub status: Arc<LoopStatus>,
    /// Revision of the status before it.
    pub status_revision: i64,
    /// Revision of the desired state it was decided on, so that what is claimed is what is wanted;
    /// 0 leaves it uncompared.
    pub loop_revision: i64,
    /// Create revision of the node's session key.
    pub session_revision: i64,
}

/// Writes a loop's status. Refused unless the status is at its revision and, with a token, the
/// claim is the one of that token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutStatus {
    /// The loop.
    pub key: LoopKey,
    /// The status after it.
    pub status: Arc<LoopStatus>,
    /// Revision of the status before it.
    pub status_revision: i64,
    /// Token of the owner on whose word it is written; none for the leader's own.
    pub token: Option<Token>,
}

/// Ends a claim: deletes it with those owner keys that are its own, and writes the status.
/// Refused unless the status is at its revision and the claim is the one of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The loop.
    pub key: LoopKey,
    /// Its life, for the record.
    pub uid: LoopUid,
    /// The status after it.
    pub status: Arc<LoopStatus>,
    /// Revision of the status before it.
    pub status_revision: i64,
    /// Token of the claim to end.
    pub token: Token,
    /// The entries of the claim's set: access and `<scheme>/<path…>`.
    pub owners: Vec<(Access, String)>,
}

/// Deletes a loop's desired and observed state, and leaves its seal duty. Refused unless the desired
/// state is at its revision and the loop has no claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveLoop {
    /// The loop.
    pub key: LoopKey,
    /// Revision of its desired state.
    pub loop_revision: i64,
    /// What it leaves to be sealed.
    pub duty: Option<PutDuty>,
}

/// Writes a seal duty, or deletes it once nothing is left of it. Refused unless it is at its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutDuty {
    /// The life of the loop.
    pub uid: LoopUid,
    /// The duty after it; none deletes it.
    pub duty: Option<Arc<SealDuty>>,
    /// Revision of the duty before it; 0 if there was none.
    pub revision: i64,
}

/// Writes a node's record. Refused unless it is at its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutNode {
    /// The record after it.
    pub record: Arc<NodeRecord>,
    /// Revision of the record before it; 0 if there was none.
    pub node_revision: i64,
}

/// Deletes a key that belongs to no live claim, e.g. one that was overwritten without its lease
/// and so outlived it. Refused unless it is at its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveOrphan {
    /// Which key.
    pub orphan: OrphanKey,
    /// Its revision as seen.
    pub revision: i64,
    /// What the run of a claim leaves to be sealed.
    pub duty: Option<PutDuty>,
}

/// A key that can be left over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrphanKey {
    /// An owner key.
    Owner(OwnerKey),
    /// A claim.
    Claim(LoopKey),
}

impl Mutation {
    /// The loop it is about, if it is about one.
    pub fn loop_key(&self) -> Option<&LoopKey> {
        match self {
            Self::Assign(assign) => Some(&assign.claim.key),
            Self::PutStatus(put) => Some(&put.key),
            Self::Release(release) => Some(&release.key),
            Self::RemoveLoop(remove) => Some(&remove.key),
            Self::PutNode(_) | Self::RemoveOrphan(_) | Self::PutDuty(_) => None,
        }
    }
}
