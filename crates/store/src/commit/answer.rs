//! Reads the answers to a commit: who fenced it, and why a mutation was refused.

use etcd_client::proto::{PbKeyValue, PbResponseOp, PbTxnOpResponse, PbTxnResponse};
use etcd_client::{GetOptions, Txn, TxnOp};
use flyball_core::ids::{LoopKey, Token};
use flyball_core::spec::Access;

use super::mutation::{Assign, Mutation};
use super::{CommitError, Found};
use crate::client::{TxnAnswer, ranges};
use crate::keys::{self, OwnerKey};
use crate::leadership;
use crate::store::Store;
use crate::values::{ClaimRecord, OwnerRecord};

/// The error of a request whose leader does not lead any more.
pub(super) fn fenced(answer: TxnAnswer) -> CommitError {
    let found = ranges(answer.responses).next().and_then(|mut kvs| kvs.pop());
    CommitError::Fenced { leader: found.and_then(|kv| leadership::decode(&kv).ok()) }
}

/// The answer of one nested transaction.
pub(super) fn nested(response: Option<PbResponseOp>) -> Option<PbTxnResponse> {
    match response?.response? {
        PbTxnOpResponse::ResponseTxn(txn) => Some(txn),
        _ => None,
    }
}

fn mod_revision(kv: Option<&PbKeyValue>) -> i64 {
    kv.map_or(0, |kv| kv.mod_revision)
}

fn create_revision(kv: Option<&PbKeyValue>) -> i64 {
    kv.map_or(0, |kv| kv.create_revision)
}

impl Store {
    /// Why a mutation was refused, from what its failure branch read at `revision`.
    pub(super) async fn explain(
        &self,
        mutation: &Mutation,
        responses: Vec<PbResponseOp>,
        revision: i64,
    ) -> Found {
        let mut read = ranges(responses).map(|mut kvs| kvs.pop());
        let first = read.next().flatten();
        let second = read.next().flatten();
        let third = read.next().flatten();
        match mutation {
            Mutation::Assign(assign) => {
                let seen = assign_refused(assign, first.as_ref(), second, third.as_ref());
                match seen {
                    Some(found) => found,
                    None => self.explain_owners(assign, revision).await,
                }
            }
            Mutation::PutStatus(put) => {
                let moved = status_moved(put.status_revision, first.as_ref());
                moved.unwrap_or_else(|| match put.token {
                    Some(token) => other_claim(token, second),
                    None => Found::Unexplained,
                })
            }
            Mutation::Release(release) => status_moved(release.status_revision, first.as_ref())
                .unwrap_or_else(|| other_claim(release.token, second)),
            Mutation::RemoveLoop(remove) => match mod_revision(first.as_ref()) {
                found if found != remove.loop_revision => {
                    Found::LoopMoved { expected: remove.loop_revision, found }
                }
                _ => second.map_or(Found::Unexplained, |kv| claimed(&remove.key, &kv)),
            },
            Mutation::PutNode(put) => {
                let found = mod_revision(first.as_ref());
                Found::NodeMoved { expected: put.node_revision, found }
            }
            Mutation::RemoveOrphan(_) => Found::OrphanMoved { found: mod_revision(first.as_ref()) },
        }
    }

    /// Which entry of a refused assignment is owned. Read at the revision of the refusal, and so
    /// exact: no other mutation of that request touched these keys.
    async fn explain_owners(&self, assign: &Assign, revision: i64) -> Found {
        let exclusive: Vec<Vec<u8>> = assign
            .owners
            .iter()
            .map(|(_, resource)| keys::owner(Access::Exclusive, resource, &assign.claim.key))
            .collect();
        let at = GetOptions::new().with_revision(revision);
        let reads: Vec<TxnOp> =
            exclusive.into_iter().map(|key| TxnOp::get(key, Some(at.clone()))).collect();
        let Ok(answer) = self.etcd.txn(Txn::new().and_then(reads)).await else {
            return Found::Unexplained;
        };
        let held = ranges(answer.responses).zip(&assign.owners).find_map(|(mut kvs, owner)| {
            let kv = kvs.pop()?;
            let by = OwnerRecord::decode(&kv.value).ok().map(|record| record.key);
            let owner = OwnerKey::Exclusive { resource: owner.1.clone() };
            Some(Found::Owned { owner, by, revision: kv.mod_revision, lease: kv.lease })
        });
        held.unwrap_or(Found::Unexplained)
    }
}

fn assign_refused(
    assign: &Assign,
    status: Option<&PbKeyValue>,
    claim: Option<PbKeyValue>,
    session: Option<&PbKeyValue>,
) -> Option<Found> {
    // The claim first: with it the status has moved as well, but this says more.
    if let Some(kv) = claim {
        return Some(claimed(&assign.claim.key, &kv));
    }
    if let Some(found) = status_moved(assign.status_revision, status) {
        return Some(found);
    }
    let found = create_revision(session);
    let bound = session.is_some_and(|kv| kv.lease == assign.claim.lease);
    (found != assign.session_revision || !bound)
        .then(|| Found::SessionGone { node: assign.claim.node.clone(), found })
}

fn status_moved(expected: i64, status: Option<&PbKeyValue>) -> Option<Found> {
    let found = mod_revision(status);
    (found != expected).then_some(Found::StatusMoved { expected, found })
}

fn other_claim(token: Token, claim: Option<PbKeyValue>) -> Found {
    match claim {
        Some(kv) if kv.create_revision != token.0 => Found::ClaimGone { token },
        Some(_) => Found::Unexplained,
        None => Found::ClaimGone { token },
    }
}

fn claimed(key: &LoopKey, kv: &PbKeyValue) -> Found {
    let record = ClaimRecord::decode(key.clone(), &kv.value).ok();
    Found::Claimed {
        token: Token(kv.create_revision),
        node: record.map(|record| (record.node, record.incarnation)),
    }
}
