//! Writing one record over the one that was read: what nodes, seal duties, roles, bindings and secrets share.

use std::sync::Arc;

use etcd_client::proto::PbKeyValue;
use etcd_client::{Compare, CompareOp, Txn, TxnOp};

use crate::client::ranges;
use crate::error::StoreError;
use crate::loops::Update;
use crate::store::Store;
use crate::values::Stored;

impl Store {
    /// Puts `value`, the encoded `record`, at `key` if it was last changed at `expected_revision` (0: nothing is
    /// there). The same record found there means that an earlier try has done it.
    pub(crate) async fn replace<T: PartialEq>(
        &self,
        key: Vec<u8>,
        value: Vec<u8>,
        record: &T,
        expected_revision: i64,
        decode: impl FnOnce(&PbKeyValue) -> Result<Stored<Arc<T>>, StoreError>,
    ) -> Result<Update<Arc<T>>, StoreError> {
        let txn = Txn::new()
            .when([Compare::mod_revision(key.clone(), CompareOp::Equal, expected_revision)])
            .and_then([TxnOp::put(key.clone(), value, None)])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.etcd.txn(txn).await?;
        if answer.succeeded {
            return Ok(Update::Done { revision: answer.revision });
        }
        let found = ranges(answer.responses).next().and_then(|mut kvs| kvs.pop());
        match found.map(|kv| decode(&kv)).transpose()? {
            Some(found) if *found.value == *record => {
                Ok(Update::Done { revision: found.mod_revision })
            }
            found => Ok(Update::Conflict(found)),
        }
    }
}
