//! The shape of requests, checked before anything is applied (etcd 3.4's `v3rpc/key.go`).

use super::span::Span;
use crate::error::{
    DUPLICATE_KEY, EMPTY_KEY, KEY_NOT_FOUND, LEASE_PROVIDED, Refusal, TOO_MANY_OPS, VALUE_PROVIDED,
};
use etcd_client::proto::{
    PbDeleteRequest, PbPutRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp,
};
use std::collections::BTreeSet;

/// Operations per transaction, etcd's default. A nested transaction may have as many as are left
/// after the width of the transaction around it.
pub(crate) const TXN_OPS_MAX: usize = 128;

pub(crate) fn key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() { Err(EMPTY_KEY) } else { Ok(()) }
}

pub(crate) fn put(request: &PbPutRequest) -> Result<(), Refusal> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(LEASE_PROVIDED);
    }
    Ok(())
}

pub(crate) fn txn(request: &PbTxnRequest) -> Result<(), Refusal> {
    operations(request, TXN_OPS_MAX)?;
    intervals(&request.success)?;
    intervals(&request.failure)?;
    Ok(())
}

/// Counts operations. The depth is bounded too: each level takes at least one of the allowance,
/// except empty ones, which have nothing inside.
fn operations(request: &PbTxnRequest, allowed: usize) -> Result<(), Refusal> {
    let width = request.compare.len().max(request.success.len()).max(request.failure.len());
    if width > allowed {
        return Err(TOO_MANY_OPS);
    }
    request.compare.iter().try_for_each(|compare| key(&compare.key))?;
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(PbTxnOpRequest::RequestRange(range)) => key(&range.key)?,
            Some(PbTxnOpRequest::RequestPut(request)) => put(request)?,
            Some(PbTxnOpRequest::RequestDeleteRange(delete)) => key(&delete.key)?,
            Some(PbTxnOpRequest::RequestTxn(inner)) => operations(inner, allowed - width)?,
            None => return Err(KEY_NOT_FOUND),
        }
    }
    Ok(())
}

type Puts<'a> = BTreeSet<&'a [u8]>;
type Deletes<'a> = Vec<&'a PbDeleteRequest>;

/// Refuses a list of operations that could put a key twice, or put a key that it also deletes.
/// Both branches of a nested transaction count, since either may run, but not against each other.
///
/// Like etcd 3.4, nested puts are compared with the deletes of this level and of the nested
/// transactions before them, and a delete up to `\0` (all keys from here on) meets no put.
fn intervals(ops: &[PbTxnRequestOp]) -> Result<(Puts<'_>, Deletes<'_>), Refusal> {
    let mut deletes: Deletes<'_> = Vec::new();
    let mut puts = Puts::new();
    for op in ops {
        if let Some(PbTxnOpRequest::RequestDeleteRange(delete)) = &op.request {
            deletes.push(delete);
        }
    }
    for op in ops {
        let Some(PbTxnOpRequest::RequestTxn(inner)) = &op.request else { continue };
        let (then_puts, then_deletes) = intervals(&inner.success)?;
        let (else_puts, else_deletes) = intervals(&inner.failure)?;
        for put in &then_puts {
            if deleted(&deletes, put) || !puts.insert(put) {
                return Err(DUPLICATE_KEY);
            }
        }
        for put in &else_puts {
            if deleted(&deletes, put) || (!puts.insert(put) && !then_puts.contains(put)) {
                return Err(DUPLICATE_KEY);
            }
        }
        deletes.extend(then_deletes);
        deletes.extend(else_deletes);
    }
    for op in ops {
        let Some(PbTxnOpRequest::RequestPut(put)) = &op.request else { continue };
        if deleted(&deletes, &put.key) || !puts.insert(&put.key) {
            return Err(DUPLICATE_KEY);
        }
    }
    Ok((puts, deletes))
}

fn deleted(deletes: &Deletes<'_>, key: &[u8]) -> bool {
    deletes.iter().any(|delete| match Span::new(&delete.key, &delete.range_end) {
        Span::From(_) => false,
        span => span.contains(key),
    })
}
