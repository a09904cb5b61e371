//! Mutations as nested transactions.

use std::sync::Arc;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use flyball_core::ids::LoopKey;
use flyball_core::planted::{self, Bug};
use flyball_core::spec::Access;
use flyball_core::status::LoopStatus;

use super::mutation::{
    Assign, Mutation, OrphanKey, PutDuty, PutNode, PutStatus, Release, RemoveLoop, RemoveOrphan,
};
use super::plan::Cost;
use crate::error::StoreError;
use crate::keys;
use crate::values::{self, OwnerRecord};

/// A nested transaction under construction, with its cost.
struct Nested {
    compares: Vec<Compare>,
    success: Vec<TxnOp>,
    cost: Cost,
}

impl Nested {
    fn new(writes: usize) -> Self {
        Self {
            compares: Vec::with_capacity(writes + 2),
            success: Vec::with_capacity(writes),
            cost: Cost::new(writes),
        }
    }

    fn absent(&mut self, key: &[u8]) {
        self.created_at(key, 0);
    }

    fn created_at(&mut self, key: &[u8], revision: i64) {
        self.cost.compare(key);
        self.compares.push(Compare::create_revision(key, CompareOp::Equal, revision));
    }

    fn unchanged_since(&mut self, key: &[u8], revision: i64) {
        self.cost.compare(key);
        self.compares.push(Compare::mod_revision(key, CompareOp::Equal, revision));
    }

    fn bound_to(&mut self, key: &[u8], lease: i64) {
        self.cost.compare(key);
        self.compares.push(Compare::lease(key, CompareOp::Equal, lease));
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>, lease: i64) {
        self.cost.write(&key, value.len());
        let options = (lease != 0).then(|| PutOptions::new().with_lease(lease));
        self.success.push(TxnOp::put(key, value, options));
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.cost.write(&key, 0);
        self.success.push(TxnOp::delete(key, None));
    }

    /// Deletes a key only if it is of the given creation: never one that became another's.
    fn delete_if_created_at(&mut self, key: Vec<u8>, revision: i64) {
        self.cost.guarded_delete(&key);
        let own = Compare::create_revision(key.clone(), CompareOp::Equal, revision);
        let txn = Txn::new().when([own]).and_then([TxnOp::delete(key, None)]);
        self.success.push(TxnOp::txn(txn));
    }

    fn finish(self, what: impl Fn() -> String) -> Result<(Txn, Cost), StoreError> {
        self.cost.check(what)?;
        let txn = Txn::new().when(self.compares).and_then(self.success);
        Ok((txn, self.cost))
    }
}

/// The nested transaction of a mutation and what it takes of a request. It has no failure branch:
/// what a refused one found is read afterwards (see `explain`), so that the many that are not
/// refused carry nothing for it.
pub(super) fn build(mutation: &Mutation) -> Result<(Txn, Cost), StoreError> {
    match mutation {
        Mutation::Assign(assign) => build_assign(assign),
        Mutation::PutStatus(put) => build_put_status(put),
        Mutation::Release(release) => build_release(release),
        Mutation::RemoveLoop(remove) => build_remove_loop(remove),
        Mutation::PutNode(put) => build_put_node(put),
        Mutation::RemoveOrphan(remove) => build_remove_orphan(remove),
        Mutation::PutDuty(put) => build_put_duty(put),
    }
}

fn build_assign(assign: &Assign) -> Result<(Txn, Cost), StoreError> {
    let claim = &assign.claim;
    let mut txn = Nested::new(assign.owners.len() + 2);
    let session_key = keys::session(&claim.node);
    txn.created_at(&session_key, assign.session_revision);
    txn.bound_to(&session_key, claim.lease);
    let claim_key = keys::claim(&claim.key);
    txn.absent(&claim_key);
    put_status(&mut txn, &claim.key, &assign.status, assign.status_revision)?;
    if assign.loop_revision != 0 {
        txn.unchanged_since(&keys::spec(&claim.key), assign.loop_revision);
    }
    txn.put(claim_key, claim.encode(), claim.lease);
    let owner = OwnerRecord { key: claim.key.clone(), uid: claim.uid.clone() }.encode();
    for (index, (access, resource)) in assign.owners.iter().enumerate() {
        let exclusive = keys::owner(Access::Exclusive, resource, &claim.key);
        if index == 0 || !planted::is(Bug::ClaimNotAtomic) {
            txn.absent(&exclusive);
        }
        let key = match access {
            Access::Exclusive => exclusive,
            Access::Read => keys::owner(Access::Read, resource, &claim.key),
        };
        txn.put(key, owner.clone(), claim.lease);
    }
    txn.finish(|| format!("the claim of loop {}", claim.key))
}

/// Writes the status over the one at `revision`.
fn put_status(
    txn: &mut Nested,
    key: &LoopKey,
    status: &Arc<LoopStatus>,
    revision: i64,
) -> Result<(), StoreError> {
    let status_key = keys::status(key);
    txn.unchanged_since(&status_key, revision);
    txn.put(status_key, values::encode_status(status)?, 0);
    Ok(())
}

fn build_put_status(put: &PutStatus) -> Result<(Txn, Cost), StoreError> {
    let mut txn = Nested::new(1);
    put_status(&mut txn, &put.key, &put.status, put.status_revision)?;
    if let Some(token) = put.token {
        let claim_key = keys::claim(&put.key);
        txn.created_at(&claim_key, token.0);
    }
    txn.finish(|| format!("the status of loop {}", put.key))
}

fn build_release(release: &Release) -> Result<(Txn, Cost), StoreError> {
    let mut txn = Nested::new(release.owners.len() + 2);
    put_status(&mut txn, &release.key, &release.status, release.status_revision)?;
    let claim_key = keys::claim(&release.key);
    txn.created_at(&claim_key, release.token.0);
    txn.delete(claim_key);
    for (access, resource) in &release.owners {
        // Owner keys are created together with their claim: the same revision, or not its own.
        let key = keys::owner(*access, resource, &release.key);
        txn.delete_if_created_at(key, release.token.0);
    }
    txn.finish(|| format!("the release of loop {}", release.key))
}

fn build_remove_loop(remove: &RemoveLoop) -> Result<(Txn, Cost), StoreError> {
    let mut txn = Nested::new(4);
    let spec_key = keys::spec(&remove.key);
    let claim_key = keys::claim(&remove.key);
    txn.unchanged_since(&spec_key, remove.loop_revision);
    txn.absent(&claim_key);
    txn.delete(spec_key);
    txn.delete(keys::status(&remove.key));
    // What it had out stays debited in its namespace's account: spent.
    txn.delete(keys::loop_account(&remove.key));
    remove.duty.as_ref().map_or(Ok(()), |duty| put_duty(&mut txn, duty))?;
    txn.finish(|| format!("the removal of loop {}", remove.key))
}

fn build_put_node(put: &PutNode) -> Result<(Txn, Cost), StoreError> {
    let mut txn = Nested::new(1);
    let key = keys::node(&put.record.name);
    txn.unchanged_since(&key, put.node_revision);
    txn.put(key, values::encode_node(&put.record)?, 0);
    txn.finish(|| format!("the record of node {}", put.record.name))
}

fn build_remove_orphan(remove: &RemoveOrphan) -> Result<(Txn, Cost), StoreError> {
    let mut txn = Nested::new(2);
    let key = match &remove.orphan {
        OrphanKey::Owner(owner) => owner.encode(),
        OrphanKey::Claim(key) => keys::claim(key),
    };
    txn.unchanged_since(&key, remove.revision);
    txn.delete(key);
    remove.duty.as_ref().map_or(Ok(()), |duty| put_duty(&mut txn, duty))?;
    txn.finish(|| "the removal of a leftover key".to_owned())
}

fn build_put_duty(put: &PutDuty) -> Result<(Txn, Cost), StoreError> {
    let mut txn = Nested::new(1);
    put_duty(&mut txn, put)?;
    txn.finish(|| format!("the seal duty of {}", put.uid))
}

/// Writes the duty over the one at its revision, or deletes that.
fn put_duty(txn: &mut Nested, put: &PutDuty) -> Result<(), StoreError> {
    let key = keys::duty(&put.uid);
    txn.unchanged_since(&key, put.revision);
    match &put.duty {
        Some(duty) => txn.put(key, values::encode_duty(duty)?, 0),
        None => txn.delete(key),
    }
    Ok(())
}
