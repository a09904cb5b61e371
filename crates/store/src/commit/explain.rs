//! Why a mutation was refused: what its compares looked at, read afterwards at the revision of the
//! refusal. That is exact, since no other mutation of the same request writes those keys.

use std::ops::Range;

use etcd_client::proto::PbKeyValue;
use etcd_client::{GetOptions, Txn, TxnOp};
use flyball_core::ids::{LoopKey, Token};
use flyball_core::spec::Access;

use super::Found;
use super::mutation::{Assign, Mutation, OrphanKey, PutDuty};
use super::plan::TXN_OPS_MAX;
use crate::client::ranges;
use crate::keys::{self, OwnerKey};
use crate::store::Store;
use crate::values::{ClaimRecord, OwnerRecord};

impl Store {
    /// What each of the mutations, refused at `revision`, found.
    pub(super) async fn explain(&self, refused: &[&Mutation], revision: i64) -> Vec<Found> {
        let mut keys = Vec::new();
        let mut looked_at: Vec<Range<usize>> = Vec::with_capacity(refused.len());
        for mutation in refused {
            let start = keys.len();
            look_at(mutation, &mut keys);
            looked_at.push(start..keys.len());
        }
        let found = self.read_at(keys, revision).await;
        let explain = |(mutation, range): (&&Mutation, Range<usize>)| {
            found.as_ref().and_then(|found| found.get(range)).map_or(Found::Unexplained, |found| {
                explain(mutation, found).unwrap_or(Found::Unexplained)
            })
        };
        refused.iter().zip(looked_at).map(explain).collect()
    }

    /// The keys at `revision`; `None` if they cannot be read.
    async fn read_at(&self, keys: Vec<Vec<u8>>, revision: i64) -> Option<Vec<Option<PbKeyValue>>> {
        let at = GetOptions::new().with_revision(revision);
        let mut found = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(TXN_OPS_MAX) {
            let reads: Vec<TxnOp> =
                chunk.iter().map(|key| TxnOp::get(key.as_slice(), Some(at.clone()))).collect();
            let answer = self.etcd.txn(Txn::new().and_then(reads)).await.ok()?;
            found.extend(ranges(answer.responses).map(|mut kvs| kvs.pop()));
        }
        Some(found)
    }
}

/// Appends the keys that a mutation compares, in the order that [`explain`] expects.
fn look_at(mutation: &Mutation, keys: &mut Vec<Vec<u8>>) {
    match mutation {
        Mutation::Assign(assign) => {
            let claim = &assign.claim;
            keys.extend([
                keys::claim(&claim.key),
                keys::status(&claim.key),
                keys::session(&claim.node),
                keys::spec(&claim.key),
            ]);
            let exclusive = |(_, resource): &(Access, String)| {
                keys::owner(Access::Exclusive, resource, &claim.key)
            };
            keys.extend(assign.owners.iter().map(exclusive));
        }
        Mutation::PutStatus(put) => {
            keys.extend([keys::status(&put.key), keys::claim(&put.key)]);
        }
        Mutation::Release(release) => {
            keys.extend([keys::status(&release.key), keys::claim(&release.key)]);
        }
        Mutation::RemoveLoop(remove) => {
            keys.extend([keys::spec(&remove.key), keys::claim(&remove.key)]);
            keys.extend(remove.duty.iter().map(|duty| keys::duty(&duty.uid)));
        }
        Mutation::PutNode(put) => keys.push(keys::node(&put.record.name)),
        Mutation::RemoveOrphan(remove) => {
            keys.push(match &remove.orphan {
                OrphanKey::Owner(owner) => owner.encode(),
                OrphanKey::Claim(key) => keys::claim(key),
            });
            keys.extend(remove.duty.iter().map(|duty| keys::duty(&duty.uid)));
        }
        Mutation::PutDuty(put) => keys.push(keys::duty(&put.uid)),
    }
}

/// What stood in the way of a mutation, given what it looked at.
fn explain(mutation: &Mutation, found: &[Option<PbKeyValue>]) -> Option<Found> {
    match (mutation, found) {
        (Mutation::Assign(assign), [claim, status, session, spec, owners @ ..]) => {
            let keys = [claim.as_ref(), status.as_ref(), session.as_ref(), spec.as_ref()];
            explain_assign(assign, keys, owners)
        }
        (Mutation::PutStatus(put), [status, claim]) => {
            status_moved(put.status_revision, status.as_ref())
                .or_else(|| claim_gone(put.token?, claim.as_ref()))
        }
        (Mutation::Release(release), [status, claim]) => {
            status_moved(release.status_revision, status.as_ref())
                .or_else(|| claim_gone(release.token, claim.as_ref()))
        }
        (Mutation::RemoveLoop(remove), [spec, claim, duty @ ..]) => {
            let (expected, found) = (remove.loop_revision, mod_revision(spec.as_ref()));
            if found != expected {
                return Some(Found::LoopMoved { expected, found });
            }
            let claimed = claim.as_ref().map(|kv| claimed(&remove.key, kv));
            claimed.or_else(|| duty_moved(remove.duty.as_ref(), duty))
        }
        (Mutation::PutNode(put), [node]) => Some(Found::NodeMoved {
            expected: put.node_revision,
            found: mod_revision(node.as_ref()),
        }),
        (Mutation::RemoveOrphan(remove), [orphan, duty @ ..]) => {
            let found = mod_revision(orphan.as_ref());
            if found != remove.revision {
                return Some(Found::OrphanMoved { found });
            }
            duty_moved(remove.duty.as_ref(), duty)
        }
        (Mutation::PutDuty(put), found) => duty_moved(Some(put), found),
        _ => None,
    }
}

fn explain_assign(
    assign: &Assign,
    [claim, status, session, spec]: [Option<&PbKeyValue>; 4],
    owners: &[Option<PbKeyValue>],
) -> Option<Found> {
    // The claim first: with it the status has moved as well, but this says more.
    if let Some(kv) = claim {
        return Some(claimed(&assign.claim.key, kv));
    }
    if let Some(found) = status_moved(assign.status_revision, status) {
        return Some(found);
    }
    let (expected, found) = (assign.loop_revision, mod_revision(spec));
    if expected != 0 && found != expected {
        return Some(Found::LoopMoved { expected, found });
    }
    let created = session.map_or(0, |kv| kv.create_revision);
    let bound = session.is_some_and(|kv| kv.lease == assign.claim.lease);
    if created != assign.session_revision || !bound {
        return Some(Found::SessionGone { node: assign.claim.node.clone(), found: created });
    }
    owners.iter().zip(&assign.owners).find_map(|(kv, (_, resource))| {
        let kv = kv.as_ref()?;
        Some(Found::Owned {
            owner: OwnerKey::Exclusive { resource: resource.clone() },
            by: OwnerRecord::decode(&kv.value).ok().map(|record| record.key),
            revision: kv.mod_revision,
            lease: kv.lease,
        })
    })
}

fn duty_moved(put: Option<&PutDuty>, found: &[Option<PbKeyValue>]) -> Option<Found> {
    let (expected, found) = (put?.revision, mod_revision(found.first()?.as_ref()));
    (found != expected).then_some(Found::DutyMoved { expected, found })
}

fn mod_revision(kv: Option<&PbKeyValue>) -> i64 {
    kv.map_or(0, |kv| kv.mod_revision)
}

fn status_moved(expected: i64, status: Option<&PbKeyValue>) -> Option<Found> {
    let found = mod_revision(status);
    (found != expected).then_some(Found::StatusMoved { expected, found })
}

fn claim_gone(token: Token, claim: Option<&PbKeyValue>) -> Option<Found> {
    let held = claim.is_some_and(|kv| kv.create_revision == token.0);
    (!held).then_some(Found::ClaimGone { token })
}

fn claimed(key: &LoopKey, kv: &PbKeyValue) -> Found {
    let record = ClaimRecord::decode(key.clone(), &kv.value).ok();
    Found::Claimed {
        token: Token(kv.create_revision),
        node: record.map(|record| (record.node, record.incarnation)),
    }
}
