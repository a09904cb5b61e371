//! The store as a model: keys with revisions, transactions with their preconditions, and a log that
//! a watch reads.

#![expect(
    clippy::result_large_err,
    reason = "a model in memory; refusals are rare and short-lived"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_core::ids::{Incarnation, LoopKey, LoopUid, NodeName, Token};
use flyball_core::node::NodeRecord;
use flyball_core::seal::SealDuty;
use flyball_core::spec::Access;
use flyball_core::status::LoopStatus;
use flyball_store::{
    Change, ClaimRecord, Found, LoopRecord, Mutation, OrphanKey, OwnerKey, PutDuty, SessionRecord,
    Snapshot, Stored,
};

use crate::money::Money;

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) revision: i64,
    pub(crate) loops: BTreeMap<LoopKey, Stored<Arc<LoopRecord>>>,
    pub(crate) statuses: BTreeMap<LoopKey, Stored<Arc<LoopStatus>>>,
    pub(crate) nodes: BTreeMap<NodeName, Stored<Arc<NodeRecord>>>,
    pub(crate) sessions: BTreeMap<NodeName, Stored<SessionRecord>>,
    pub(crate) claims: BTreeMap<LoopKey, Stored<ClaimRecord>>,
    pub(crate) duties: BTreeMap<LoopUid, Stored<Arc<SealDuty>>>,
    /// Owner keys with their create revision and lease.
    pub(crate) owners: BTreeMap<OwnerKey, (LoopKey, i64, i64)>,
    pub(crate) money: Money,
    log: Vec<(i64, Vec<Change>)>,
    delivered: usize,
}

/// What stands in the way of a mutation.
type Refusal = Result<(), Found>;

impl Model {
    pub(crate) fn next(&mut self) -> i64 {
        self.revision += 1;
        self.revision
    }

    pub(crate) fn log(&mut self, changes: Vec<Change>) -> i64 {
        self.log.push((self.revision, changes));
        self.revision
    }

    /// Changes the watch has not delivered yet.
    pub(crate) fn undelivered(&mut self) -> Vec<(i64, Vec<Change>)> {
        let news = self.log[self.delivered..].to_vec();
        self.delivered = self.log.len();
        news
    }

    pub(crate) fn snapshot(&mut self) -> Snapshot {
        self.delivered = self.log.len();
        self.money.add_to(Snapshot {
            revision: self.revision,
            loops: pairs(&self.loops),
            statuses: pairs(&self.statuses),
            nodes: pairs(&self.nodes),
            sessions: pairs(&self.sessions),
            claims: pairs(&self.claims),
            duties: pairs(&self.duties),
            ..Snapshot::default()
        })
    }

    /// Makes the store younger than it is, as a leader key somewhere else would.
    pub(crate) fn advance_to(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
    }

    pub(crate) fn put_loop(
        &mut self,
        record: LoopRecord,
        status: Option<LoopStatus>,
    ) -> (i64, Vec<Change>) {
        let revision = self.next();
        let key = record.key.clone();
        let record = put(&mut self.loops, key.clone(), Arc::new(record), revision, 0);
        let mut changes = vec![Change::Loop(key.clone(), Some(record))];
        if let Some(status) = status {
            let status = put(&mut self.statuses, key.clone(), Arc::new(status), revision, 0);
            changes.push(Change::Status(key, Some(status)));
        }
        (self.log(changes.clone()), changes)
    }

    pub(crate) fn put_node(&mut self, record: NodeRecord) {
        let revision = self.next();
        let name = record.name.clone();
        let stored = put(&mut self.nodes, name.clone(), Arc::new(record), revision, 0);
        self.log(vec![Change::Node(name, Some(stored))]);
    }

    /// Opens a session, or finds the one that is there.
    pub(crate) fn open_session(
        &mut self,
        node: &NodeName,
        incarnation: &Incarnation,
    ) -> (i64, i64) {
        if let Some(found) = self.sessions.get(node)
            && found.value.incarnation == *incarnation
        {
            return (found.lease, found.create_revision);
        }
        let revision = self.next();
        let lease = 1000 + revision;
        let record = SessionRecord { node: node.clone(), incarnation: incarnation.clone(), lease };
        let stored = put(&mut self.sessions, node.clone(), record, revision, lease);
        self.log(vec![Change::Session(node.clone(), Some(stored))]);
        (lease, revision)
    }

    /// The lease of a node's session ends: everything bound to it goes in one revision.
    pub(crate) fn expire(&mut self, node: &NodeName) {
        let Some(session) = self.sessions.remove(node) else { return };
        self.next();
        let mut changes = vec![Change::Session(node.clone(), None)];
        let bound = |claim: &Stored<ClaimRecord>| claim.lease == session.lease;
        let keys: Vec<LoopKey> =
            self.claims.iter().filter(|(_, c)| bound(c)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.claims.remove(&key);
            changes.push(Change::Claim(key, None));
        }
        self.owners.retain(|_, (_, _, lease)| *lease != session.lease);
        self.log(changes);
    }

    /// An operator deletes a claim key by hand and leaves its owner keys.
    pub(crate) fn delete_claim(&mut self, key: &LoopKey) {
        self.claims.remove(key);
        self.next();
        self.log(vec![Change::Claim(key.clone(), None)]);
    }

    /// A loop is removed with all of its keys while no watch sees it.
    pub(crate) fn vanish(&mut self, key: &LoopKey) {
        self.loops.remove(key);
        self.statuses.remove(key);
        self.claims.remove(key);
        self.owners.retain(|_, (owner, ..)| owner != key);
        self.next();
    }

    /// An operator deletes a loop's own keys by hand and leaves its claim.
    pub(crate) fn delete_loop(&mut self, key: &LoopKey) {
        self.loops.remove(key);
        self.statuses.remove(key);
        self.next();
        self.log(vec![Change::Loop(key.clone(), None), Change::Status(key.clone(), None)]);
    }

    /// Whether a mutation that was sent has been applied, as reading back would tell.
    pub(crate) fn was_applied(&self, mutation: &Mutation) -> Option<i64> {
        match mutation {
            Mutation::Assign(assign) => {
                let claim = self.claims.get(&assign.claim.key)?;
                (claim.value.attempt == assign.claim.attempt).then_some(claim.create_revision)
            }
            Mutation::PutStatus(put) => self.has_status(&put.key, &put.status),
            Mutation::Release(release) => self.has_status(&release.key, &release.status),
            _ => None,
        }
    }

    fn has_status(&self, key: &LoopKey, status: &LoopStatus) -> Option<i64> {
        let found = self.statuses.get(key)?;
        (*found.value == *status).then_some(found.mod_revision)
    }

    /// Reading back touches the status, so that a request that is still on its way is refused.
    pub(crate) fn touch_status(&mut self, mutation: &Mutation) {
        let Some(key) = mutation.loop_key().cloned() else { return };
        let Some(status) = self.statuses.get(&key).map(|status| status.value.clone()) else {
            return;
        };
        let revision = self.next();
        let change = self.write_status(&key, &status, revision);
        self.log(vec![change]);
    }

    /// Executes a mutation as a transaction.
    pub(crate) fn commit(&mut self, mutation: &Mutation) -> Result<i64, Found> {
        self.check(mutation)?;
        let revision = self.next();
        let changes = self.write(mutation, revision);
        Ok(self.log(changes))
    }

    fn check(&self, mutation: &Mutation) -> Refusal {
        match mutation {
            Mutation::Assign(assign) => {
                let claim = &assign.claim;
                let session = self.sessions.get(&claim.node).map_or(0, |s| s.create_revision);
                if session != assign.session_revision {
                    return Err(Found::SessionGone { node: claim.node.clone(), found: session });
                }
                if let Some(found) = self.claims.get(&claim.key) {
                    return Err(Found::Claimed { token: Token(found.create_revision), node: None });
                }
                self.check_status(&claim.key, assign.status_revision)?;
                let found = self.loops.get(&claim.key).map_or(0, |s| s.mod_revision);
                let expected = assign.loop_revision;
                if found != expected {
                    return Err(Found::LoopMoved { expected, found });
                }
                self.check_owners(&assign.owners)
            }
            Mutation::PutStatus(put) => {
                self.check_status(&put.key, put.status_revision)?;
                put.token.map_or(Ok(()), |token| self.check_claim(&put.key, token))
            }
            Mutation::Release(release) => {
                self.check_status(&release.key, release.status_revision)?;
                self.check_claim(&release.key, release.token)
            }
            Mutation::RemoveLoop(remove) => {
                let found = self.loops.get(&remove.key).map_or(0, |s| s.mod_revision);
                let expected = remove.loop_revision;
                let same = found == expected && !self.claims.contains_key(&remove.key);
                if !same {
                    return Err(Found::LoopMoved { expected, found });
                }
                self.check_duty(remove.duty.as_ref())
            }
            Mutation::PutNode(put) => {
                let found = self.nodes.get(&put.record.name).map_or(0, |s| s.mod_revision);
                let expected = put.node_revision;
                if found == expected { Ok(()) } else { Err(Found::NodeMoved { expected, found }) }
            }
            Mutation::RemoveOrphan(remove) => self.check_duty(remove.duty.as_ref()),
            Mutation::PutDuty(put) => self.check_duty(Some(put)),
        }
    }

    fn check_duty(&self, put: Option<&PutDuty>) -> Refusal {
        let Some(put) = put else { return Ok(()) };
        let (expected, found) =
            (put.revision, self.duties.get(&put.uid).map_or(0, |duty| duty.mod_revision));
        if found == expected { Ok(()) } else { Err(Found::DutyMoved { expected, found }) }
    }

    fn check_status(&self, key: &LoopKey, expected: i64) -> Refusal {
        let found = self.statuses.get(key).map_or(0, |s| s.mod_revision);
        if found == expected { Ok(()) } else { Err(Found::StatusMoved { expected, found }) }
    }

    fn check_claim(&self, key: &LoopKey, token: Token) -> Refusal {
        let found = self.claims.get(key).map(|claim| Token(claim.create_revision));
        if found == Some(token) { Ok(()) } else { Err(Found::ClaimGone { token }) }
    }

    fn check_owners(&self, owners: &[(Access, String)]) -> Refusal {
        for (_, resource) in owners {
            let taken = self.owners.iter().find(|(owner, _)| {
                owner.access() == Access::Exclusive && owner.resource() == resource
            });
            if let Some((owner, (by, revision, lease))) = taken {
                return Err(Found::Owned {
                    owner: owner.clone(),
                    by: Some(by.clone()),
                    revision: *revision,
                    lease: *lease,
                });
            }
        }
        Ok(())
    }

    fn write(&mut self, mutation: &Mutation, revision: i64) -> Vec<Change> {
        match mutation {
            Mutation::Assign(assign) => {
                let claim = assign.claim.clone();
                let key = claim.key.clone();
                for (access, resource) in &assign.owners {
                    let owner = OwnerKey::new(*access, resource.clone(), &key);
                    self.owners.insert(owner, (key.clone(), revision, claim.lease));
                }
                let status = self.write_status(&key, &assign.status, revision);
                let lease = claim.lease;
                let claim = put(&mut self.claims, key.clone(), claim, revision, lease);
                vec![status, Change::Claim(key, Some(claim))]
            }
            Mutation::PutStatus(put) => vec![self.write_status(&put.key, &put.status, revision)],
            Mutation::Release(release) => {
                let key = release.key.clone();
                let created = release.token.0;
                self.owners.retain(|_, (by, at, _)| *by != key || *at != created);
                self.claims.remove(&key);
                let status = self.write_status(&key, &release.status, revision);
                vec![status, Change::Claim(key, None)]
            }
            Mutation::RemoveLoop(remove) => {
                self.loops.remove(&remove.key);
                self.statuses.remove(&remove.key);
                let key = remove.key.clone();
                let mut changes = vec![Change::Loop(key.clone(), None), Change::Status(key, None)];
                changes.extend(remove.duty.as_ref().map(|put| self.write_duty(put, revision)));
                changes
            }
            Mutation::PutDuty(put) => vec![self.write_duty(put, revision)],
            Mutation::PutNode(node) => {
                let name = node.record.name.clone();
                let stored = put(&mut self.nodes, name.clone(), node.record.clone(), revision, 0);
                vec![Change::Node(name, Some(stored))]
            }
            Mutation::RemoveOrphan(remove) => match &remove.orphan {
                OrphanKey::Owner(owner) => {
                    self.owners.remove(owner);
                    Vec::new()
                }
                OrphanKey::Claim(key) => {
                    self.claims.remove(key);
                    let mut changes = vec![Change::Claim(key.clone(), None)];
                    changes.extend(remove.duty.as_ref().map(|put| self.write_duty(put, revision)));
                    changes
                }
            },
        }
    }

    fn write_duty(&mut self, put: &PutDuty, revision: i64) -> Change {
        let stored = put
            .duty
            .clone()
            .map(|duty| self::put(&mut self.duties, put.uid.clone(), duty, revision, 0));
        if stored.is_none() {
            self.duties.remove(&put.uid);
        }
        Change::Duty(put.uid.clone(), stored)
    }

    /// An operator gives the seal of a loop's lost runs up, as the API does.
    pub(crate) fn give_up(&mut self, duty: SealDuty) -> (i64, Vec<Change>) {
        let revision = self.next();
        let uid = duty.loop_uid.clone();
        let duty = Some(Arc::new(duty));
        let change = self.write_duty(&PutDuty { uid, duty, revision: 0 }, revision);
        (self.log(vec![change.clone()]), vec![change])
    }

    pub(crate) fn duty(&self, uid: &LoopUid) -> Option<SealDuty> {
        self.duties.get(uid).map(|duty| SealDuty::clone(&duty.value))
    }

    fn write_status(&mut self, key: &LoopKey, status: &Arc<LoopStatus>, revision: i64) -> Change {
        let stored = put(&mut self.statuses, key.clone(), status.clone(), revision, 0);
        Change::Status(key.clone(), Some(stored))
    }
}

pub(crate) fn put<K: Ord, T: Clone>(
    map: &mut BTreeMap<K, Stored<T>>,
    key: K,
    value: T,
    revision: i64,
    lease: i64,
) -> Stored<T> {
    let create_revision = map.get(&key).map_or(revision, |old| old.create_revision);
    let stored = Stored { value, mod_revision: revision, create_revision, lease };
    map.insert(key, stored.clone());
    stored
}

pub(crate) fn pairs<K: Clone, V: Clone>(map: &BTreeMap<K, V>) -> Vec<(K, V)> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}
