//! Durable state as typed keys, transactions, leases and watches, over any etcd v3 server.
//!
//! Everything else in Flyball speaks of loops, claims and sessions; only this crate knows keys,
//! revisions and etcd. Its rules: ownership is decided by transactions and never by leases; every
//! write of a leader compares the leader's key; a lost answer is a state of its own
//! ([`StoreError::Unknown`]) that is resolved by reading back and never by repeating.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod access;
mod accounts;
mod audit;
mod client;
mod commit;
mod costs;
mod definitions;
mod duties;
mod error;
mod events;
mod inspect;
mod joining;
mod keys;
mod leadership;
mod loops;
mod nodes;
mod probes;
mod quotas;
mod replace;
mod revocations;
mod secrets;
mod sessions;
mod snapshot;
mod store;
mod tls;
mod values;
mod watch;

pub use accounts::{DrewSlice, Extended, LoopBudgetState, RunProof, SettledSlice};
pub use audit::{AUDIT_BATCH_MAX, Verified};
pub use client::KeepAlive;
pub use commit::{
    Assign, Commit, CommitError, Found, Mutation, MutationResult, OrphanKey, PutDuty, PutNode,
    PutStatus, Release, RemoveLoop, RemoveOrphan, Resolution,
};
pub use error::StoreError;
pub use events::{EVENT_TTL_SECONDS, EventScope, EventsPut};
pub use inspect::{Measured, Member, StoreStatus};
pub use joining::SignerRecord;
pub use keys::{EventKey, LoopPart, OwnerKey, loop_part};
pub use leadership::{Campaign, Leadership};
pub use loops::{CreateLoop, NewLoop, Update};
pub use quotas::PoolState;
pub use revocations::revoked_by;
pub use secrets::SecretRecord;
pub use sessions::{Adopt, EndSession, OpenSession, Session};
pub use snapshot::{Snapshot, Undecodable};
pub use store::{Installation, Store, StoreOptions};
pub use values::{
    AccessRecord, ClaimRecord, EventRecord, LeaderRecord, LoopRecord, OwnerRecord, SCHEMA_VERSION,
    SessionRecord, Stored,
};
pub use watch::{Change, WatchItem, WatchOptions, WatchStream};

pub use etcd_client::Channel;
