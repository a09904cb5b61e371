//! Applying writes: put, delete and (nested) transactions, checked completely before the first
//! effect, so that nothing ever has to be undone.

use super::{Change, Kv, State, range, span::Span};
use crate::error::{KEY_NOT_FOUND, LEASE_NOT_FOUND, Refusal};
use crate::lease::Lessor;
use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbDeleteResponse, PbKeyValue, PbPutRequest, PbPutResponse,
    PbRangeRequest, PbRangeResponse, PbResponseHeader, PbResponseOp, PbTargetUnion, PbTxnOpRequest,
    PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};
use std::cmp::Ordering;
use std::sync::Arc;

// The generated names of these enumerations are not exported by etcd-client.
const TARGET_VERSION: i32 = 0;
const TARGET_CREATE: i32 = 1;
const TARGET_MOD: i32 = 2;
const TARGET_VALUE: i32 = 3;
const TARGET_LEASE: i32 = 4;
const RESULT_EQUAL: i32 = 0;
const RESULT_GREATER: i32 = 1;
const RESULT_LESS: i32 = 2;
const RESULT_NOT_EQUAL: i32 = 3;

/// Whether no operation of either branch can write. Like etcd this looks at the first level only:
/// a nested transaction counts as a write.
pub(crate) fn is_read_only(request: &PbTxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(PbTxnOpRequest::RequestRange(_))))
}

/// Which branch is taken, here and in the nested transactions of that branch. All compares see the
/// state before any operation of the request.
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

impl Path {
    fn choose(state: &State, request: &PbTxnRequest, at: i64) -> Self {
        let succeeded = request.compare.iter().all(|compare| holds(state, compare, at));
        let nested = branch(request, succeeded)
            .iter()
            .filter_map(|op| match &op.request {
                Some(PbTxnOpRequest::RequestTxn(inner)) => Some(Self::choose(state, inner, at)),
                _ => None,
            })
            .collect();
        Self { succeeded, nested }
    }
}

fn branch(request: &PbTxnRequest, succeeded: bool) -> &[PbTxnRequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

/// Whether a compare holds for every key that it names.
fn holds(state: &State, compare: &PbCompare, at: i64) -> bool {
    let span = Span::new(&compare.key, &compare.range_end);
    let mut kvs = state.index.range(span, at).peekable();
    if kvs.peek().is_none() {
        // There is no way to write "missing" as a value, so comparing one always fails.
        return compare.target != TARGET_VALUE && holds_for(compare, &PbKeyValue::default());
    }
    kvs.all(|kv| holds_for(compare, kv))
}

fn holds_for(compare: &PbCompare, kv: &PbKeyValue) -> bool {
    let number = |pick: fn(&PbTargetUnion) -> Option<i64>| {
        compare.target_union.as_ref().and_then(pick).unwrap_or(0)
    };
    let order = match compare.target {
        TARGET_VALUE => match &compare.target_union {
            Some(PbTargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.as_slice().cmp(&[]),
        },
        TARGET_CREATE => kv.create_revision.cmp(&number(|target| match target {
            PbTargetUnion::CreateRevision(revision) => Some(*revision),
            _ => None,
        })),
        TARGET_MOD => kv.mod_revision.cmp(&number(|target| match target {
            PbTargetUnion::ModRevision(revision) => Some(*revision),
            _ => None,
        })),
        TARGET_VERSION => kv.version.cmp(&number(|target| match target {
            PbTargetUnion::Version(version) => Some(*version),
            _ => None,
        })),
        TARGET_LEASE => kv.lease.cmp(&number(|target| match target {
            PbTargetUnion::Lease(lease) => Some(*lease),
            _ => None,
        })),
        _ => Ordering::Equal,
    };
    match compare.result {
        RESULT_EQUAL => order == Ordering::Equal,
        RESULT_NOT_EQUAL => order != Ordering::Equal,
        RESULT_GREATER => order == Ordering::Greater,
        RESULT_LESS => order == Ordering::Less,
        _ => true,
    }
}

/// Answers a read-only transaction as of revision `at`.
pub(crate) fn read(
    state: &State,
    request: &PbTxnRequest,
    at: i64,
) -> Result<PbTxnResponse, Refusal> {
    let succeeded = request.compare.iter().all(|compare| holds(state, compare, at));
    let mut responses = Vec::new();
    for op in branch(request, succeeded) {
        if let Some(PbTxnOpRequest::RequestRange(request)) = &op.request {
            let answer = range::range(state, request, at)?;
            responses.push(response(PbTxnOpResponse::ResponseRange(answer)));
        }
    }
    Ok(PbTxnResponse { header: header(at), succeeded, responses })
}

/// One write in progress: everything it does gets the same new revision.
pub(crate) struct Write<'a> {
    state: &'a mut State,
    leases: &'a mut Lessor,
    changes: Vec<Change>,
}

impl<'a> Write<'a> {
    pub(crate) fn begin(state: &'a mut State, leases: &'a mut Lessor) -> Self {
        Self { state, leases, changes: Vec::new() }
    }

    /// Makes the changes one revision (none, if nothing changed) and returns the newest revision.
    pub(crate) fn finish(self) -> i64 {
        if !self.changes.is_empty() {
            self.state.revision += 1;
            self.state.log.push(self.changes);
        }
        self.state.revision
    }

    /// Checks and applies a single put.
    pub(crate) fn checked_put(&mut self, request: PbPutRequest) -> Result<PbPutResponse, Refusal> {
        // etcd looks for the lease first here, but for the key first inside transactions.
        if request.lease != 0 && !self.leases.exists(request.lease) {
            return Err(LEASE_NOT_FOUND);
        }
        self.check_put(&request)?;
        Ok(self.put(request))
    }

    /// Checks and applies a transaction.
    pub(crate) fn txn(&mut self, request: PbTxnRequest) -> Result<PbTxnResponse, Refusal> {
        let path = Path::choose(self.state, &request, self.state.revision);
        self.check(&request, &path, &Self::check_put_op)?;
        self.check(&request, &path, &Self::check_range_op)?;
        let mut answer = self.apply(request, &path);
        let changed = i64::from(!self.changes.is_empty());
        answer.header = header(self.state.revision + changed);
        Ok(answer)
    }

    fn check(
        &self,
        request: &PbTxnRequest,
        path: &Path,
        check_op: &dyn Fn(&Self, &PbTxnOpRequest) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut nested = path.nested.iter();
        for op in branch(request, path.succeeded) {
            match &op.request {
                Some(PbTxnOpRequest::RequestTxn(inner)) => {
                    if let Some(path) = nested.next() {
                        self.check(inner, path, check_op)?;
                    }
                }
                Some(op) => check_op(self, op)?,
                None => {}
            }
        }
        Ok(())
    }

    fn check_put_op(&self, op: &PbTxnOpRequest) -> Result<(), Refusal> {
        match op {
            PbTxnOpRequest::RequestPut(put) => self.check_put(put),
            _ => Ok(()),
        }
    }

    fn check_range_op(&self, op: &PbTxnOpRequest) -> Result<(), Refusal> {
        match op {
            PbTxnOpRequest::RequestRange(request) => {
                range::check_revision(self.state, request.revision, self.state.revision)
            }
            _ => Ok(()),
        }
    }

    fn check_put(&self, request: &PbPutRequest) -> Result<(), Refusal> {
        let needs_old = request.ignore_value || request.ignore_lease;
        if needs_old && self.state.index.get(&request.key, self.state.revision).is_none() {
            return Err(KEY_NOT_FOUND);
        }
        if request.lease != 0 && !self.leases.exists(request.lease) {
            return Err(LEASE_NOT_FOUND);
        }
        Ok(())
    }

    fn apply(&mut self, request: PbTxnRequest, path: &Path) -> PbTxnResponse {
        let mut nested = path.nested.iter();
        let ops = if path.succeeded { request.success } else { request.failure };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            let answer = match op.request {
                Some(PbTxnOpRequest::RequestPut(put)) => {
                    PbTxnOpResponse::ResponsePut(self.put(put))
                }
                Some(PbTxnOpRequest::RequestDeleteRange(delete)) => {
                    PbTxnOpResponse::ResponseDeleteRange(self.delete_range(&delete))
                }
                Some(PbTxnOpRequest::RequestRange(request)) => {
                    PbTxnOpResponse::ResponseRange(self.range(&request))
                }
                Some(PbTxnOpRequest::RequestTxn(inner)) => {
                    let Some(path) = nested.next() else { continue };
                    PbTxnOpResponse::ResponseTxn(self.apply(inner, path))
                }
                None => continue,
            };
            responses.push(response(answer));
        }
        // Nested transactions carry an empty header; the outermost one is filled by the caller.
        let header = Some(PbResponseHeader::default());
        PbTxnResponse { header, succeeded: path.succeeded, responses }
    }

    /// Revision that reads of this write see: its own changes, once there are any.
    fn seen(&self) -> i64 {
        self.state.revision + i64::from(!self.changes.is_empty())
    }

    fn range(&self, request: &PbRangeRequest) -> PbRangeResponse {
        // Revisions were checked before the first effect and compaction cannot come between.
        range::range(self.state, request, self.seen()).unwrap_or_default()
    }

    /// Applies a put that was checked.
    pub(crate) fn put(&mut self, request: PbPutRequest) -> PbPutResponse {
        let revision = self.state.revision + 1;
        let old = self.state.index.get(&request.key, revision).cloned();
        let kv = next_version(request.key, request.value, revision, old.as_ref());
        let kv = Arc::new(PbKeyValue {
            value: match &old {
                Some(old) if request.ignore_value => old.value.clone(),
                _ => kv.value,
            },
            lease: match &old {
                Some(old) if request.ignore_lease => old.lease,
                _ => request.lease,
            },
            ..kv
        });
        if let Some(old) = old.as_ref().filter(|old| old.lease != 0) {
            self.leases.detach(old.lease, &kv.key);
        }
        if kv.lease != 0 {
            self.leases.attach(kv.lease, &kv.key);
        }
        self.state.index.push(&kv.key, revision, Some(Arc::clone(&kv)));
        self.changes.push(Change { kv, deleted: false });
        let prev_kv = old.filter(|_| request.prev_kv).map(Arc::unwrap_or_clone);
        PbPutResponse { header: header(revision), prev_kv }
    }

    /// Applies a delete; it cannot fail.
    pub(crate) fn delete_range(&mut self, request: &PbDeleteRequest) -> PbDeleteResponse {
        let span = Span::new(&request.key, &request.range_end);
        let gone: Vec<Kv> =
            self.state.index.range(span, self.state.revision + 1).map(Arc::clone).collect();
        for kv in &gone {
            self.delete(kv);
        }
        let prev_kvs = match request.prev_kv {
            true => gone.iter().map(|kv| PbKeyValue::clone(kv)).collect(),
            false => Vec::new(),
        };
        let deleted = i64::try_from(gone.len()).unwrap_or(i64::MAX);
        PbDeleteResponse { header: header(self.seen()), deleted, prev_kvs }
    }

    /// Deletes one key that exists.
    fn delete(&mut self, old: &Kv) {
        let revision = self.state.revision + 1;
        if old.lease != 0 {
            self.leases.detach(old.lease, &old.key);
        }
        self.state.index.push(&old.key, revision, None);
        let key = old.key.clone();
        let kv = Arc::new(PbKeyValue { key, mod_revision: revision, ..Default::default() });
        self.changes.push(Change { kv, deleted: true });
    }

    /// Ends a lease: all its keys go in this one revision. The lease itself is gone already.
    pub(crate) fn delete_keys(&mut self, keys: impl IntoIterator<Item = Vec<u8>>) {
        for key in keys {
            if let Some(old) = self.state.index.get(&key, self.state.revision + 1).cloned() {
                self.delete(&old);
            }
        }
    }
}

fn next_version(key: Vec<u8>, value: Vec<u8>, revision: i64, old: Option<&Kv>) -> PbKeyValue {
    PbKeyValue {
        key,
        value,
        create_revision: old.map_or(revision, |old| old.create_revision),
        mod_revision: revision,
        version: old.map_or(1, |old| old.version + 1),
        lease: 0,
    }
}

fn header(revision: i64) -> Option<PbResponseHeader> {
    Some(PbResponseHeader { revision, ..Default::default() })
}

fn response(response: PbTxnOpResponse) -> PbResponseOp {
    PbResponseOp { response: Some(response) }
}
