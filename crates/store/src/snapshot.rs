//! The whole state at one revision, read in pages. The first page is read at the newest revision;
//! the later ones are pinned to it, so that together they are one state that really existed.

use std::sync::Arc;

use etcd_client::GetOptions;
use etcd_client::proto::PbKeyValue;
use flyball_core::access::{BindingKey, BindingManifest, RoleManifest};
use flyball_core::ids::{LoopKey, LoopUid, NodeName};
use flyball_core::model::{LoopAccount, NamespaceAccount, NamespaceBudget};
use flyball_core::node::NodeRecord;
use flyball_core::revocation::{Revocation, Revoked};
use flyball_core::seal::SealDuty;
use flyball_core::status::LoopStatus;

use crate::error::StoreError;
use crate::keys::{self, OwnerKey};
use crate::store::Store;
use crate::values::{
    AccessRecord, ClaimRecord, LeaderRecord, LoopRecord, OwnerRecord, SessionRecord, Stored,
};
use crate::watch::{Change, decode_put};

/// Keys per page: few round trips, while a page of ordinary values (a few KiB) stays far below
/// the bound on an answer and does not hold up the server for long.
pub(crate) const PAGE_KEYS: i64 = 500;

/// All of the state but the events, at one revision, in the order of the keys.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The revision; watch from the next one.
    pub revision: i64,
    /// Desired states.
    pub loops: Vec<(LoopKey, Stored<Arc<LoopRecord>>)>,
    /// Observed states.
    pub statuses: Vec<(LoopKey, Stored<Arc<LoopStatus>>)>,
    /// Node records.
    pub nodes: Vec<(NodeName, Stored<Arc<NodeRecord>>)>,
    /// Live sessions.
    pub sessions: Vec<(NodeName, Stored<SessionRecord>)>,
    /// Nodes of which the leader asks who hears from them.
    pub probes: Vec<(NodeName, Stored<SessionRecord>)>,
    /// Claims; those with lease 0 are detached and will never end by themselves.
    pub claims: Vec<(LoopKey, Stored<ClaimRecord>)>,
    /// Owner keys; those with lease 0 are detached and will never end by themselves.
    pub owners: Vec<(OwnerKey, Stored<OwnerRecord>)>,
    /// Roles that are not built in.
    pub roles: Vec<(String, Stored<Arc<AccessRecord<RoleManifest>>>)>,
    /// Who has which role.
    pub bindings: Vec<(BindingKey, Stored<Arc<AccessRecord<BindingManifest>>>)>,
    /// Certificates that are not taken any more.
    pub revocations: Vec<(Revoked, Stored<Arc<Revocation>>)>,
    /// What loops that are gone leave to be sealed.
    pub duties: Vec<(LoopUid, Stored<Arc<SealDuty>>)>,
    /// What is spent of loops' budgets.
    pub loop_accounts: Vec<(LoopKey, Stored<Arc<LoopAccount>>)>,
    /// What is spent of namespaces' budgets.
    pub namespace_accounts: Vec<(String, Stored<Arc<NamespaceAccount>>)>,
    /// Namespaces' budgets.
    pub budgets: Vec<(String, Stored<NamespaceBudget>)>,
    /// Who leads.
    pub leader: Option<Stored<LeaderRecord>>,
    /// Values that cannot be read; what they name must be left alone.
    pub undecodable: Vec<Undecodable>,
}

/// A value that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// The key, as text.
    pub key: String,
    /// What is wrong with its value.
    pub why: String,
    /// It is bound to a lease, or was put over something: what it is about may be alive.
    pub held: bool,
}

impl Store {
    /// Reads the whole state. A leader passes its leadership's create revision as `min_revision`:
    /// an older answer is not a state to lead from.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if the answer is older than `min_revision`, and
    /// [`StoreError::Compacted`] if the revision was compacted away between two pages: read again.
    /// Otherwise those of the transport.
    pub async fn snapshot(&self, min_revision: i64) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot::default();
        // Everything but the audit trail and the events, which are many and nobody's state.
        let bytes = |text: &str| text.as_bytes().to_vec();
        let before = (bytes(keys::PREFIX), bytes(keys::AUDIT));
        let between = (keys::behind(keys::AUDIT), bytes(keys::EVENTS));
        let after = (keys::behind(keys::EVENTS), keys::behind(keys::PREFIX));
        for (start, end) in [before, between, after] {
            self.read_range(&mut snapshot, start, end, min_revision).await?;
        }
        Ok(snapshot)
    }

    async fn read_range(
        &self,
        snapshot: &mut Snapshot,
        mut start: Vec<u8>,
        end: Vec<u8>,
        min_revision: i64,
    ) -> Result<(), StoreError> {
        loop {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(PAGE_KEYS)
                .with_revision(snapshot.revision);
            let page = self.etcd.range(start, options).await.map_err(|error| match error {
                StoreError::Compacted { .. } => {
                    StoreError::Compacted { revision: snapshot.revision }
                }
                other => other,
            })?;
            if snapshot.revision == 0 {
                let found = page.header.map_or(0, |header| header.revision);
                if found < min_revision {
                    return Err(StoreError::Stale { found, wanted: min_revision });
                }
                snapshot.revision = found;
            }
            let more = page.more;
            // The next page starts right behind the last key.
            start = page.kvs.last().map_or_else(Vec::new, |kv| [kv.key.as_slice(), &[0]].concat());
            page.kvs.into_iter().for_each(|kv| snapshot.add(kv));
            if !more || start.is_empty() {
                return Ok(());
            }
        }
    }
}

impl Snapshot {
    fn add(&mut self, kv: PbKeyValue) {
        match decode_put(kv) {
            Some(Change::Loop(key, Some(stored))) => self.loops.push((key, stored)),
            Some(Change::Status(key, Some(stored))) => self.statuses.push((key, stored)),
            Some(Change::Node(name, Some(stored))) => self.nodes.push((name, stored)),
            Some(Change::Session(name, Some(stored))) => self.sessions.push((name, stored)),
            Some(Change::Probe(name, Some(stored))) => self.probes.push((name, stored)),
            Some(Change::Claim(key, Some(stored))) => self.claims.push((key, stored)),
            Some(Change::Owner(key, Some(stored))) => self.owners.push((key, stored)),
            Some(Change::Role(name, Some(stored))) => self.roles.push((name, stored)),
            Some(Change::Binding(key, Some(stored))) => self.bindings.push((key, stored)),
            Some(Change::Revocation(revoked, Some(stored))) => {
                self.revocations.push((revoked, stored));
            }
            Some(Change::Duty(uid, Some(stored))) => self.duties.push((uid, stored)),
            Some(Change::LoopAccount(key, Some(stored))) => self.loop_accounts.push((key, stored)),
            Some(Change::NamespaceAccount(namespace, Some(stored))) => {
                self.namespace_accounts.push((namespace, stored));
            }
            Some(Change::Budget(namespace, Some(stored))) => self.budgets.push((namespace, stored)),
            Some(Change::Leader(leader)) => self.leader = leader,
            Some(Change::Undecodable { key, why, held }) => {
                self.undecodable.push(Undecodable { key, why, held });
            }
            _ => {}
        }
    }
}
