//! Reads the answers to a commit.

use etcd_client::proto::{PbResponseOp, PbTxnOpResponse, PbTxnResponse};

use super::CommitError;
use crate::client::{TxnAnswer, ranges};
use crate::leadership;

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
