//! Loops as the API writes and reads them: from any scheduler, not fenced by leadership, each
//! write guarded by the revision it was based on.

use std::sync::Arc;

use etcd_client::proto::{PbKeyValue, PbResponseOp, PbTxnOpResponse};
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use flyball_core::ids::LoopKey;
use flyball_core::status::LoopStatus;

use crate::client::ranges;
use crate::commit::plan::{Cost, plan};
use crate::error::StoreError;
use crate::keys;
use crate::store::Store;
use crate::values::{self, ClaimRecord, LoopRecord, Stored};

/// A loop to create.
#[derive(Debug, Clone)]
pub struct NewLoop {
    /// Its desired state.
    pub record: Arc<LoopRecord>,
    /// Its first observed state.
    pub status: Arc<LoopStatus>,
}

/// What became of a creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateLoop {
    /// The loop is new; also when this very life of it (same uid) was created before, so that a
    /// creation with an unknown outcome may be repeated.
    Created {
        /// Revision of both of its keys.
        revision: i64,
    },
    /// Another life of the loop exists.
    Exists(Stored<Arc<LoopRecord>>),
}

/// What became of a write that names the revision it was based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update<T> {
    /// Written, now or by an earlier try of the very same change.
    Done {
        /// Its new revision.
        revision: i64,
    },
    /// Not written: this is there now, or nothing.
    Conflict(Option<Stored<T>>),
}

impl Store {
    /// Creates a loop unless one of that name exists.
    ///
    /// # Errors
    /// Those of the transport, or a value above its bound. After [`StoreError::Unknown`] the same
    /// creation may be repeated: it is told apart by its uid.
    pub async fn create_loop(
        &self,
        record: &LoopRecord,
        status: &LoopStatus,
    ) -> Result<CreateLoop, StoreError> {
        let txn = create(record, status)?.0;
        let answer = self.etcd.txn(txn).await?;
        created(record, answer.succeeded, answer.responses, answer.revision)
    }

    /// Creates several loops, each for itself, in as few transactions as possible.
    /// Returns a result for each, in order.
    pub async fn create_loops(&self, loops: &[NewLoop]) -> Vec<Result<CreateLoop, StoreError>> {
        let mut results: Vec<Option<Result<CreateLoop, StoreError>>> = vec![None; loops.len()];
        let mut prepared = Vec::with_capacity(loops.len());
        for (index, new) in loops.iter().enumerate() {
            match create(&new.record, &new.status) {
                Ok((txn, cost)) => prepared.push((index, txn, cost)),
                Err(error) => results[index] = Some(Err(error)),
            }
        }
        let sizes = plan(prepared.iter().map(|(_, _, cost)| cost));
        let mut rest = prepared.into_iter();
        for size in sizes {
            let (indices, txns): (Vec<usize>, Vec<TxnOp>) =
                rest.by_ref().take(size).map(|(index, txn, _)| (index, TxnOp::txn(txn))).unzip();
            let answer = self.etcd.txn(Txn::new().and_then(txns)).await;
            for (position, index) in indices.into_iter().enumerate() {
                results[index] = Some(match &answer {
                    Ok(answer) => nested_created(
                        &loops[index].record,
                        answer.responses.get(position),
                        answer.revision,
                    ),
                    Err(error) => Err(error.clone()),
                });
            }
        }
        let missing = || Err(StoreError::Unavailable { why: "not sent".to_owned() });
        results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
    }

    /// Writes a loop's desired state over the one read at `expected_revision`. What a newer
    /// version of Flyball wrote into it is kept. With `status_revision` the observed state has to be
    /// at that revision too: what was allowed because nobody owned the loop must still be so.
    ///
    /// # Errors
    /// Those of the transport, or a value above its bound. After [`StoreError::Unknown`] the same
    /// change may be repeated: it is done once.
    pub async fn update_loop(
        &self,
        record: &LoopRecord,
        expected_revision: i64,
        status_revision: Option<i64>,
    ) -> Result<Update<Arc<LoopRecord>>, StoreError> {
        let key = keys::spec(&record.key);
        // The raw value is read again, and not kept with every record in memory, since rewrites
        // are rare.
        let before = self.etcd.get(key.clone()).await?;
        let before = match before {
            Some(kv) if kv.mod_revision == expected_revision => kv,
            other => return not_at_revision(record, other),
        };
        let value = record.encode_over(&before.value).map_err(|error| error.at(&key))?;
        let mut compares =
            vec![Compare::mod_revision(key.clone(), CompareOp::Equal, expected_revision)];
        compares.extend(status_revision.map(|revision| {
            Compare::mod_revision(keys::status(&record.key), CompareOp::Equal, revision)
        }));
        let txn = Txn::new()
            .when(compares)
            .and_then([TxnOp::put(key.clone(), value, None)])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.etcd.txn(txn).await?;
        if answer.succeeded {
            return Ok(Update::Done { revision: answer.revision });
        }
        not_at_revision(record, ranges(answer.responses).next().and_then(|mut kvs| kvs.pop()))
    }

    /// Reads a loop's desired and observed state at one revision.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn get_loop(
        &self,
        key: &LoopKey,
    ) -> Result<Option<(Stored<Arc<LoopRecord>>, Option<Stored<Arc<LoopStatus>>>)>, StoreError>
    {
        let txn = Txn::new()
            .and_then([TxnOp::get(keys::spec(key), None), TxnOp::get(keys::status(key), None)]);
        let answer = self.etcd.txn(txn).await.map_err(StoreError::of_read)?;
        let mut found = ranges(answer.responses).map(|mut kvs| kvs.pop());
        let (record, status) = (found.next().flatten(), found.next().flatten());
        let Some(record) = record else { return Ok(None) };
        let status = match status {
            Some(kv) => Some(decode_status(kv)?),
            None => None,
        };
        Ok(Some((decode_loop(key, record)?, status)))
    }

    /// Deletes a loop that nobody owns and that leaves no journal to be sealed, at the revisions given.
    /// It only deletes, so a store that is full takes it. False if it has moved or is owned.
    ///
    /// # Errors
    /// Those of the transport; after an unknown outcome read the loop again.
    pub async fn delete_idle_loop(
        &self,
        key: &LoopKey,
        loop_revision: i64,
        status_revision: i64,
    ) -> Result<bool, StoreError> {
        let (spec, status, claim) = (keys::spec(key), keys::status(key), keys::claim(key));
        // An assignment under way compares the status, so one of the two is refused.
        let txn = Txn::new()
            .when([
                Compare::mod_revision(spec.clone(), CompareOp::Equal, loop_revision),
                Compare::mod_revision(status.clone(), CompareOp::Equal, status_revision),
                Compare::create_revision(claim, CompareOp::Equal, 0),
            ])
            .and_then([
                TxnOp::delete(spec, None),
                TxnOp::delete(status, None),
                TxnOp::delete(keys::loop_account(key), None),
            ]);
        Ok(self.etcd.txn(txn).await?.succeeded)
    }

    /// Reads a loop's claim.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn get_claim(
        &self,
        key: &LoopKey,
    ) -> Result<Option<Stored<ClaimRecord>>, StoreError> {
        let found = self.etcd.get(keys::claim(key)).await?;
        found.map(|kv| decode_claim(key, kv)).transpose()
    }
}

/// The transaction that creates a loop, and its cost as a part of a larger one.
fn create(record: &LoopRecord, status: &LoopStatus) -> Result<(Txn, Cost), StoreError> {
    let (spec_key, status_key) = (keys::spec(&record.key), keys::status(&record.key));
    let (spec, status) = (record.encode()?, values::encode_status(status)?);
    let mut cost = Cost::new(2);
    cost.compare(&spec_key).read(&spec_key);
    cost.write(&spec_key, spec.len()).write(&status_key, status.len());
    cost.check(|| format!("loop {}", record.key))?;
    let txn = Txn::new()
        .when([Compare::create_revision(spec_key.clone(), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(spec_key.clone(), spec, None), TxnOp::put(status_key, status, None)])
        .or_else([TxnOp::get(spec_key, None)]);
    Ok((txn, cost))
}

fn created(
    record: &LoopRecord,
    succeeded: bool,
    responses: Vec<PbResponseOp>,
    revision: i64,
) -> Result<CreateLoop, StoreError> {
    if succeeded {
        return Ok(CreateLoop::Created { revision });
    }
    let found = ranges(responses).next().and_then(|mut kvs| kvs.pop());
    let found = found.ok_or_else(|| StoreError::bad_answer("no loop, yet not absent"))?;
    let found = decode_loop(&record.key, found)?;
    if found.value.uid == record.uid {
        return Ok(CreateLoop::Created { revision: found.create_revision });
    }
    Ok(CreateLoop::Exists(found))
}

fn nested_created(
    record: &LoopRecord,
    response: Option<&PbResponseOp>,
    revision: i64,
) -> Result<CreateLoop, StoreError> {
    match response.and_then(|op| op.response.as_ref()) {
        Some(PbTxnOpResponse::ResponseTxn(txn)) => {
            created(record, txn.succeeded, txn.responses.clone(), revision)
        }
        _ => Err(StoreError::bad_answer("a nested transaction is not answered")),
    }
}

/// The outcome of a change that is not based on what is there: a conflict, unless what is there is
/// the very change, made before.
fn not_at_revision(
    record: &LoopRecord,
    found: Option<PbKeyValue>,
) -> Result<Update<Arc<LoopRecord>>, StoreError> {
    let Some(kv) = found else { return Ok(Update::Conflict(None)) };
    let found = decode_loop(&record.key, kv)?;
    if *found.value == *record {
        return Ok(Update::Done { revision: found.mod_revision });
    }
    Ok(Update::Conflict(Some(found)))
}

/// A key-value pair without its value.
pub(crate) fn stored<T>(kv: &PbKeyValue, value: T) -> Stored<T> {
    Stored {
        value,
        mod_revision: kv.mod_revision,
        create_revision: kv.create_revision,
        lease: kv.lease,
    }
}

fn decode_loop(key: &LoopKey, kv: PbKeyValue) -> Result<Stored<Arc<LoopRecord>>, StoreError> {
    let record = LoopRecord::decode(key.clone(), &kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(&kv, Arc::new(record)))
}

fn decode_status(kv: PbKeyValue) -> Result<Stored<Arc<LoopStatus>>, StoreError> {
    let status = values::decode_status(&kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(&kv, Arc::new(status)))
}

fn decode_claim(key: &LoopKey, kv: PbKeyValue) -> Result<Stored<ClaimRecord>, StoreError> {
    let claim = ClaimRecord::decode(key.clone(), &kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(&kv, claim))
}
