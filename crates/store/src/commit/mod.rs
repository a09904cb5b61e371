//! The leader's writes. Each is a nested transaction with its own compares, so that one refused
//! write does not refuse its neighbours; the leader's key is compared once per request, outside.

mod answer;
mod build;
mod explain;
mod found;
mod mutation;
pub(crate) mod plan;
mod resolve;

use etcd_client::{Txn, TxnOp};

use crate::error::StoreError;
use crate::keys;
use crate::leadership::Leadership;
use crate::store::Store;
use crate::values::{LeaderRecord, Stored};

pub use found::Found;
pub use mutation::{
    Assign, Mutation, OrphanKey, PutDuty, PutNode, PutStatus, Release, RemoveLoop, RemoveOrphan,
};
pub use resolve::Resolution;

/// The outcome of a commit: one result per mutation, in order, and what stopped it if it did not
/// get through all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// One per mutation, in the order given.
    pub results: Vec<MutationResult>,
    /// Why some of them are [`MutationResult::NotApplied`] or [`MutationResult::Unknown`].
    pub error: Option<CommitError>,
}

/// What became of one mutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MutationResult {
    /// Applied. For an assignment the revision is the token.
    Committed {
        /// The commit's revision: that of every key it wrote.
        revision: i64,
    },
    /// Not applied, and never will be as it is: this was found instead.
    Refused(Found),
    /// Certainly not applied: the commit stopped before it, or the store did not take the request.
    NotApplied,
    /// Nobody knows: resolve it with [`Store::resolve`] before anything else is done with its loop
    /// or its resources.
    Unknown,
    /// Too large to be sent at all; nothing was tried.
    TooLarge {
        /// What is too large, with numbers.
        why: String,
    },
}

/// Why a commit stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// This scheduler does not lead any more. Final.
    #[error("not the leader any more")]
    Fenced {
        /// Who leads now, if anyone does.
        leader: Option<Stored<LeaderRecord>>,
    },
    /// The store failed; see whether it says that the request may have been applied.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CommitError {
    /// True when what was not applied may be committed again as it is.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}

impl Store {
    /// Commits the mutations in as few requests as possible, in order; never two that touch the
    /// same key in one request. A mutation that is refused leaves nothing behind and does not
    /// stop the others; an error stops what comes after it.
    pub async fn commit(&self, leadership: &Leadership, mutations: &[Mutation]) -> Commit {
        let mut results = vec![MutationResult::NotApplied; mutations.len()];
        let mut prepared = Vec::with_capacity(mutations.len());
        for (index, mutation) in mutations.iter().enumerate() {
            match build::build(mutation) {
                Ok((txn, cost)) => prepared.push((index, txn, cost)),
                Err(error) => {
                    results[index] = MutationResult::TooLarge { why: error.to_string() };
                }
            }
        }
        let sizes = plan::plan(prepared.iter().map(|(_, _, cost)| cost));
        let mut rest = prepared.into_iter();
        for size in sizes {
            let (indices, txns): (Vec<usize>, Vec<TxnOp>) =
                rest.by_ref().take(size).map(|(index, txn, _)| (index, TxnOp::txn(txn))).unzip();
            let answered = self.send(leadership, txns, &indices, mutations, &mut results).await;
            if let Err(error) = answered {
                return Commit { results, error: Some(error) };
            }
        }
        Commit { results, error: None }
    }

    /// Sends one request and fills in the results of its mutations.
    async fn send(
        &self,
        leadership: &Leadership,
        txns: Vec<TxnOp>,
        indices: &[usize],
        mutations: &[Mutation],
        results: &mut [MutationResult],
    ) -> Result<(), CommitError> {
        let answer = match self.etcd.txn(fenced(leadership, txns)).await {
            Ok(answer) => answer,
            Err(error) => {
                if error.is_unknown() {
                    tracing::warn!(%error, mutations = indices.len(), "a commit's answer is lost");
                    indices.iter().for_each(|index| results[*index] = MutationResult::Unknown);
                }
                return Err(error.into());
            }
        };
        if !answer.succeeded {
            return Err(answer::fenced(answer));
        }
        let revision = answer.revision;
        let mut responses = answer.responses.into_iter();
        let mut refused = Vec::new();
        for index in indices {
            results[*index] = match answer::nested(responses.next()) {
                Some(nested) if nested.succeeded => MutationResult::Committed { revision },
                Some(_) => {
                    refused.push(*index);
                    MutationResult::Refused(Found::Unexplained)
                }
                None => MutationResult::Unknown,
            };
        }
        if !refused.is_empty() {
            let mutations: Vec<&Mutation> = refused.iter().map(|i| &mutations[*i]).collect();
            let found = self.explain(&mutations, revision).await;
            for (index, found) in refused.into_iter().zip(found) {
                results[index] = MutationResult::Refused(found);
            }
        }
        Ok(())
    }
}

/// A request of the leader: applied only while it leads.
fn fenced(leadership: &Leadership, operations: Vec<TxnOp>) -> Txn {
    Txn::new()
        .when([leadership.holds()])
        .and_then(operations)
        .or_else([TxnOp::get(keys::LEADER, None)])
}
