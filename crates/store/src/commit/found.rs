//! What a refused mutation found: the reason in words, with the revisions to re-plan on.

use std::fmt;

use flyball_core::ids::{Incarnation, LoopKey, NodeName, Token};

use crate::keys::OwnerKey;

/// Why a mutation was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The status is not at the revision the mutation was decided on.
    StatusMoved {
        /// Revision it was decided on.
        expected: i64,
        /// Revision there now; 0 if the loop is gone.
        found: i64,
    },
    /// The loop has a claim.
    Claimed {
        /// Its token.
        token: Token,
        /// The node that owns it, if its value can be read.
        node: Option<(NodeName, Incarnation)>,
    },
    /// The claim of the token is gone: released, or ended with its lease.
    ClaimGone {
        /// The token asked for.
        token: Token,
    },
    /// The node's session is gone or is another one, or is not bound to the lease any more.
    SessionGone {
        /// The node.
        node: NodeName,
        /// Create revision of the session there now; 0 if none.
        found: i64,
    },
    /// An entry of the set is owned.
    Owned {
        /// Which entry.
        owner: OwnerKey,
        /// By which loop, if its value can be read.
        by: Option<LoopKey>,
        /// Revision of the owner key.
        revision: i64,
        /// Lease it is bound to; 0 if it is detached and will never end by itself.
        lease: i64,
    },
    /// The loop's desired state is not at the revision the mutation was decided on.
    LoopMoved {
        /// Revision it was decided on.
        expected: i64,
        /// Revision there now; 0 if the loop is gone.
        found: i64,
    },
    /// The node's record is not at the revision the mutation was decided on.
    NodeMoved {
        /// Revision it was decided on.
        expected: i64,
        /// Revision there now; 0 if there is none.
        found: i64,
    },
    /// The leftover key has changed or is gone.
    OrphanMoved {
        /// Revision there now; 0 if it is gone.
        found: i64,
    },
    /// The seal duty is not at the revision the mutation was decided on.
    DutyMoved {
        /// Revision it was decided on.
        expected: i64,
        /// Revision there now; 0 if there is none.
        found: i64,
    },
    /// Something stood in the way that cannot be read: the store failed just then, or its history
    /// is compacted already.
    Unexplained,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StatusMoved { expected, found: 0 } => {
                write!(f, "the loop is gone (status was at revision {expected})")
            }
            Self::StatusMoved { expected, found } => {
                write!(f, "the status is at revision {found}, not {expected}")
            }
            Self::Claimed { token, node: Some((node, incarnation)) } => {
                write!(f, "the loop is owned by {node} ({incarnation}) under token {token}")
            }
            Self::Claimed { token, node: None } => {
                write!(f, "the loop is owned under token {token}")
            }
            Self::ClaimGone { token } => write!(f, "the claim of token {token} is gone"),
            Self::SessionGone { node, found: 0 } => write!(f, "node {node} has no session"),
            Self::SessionGone { node, found } => {
                write!(f, "node {node} has another session, created at revision {found}")
            }
            Self::Owned { owner, by, revision, lease } => {
                write!(f, "{} is owned", owner.resource())?;
                if let Some(by) = by {
                    write!(f, " by loop {by}")?;
                }
                write!(f, " since revision {revision}")?;
                if *lease == 0 { f.write_str(", without a lease") } else { Ok(()) }
            }
            Self::LoopMoved { expected, found } => {
                write!(f, "the loop is at revision {found}, not {expected}")
            }
            Self::NodeMoved { expected, found } => {
                write!(f, "the node's record is at revision {found}, not {expected}")
            }
            Self::OrphanMoved { found: 0 } => f.write_str("the key is gone"),
            Self::OrphanMoved { found } => write!(f, "the key has changed at revision {found}"),
            Self::DutyMoved { expected, found } => {
                write!(f, "the seal duty is at revision {found}, not {expected}")
            }
            Self::Unexplained => f.write_str("what stood in the way cannot be read"),
        }
    }
}
