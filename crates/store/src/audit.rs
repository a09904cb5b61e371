//! The audit trail: entries are appended and never changed. All schedulers append to one chain, each
//! batch by a transaction that compares the chain's head, so that none is lost and none comes between.

use etcd_client::proto::PbKeyValue;
use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, SortOrder, SortTarget, Txn, TxnOp,
};
use flyball_core::access::{AuditEntry, Broken, ChainHead, ChainWalk, entry_hash};

use crate::client::ranges;
use crate::error::StoreError;
use crate::keys::{self, Key};
use crate::store::Store;
use crate::values;

/// Most entries of one transaction: with the head and a trim they stay below etcd's 128 operations.
pub const AUDIT_BATCH_MAX: usize = 100;
/// Entries that are kept: at about 600 bytes each they take 30 MB of etcd's default of 2 GiB, and hold
/// some weeks of a busy installation. Older ones are dropped; whoever needs them longer follows the
/// trail into a log of their own.
const AUDIT_KEPT: u64 = 50_000;
/// So many more are let come together before the oldest are dropped, by one operation.
const AUDIT_TRIM: u64 = 500;
/// Entries per page.
const PAGE: u64 = 500;
/// Tries against other schedulers that append.
const TRIES_MAX: u32 = 16;

/// What a walk along the whole trail found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The head at the time.
    pub head: ChainHead,
    /// How many entries hold, or the first fault.
    pub outcome: Result<u64, Broken>,
    /// The hash of the entry that was asked for, if it is kept.
    pub asked: Option<String>,
}

impl Store {
    /// Appends entries, at most [`AUDIT_BATCH_MAX`]; their numbers and hashes are filled in.
    ///
    /// # Errors
    /// Those of the transport, after tries; the same entries may be appended again: they are found by
    /// their ids.
    pub async fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let mut planned: Option<u64> = None;
        let mut last = StoreError::Unavailable { why: "too many append at once".to_owned() };
        for _ in 0..TRIES_MAX {
            if let (Some(number), Some(first)) = (planned, entries.first())
                && self.audit_entry(number).await?.is_some_and(|found| found.id == first.id)
            {
                return Ok(());
            }
            let (head, revision) = self.audit_head().await?;
            planned = Some(head.next);
            let txn = self.append_txn(entries, head, revision).await?;
            match self.etcd.txn(txn).await {
                Ok(answer) if answer.succeeded => return Ok(()),
                Ok(_) => {}
                Err(error @ StoreError::Unknown { .. }) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn append_txn(
        &self,
        entries: &[AuditEntry],
        mut head: ChainHead,
        revision: i64,
    ) -> Result<Txn, StoreError> {
        let mut operations = Vec::with_capacity(entries.len() + 2);
        for entry in entries.iter().take(AUDIT_BATCH_MAX) {
            let (number, previous) = (head.next, head.last.clone());
            let entry = AuditEntry { number, previous, ..entry.clone() };
            let value = values::encode_document(&entry, "an audit entry")?;
            head.last = entry_hash(&value);
            head.next += 1;
            operations.push(TxnOp::put(keys::audit(number), value, None));
        }
        let first = head.next.saturating_sub(AUDIT_KEPT);
        if first > head.first + AUDIT_TRIM
            && let Some(oldest) = self.audit_entry(first).await?
        {
            let range = DeleteOptions::new().with_range(keys::audit(first));
            operations.push(TxnOp::delete(keys::audit(head.first), Some(range)));
            (head.first, head.before_first) = (first, oldest.previous);
        }
        let value = values::encode_document(&head, "the head of the audit trail")?;
        operations.push(TxnOp::put(keys::AUDIT_HEAD, value, None));
        let same = Compare::mod_revision(keys::AUDIT_HEAD, CompareOp::Equal, revision);
        Ok(Txn::new().when([same]).and_then(operations))
    }

    async fn audit_head(&self) -> Result<(ChainHead, i64), StoreError> {
        let Some(kv) = self.etcd.get(keys::AUDIT_HEAD.into()).await? else {
            return Ok((ChainHead::default(), 0));
        };
        let head = values::decode_document(&kv.value).map_err(|error| error.at(&kv.key))?;
        Ok((head, kv.mod_revision))
    }

    async fn audit_entry(&self, number: u64) -> Result<Option<AuditEntry>, StoreError> {
        Ok(self.etcd.get(keys::audit(number)).await?.and_then(|kv| read(&kv).1))
    }

    /// The newest entries that `takes` takes and that come after number `after`, at most `limit`,
    /// oldest first. `takes` answers `None` once no older one can be wanted.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn list_audit(
        &self,
        after: u64,
        limit: usize,
        takes: impl Fn(&AuditEntry) -> Option<bool>,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let mut found = Vec::new();
        let mut end = keys::behind(keys::AUDIT);
        'pages: loop {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(i64::try_from(PAGE).unwrap_or(i64::MAX))
                .with_sort(SortTarget::Key, SortOrder::Descend);
            let start = keys::audit(after.saturating_add(1));
            if start >= end {
                break;
            }
            let page = self.etcd.range(start, options).await?.kvs;
            let Some(last) = page.last() else { break };
            end.clone_from(&last.key);
            for kv in &page {
                let Some(entry) = read(kv).1 else { continue };
                match takes(&entry) {
                    Some(true) => found.push(entry),
                    Some(false) => {}
                    None => break 'pages,
                }
                if found.len() >= limit {
                    break 'pages;
                }
            }
        }
        found.reverse();
        Ok(found)
    }

    /// Walks along the whole trail.
    ///
    /// # Errors
    /// Those of the transport; a trail that does not hold is no error but the answer.
    pub async fn verify_audit(&self, ask: u64) -> Result<Verified, StoreError> {
        let read_head = Txn::new().and_then([TxnOp::get(keys::AUDIT_HEAD, None)]);
        let answer = self.etcd.txn(read_head).await.map_err(StoreError::of_read)?;
        // The store as it is now, not as it was when the head was written.
        let revision = answer.revision;
        let head = match ranges(answer.responses).next().and_then(|mut kvs| kvs.pop()) {
            Some(kv) => values::decode_document(&kv.value).map_err(|error| error.at(&kv.key))?,
            None => ChainHead::default(),
        };
        let mut walk = ChainWalk::new(head.clone());
        let mut asked = None;
        let mut start = keys::AUDIT.as_bytes().to_vec();
        loop {
            // All pages as of one moment, while others append.
            let options = GetOptions::new()
                .with_range(keys::behind(keys::AUDIT))
                .with_limit(i64::try_from(PAGE).unwrap_or(i64::MAX))
                .with_revision(revision);
            let page = self.etcd.range(start, options).await?;
            for kv in &page.kvs {
                let (number, entry) = read(kv);
                if let Err(broken) = walk.step(number, &kv.value, entry.as_ref()) {
                    return Ok(Verified { head, outcome: Err(broken), asked });
                }
                if number == ask {
                    asked = Some(walk.hash().to_owned());
                }
            }
            start = match page.kvs.last() {
                Some(kv) if page.more => [kv.key.as_slice(), &[0]].concat(),
                _ => break,
            };
        }
        Ok(Verified { head, outcome: walk.end(), asked })
    }
}

fn read(kv: &PbKeyValue) -> (u64, Option<AuditEntry>) {
    let number = match Key::decode(&kv.key) {
        Key::Audit(number) => number,
        _ => 0,
    };
    (number, values::decode_document(&kv.value).ok())
}
