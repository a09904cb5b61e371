//! Lost answers. A request whose outcome is unknown may even be applied later; reading alone
//! cannot rule that out. So the question is asked by a transaction that, if the mutation has not
//! been applied, moves the revision it compares: it can then never be applied any more.

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use flyball_core::ids::{AttemptId, LoopKey, Token};
use flyball_core::planted::{self, Bug};
use flyball_core::status::LoopStatus;

use super::mutation::Mutation;
use super::{CommitError, answer, fenced};
use crate::client::ranges;
use crate::error::StoreError;
use crate::keys;
use crate::leadership::Leadership;
use crate::store::Store;
use crate::values::{self, ClaimRecord};

/// What became of a mutation whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It was applied.
    Applied {
        /// The commit's revision; for an assignment, the token.
        revision: i64,
    },
    /// It was not applied and never will be.
    NotApplied {
        /// Revision of the status to re-plan on; 0 if the loop is gone.
        status_revision: i64,
    },
    /// It has no status to decide by, but its compare admits it only once: commit it again and
    /// take a refusal for an answer.
    CommitAgain,
}

impl Store {
    /// Finds out for certain what became of a mutation with result
    /// [`MutationResult::Unknown`](super::MutationResult::Unknown). Afterwards its fate is final.
    ///
    /// # Errors
    /// Being fenced, or those of the transport; the call may be repeated after
    /// [`StoreError::Unknown`] too.
    pub async fn resolve(
        &self,
        leadership: &Leadership,
        mutation: &Mutation,
    ) -> Result<Resolution, CommitError> {
        let (key, status, revision, attempt) = match mutation {
            Mutation::Assign(assign) => {
                let claim = &assign.claim;
                (&claim.key, &assign.status, assign.status_revision, Some(&claim.attempt))
            }
            Mutation::PutStatus(put) => (&put.key, &put.status, put.status_revision, None),
            Mutation::Release(release) => {
                (&release.key, &release.status, release.status_revision, None)
            }
            Mutation::RemoveLoop(_)
            | Mutation::PutNode(_)
            | Mutation::RemoveOrphan(_)
            | Mutation::PutDuty(_) => {
                return Ok(Resolution::CommitAgain);
            }
        };
        if planted::is(Bug::NoReadBack) {
            return Ok(Resolution::NotApplied { status_revision: revision });
        }
        let asked = self.etcd.txn(fenced(leadership, vec![ask(key, revision)])).await?;
        if !asked.succeeded {
            return Err(answer::fenced(asked));
        }
        let now = asked.revision;
        let nested = answer::nested(asked.responses.into_iter().next())
            .ok_or_else(|| StoreError::bad_answer("a nested transaction is not answered"))?;
        if nested.succeeded {
            return Ok(Resolution::NotApplied { status_revision: now });
        }
        let mut read = ranges(nested.responses).map(|mut kvs| kvs.pop());
        let (found, claim) = (read.next().flatten(), read.next().flatten());
        if let (Some(attempt), Some(kv)) = (attempt, claim)
            && ClaimRecord::decode(key.clone(), &kv.value).is_ok_and(|c| c.attempt == *attempt)
        {
            return Ok(Resolution::Applied { revision: kv.create_revision });
        }
        let Some(kv) = found else { return Ok(Resolution::NotApplied { status_revision: 0 }) };
        let found = values::decode_status(&kv.value).map_err(|error| error.at(&kv.key))?;
        Ok(if is_ours(&found, status, attempt) {
            Resolution::Applied { revision: kv.mod_revision }
        } else {
            Resolution::NotApplied { status_revision: kv.mod_revision }
        })
    }

    /// The token of a loop's claim if it was made by this attempt. `None` is no proof that the
    /// attempt will not be applied yet; [`Store::resolve`] is.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn read_back(
        &self,
        key: &LoopKey,
        attempt: &AttemptId,
    ) -> Result<Option<Token>, StoreError> {
        let claim = self.get_claim(key).await?;
        let ours = claim.filter(|claim| claim.value.attempt == *attempt);
        Ok(ours.map(|claim| Token(claim.create_revision)))
    }
}

/// If the status is still at `revision`: writes it again as it is, which moves its revision.
/// Otherwise reads it and the claim.
fn ask(key: &LoopKey, revision: i64) -> TxnOp {
    let status_key = keys::status(key);
    let as_it_is = PutOptions::new().with_ignore_value();
    let txn = Txn::new()
        .when([Compare::mod_revision(status_key.clone(), CompareOp::Equal, revision)])
        .and_then([TxnOp::put(status_key.clone(), Vec::new(), Some(as_it_is))])
        .or_else([TxnOp::get(status_key, None), TxnOp::get(keys::claim(key), None)]);
    TxnOp::txn(txn)
}

/// True when the status found is the one the mutation would have written. An assignment's carries
/// its attempt id; the claim may be gone again with its lease.
fn is_ours(found: &LoopStatus, written: &LoopStatus, attempt: Option<&AttemptId>) -> bool {
    match attempt {
        Some(attempt) if written.attempt.as_ref() == Some(attempt) => {
            found.attempt.as_ref() == Some(attempt)
        }
        _ => found == written,
    }
}
